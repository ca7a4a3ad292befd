// Begins here: which view belongs to which address, who is signed in, and where the focus goes.
// Addresses are `#/jobs/<id>` and the like, so that the gateway serves one page and the back button works.

import { key, onSignedOut, problemOf, signOut } from './api.js';
import { announce, title, trouble } from './dom.js';
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

/** Names the page, in the window's title too. */
function entitle(text) {
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
  mark(path);
  signOutButton.hidden = !key();
  announce('');
  Promise.resolve()
    .then(() => view({ root, signal, id: found[1] && decodeURIComponent(found[1]), query: new URLSearchParams(query), entitle }))
    .catch((error) => {
      const problem = problemOf(error);
      if (problem && problem.status !== 401 && !signal.aborted) root.append(trouble(problem, () => show(location.hash)));
    });
  focus(root);
}

/** After a change of view the heading is where reading goes on; when the page opens, its beginning is. */
function focus(root) {
  if (isFirst) {
    isFirst = false;
    return;
  }
  scrollTo(0, 0);
  queueMicrotask(() => (root.querySelector('h1') ?? main).focus({ preventScroll: true }));
}

function mark(path) {
  for (const link of document.querySelectorAll('.head nav a')) {
    const target = link.getAttribute('href').replace(/^#/, '');
    const isHere = target === '/' ? /^\/?$/.test(path) : target !== '/docs' && path.startsWith(target);
    if (isHere) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

function missing({ root }) {
  entitle('Nothing here');
  root.append(title('Nothing here'), document.createTextNode('This page has no such address.'));
}

onSignedOut((problem) => {
  // A view may have asked several things at once.
  if (main.querySelector('#key')) return;
  leaving.abort();
  leaving = new AbortController();
  const wasWrong = key() !== null;
  signOut();
  signOutButton.hidden = true;
  entitle('Sign in');
  main.replaceChildren(signInForm(wasWrong ? problem : null, () => show(location.hash)));
  main.querySelector(wasWrong ? '#key' : 'h1').focus();
});

signOutButton.addEventListener('click', () => {
  signOut();
  // What was on the page belonged to the key.
  location.hash = '#/';
  location.reload();
});

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

addEventListener('hashchange', () => show(location.hash));
show(location.hash);
