// Entry point: selects the view for the address, signs in and out, and moves the focus.
// Addresses are fragments such as `#/jobs/<id>`, so that the gateway serves a single page and the
// back button works.

import { key, onSignedOut, problemOf, signOut } from './api.js';
import { announce, title, problemAlert } from './dom.js';
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
let leaving = new AbortController();
let isFirst = true;

/** Sets the title of the window. */
function setWindowTitle(text) {
  document.title = text ? `${text} – Wordmill` : 'Wordmill';
}

function show(address) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, query] = address.replace(/^#/, '').split('?');
  const [pattern, view] = VIEWS.find(([pattern]) => pattern.test(path)) ?? [/^/, missing];
  const found = pattern.exec(path);
  const root = document.createElement('div');
  root.className = 'view';
  main.replaceChildren(root);
  markCurrentLink(path);
  signOutButton.hidden = !key();
  announce('');
  Promise.resolve()
    .then(() => view({ root, signal, id: found[1] && decodeURIComponent(found[1]), query: new URLSearchParams(query), setWindowTitle }))
    .catch((error) => {
      const problem = problemOf(error);
      if (problem && problem.status !== 401 && !signal.aborted) root.append(problemAlert(problem, () => show(location.hash)));
    });
  focus(root);
}

/** Moves the focus to the heading after a change of the view, but not when the page is loaded. */
function focus(root) {
  if (isFirst) {
    isFirst = false;
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

function missing({ root }) {
  setWindowTitle('Not found');
  root.append(title('Not found'), document.createTextNode('There is no page at this address.'));
}

onSignedOut((problem) => {
  // Several requests of a view may be refused at the same time.
  if (main.querySelector('#key')) return;
  leaving.abort();
  leaving = new AbortController();
  const wasWrong = key() !== null;
  signOut();
  signOutButton.hidden = true;
  setWindowTitle('Sign in');
  main.replaceChildren(signInForm(wasWrong ? problem : null, () => show(location.hash)));
  main.querySelector(wasWrong ? '#key' : 'h1').focus();
});

signOutButton.addEventListener('click', () => {
  signOut();
  // Reloads the page, because its content belongs to the owner of the key.
  location.hash = '#/';
  location.reload();
});

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

addEventListener('hashchange', () => show(location.hash));
show(location.hash);
