// Entry point: selects the view for the address, signs in and out, and moves the focus. Addresses
// are fragments such as `#/jobs/<id>`, so that the gateway serves a single HTML page, and that
// bookmarks and the back button work.

import { apiKey, onUnauthorized, signOut, toProblem } from './api.js';
import { announce, problemAlert, title } from './dom.js';
import { compose } from './compose.js';
import { deadLetters } from './dead_letters.js';
import { job } from './job.js';
import { jobs } from './jobs.js';
import { queue } from './queue.js';
import { signInForm } from './sign_in.js';

const VIEWS = [
  [/^\/?$/, compose],
  [/^\/jobs$/, jobs],
  [/^\/jobs\/([^/]+)$/, job],
  [/^\/queue$/, queue],
  [/^\/dead-letters$/, deadLetters],
];

const main = document.getElementById('main');
const signOutButton = document.getElementById('sign-out');
let navigationAbort = new AbortController();
let isFirstView = true;

function setWindowTitle(text) {
  document.title = text ? `${text} – Wordmill` : 'Wordmill';
}

function showView(address) {
  navigationAbort.abort();
  navigationAbort = new AbortController();
  const { signal } = navigationAbort;
  const [path, query] = address.replace(/^#/, '').split('?');
  const [pattern, view] = VIEWS.find(([pattern]) => pattern.test(path)) ?? [/^/, showNotFound];
  const match = pattern.exec(path);
  const root = document.createElement('div');
  root.className = 'view';
  main.replaceChildren(root);
  markCurrentLink(path);
  signOutButton.hidden = !apiKey();
  announce('');
  Promise.resolve()
    .then(() => view({ root, signal, id: match[1] && decodeURIComponent(match[1]), query: new URLSearchParams(query), setWindowTitle }))
    .catch((error) => {
      const problem = toProblem(error);
      if (problem && problem.status !== 401 && !signal.aborted) root.append(problemAlert(problem, () => showView(location.hash)));
    });
  focusHeading(root);
}

/** Moves the focus to the heading of a new view, but not when the page has just been loaded. */
function focusHeading(root) {
  if (isFirstView) {
    isFirstView = false;
    return;
  }
  scrollTo(0, 0);
  queueMicrotask(() => (root.querySelector('h1') ?? main).focus({ preventScroll: true }));
}

function markCurrentLink(path) {
  for (const link of document.querySelectorAll('.head nav a')) {
    const target = link.getAttribute('href').replace(/^#/, '');
    const isCurrent = target === '/' ? /^\/?$/.test(path) : target !== '/docs' && path.startsWith(target);
    if (isCurrent) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

function showNotFound({ root }) {
  setWindowTitle('Not found');
  root.append(title('Not found'), document.createTextNode('This page does not exist.'));
}

onUnauthorized((problem) => {
  // Several requests of a view can get status 401. The first one has shown the form.
  if (main.querySelector('#key')) return;
  navigationAbort.abort();
  navigationAbort = new AbortController();
  const hadKey = apiKey() !== null;
  signOut();
  signOutButton.hidden = true;
  setWindowTitle('Sign in');
  main.replaceChildren(signInForm(hadKey ? problem : null, () => showView(location.hash)));
  main.querySelector(hadKey ? '#key' : 'h1').focus();
});

signOutButton.addEventListener('click', () => {
  signOut();
  // Reloads the page, because it still contains data of the key's owner.
  location.hash = '#/';
  location.reload();
});

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

addEventListener('hashchange', () => showView(location.hash));
showView(location.hash);
