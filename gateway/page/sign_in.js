// Form for the API key, shown if the service requires one.

import { ask, problemOf, signIn, signOut } from './api.js';
import { h, title, problemAlert } from './dom.js';

/** Returns the form. `done` is called after the service has accepted the key. */
export function signInForm(problem, done) {
  const input = h('input', { id: 'key', name: 'key', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, 'aria-describedby': 'key-note' });
  const place = h('div', null, problem && problemAlert(problem));
  const submit = async (event) => {
    event.preventDefault();
    signIn(input.value.trim());
    try {
      await ask('GET', '/v1/jobs?limit=1');
      done();
    } catch (error) {
      const wrong = problemOf(error);
      if (!wrong) return;
      signOut();
      place.replaceChildren(problemAlert(wrong));
      input.select();
    }
  };
  return h('div', { class: 'view narrow' }, title('Sign in'),
    h('p', null, 'This service requires an API key. Its operator can give you one.'),
    h('form', { onsubmit: submit },
      h('label', { for: 'key' }, 'API key'),
      input,
      h('p', { class: 'note', id: 'key-note' }, 'The key is stored in this tab only, sent to this service only, and removed when you close the tab or sign out.'),
      place,
      h('button', { class: 'primary' }, 'Sign in')));
}
