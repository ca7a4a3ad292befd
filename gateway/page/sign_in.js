// Form for the API key. It is shown if the service requires one.

import { requestJson, signIn, signOut, toProblem } from './api.js';
import { h, problemAlert, title } from './dom.js';

/** Creates the form. Calls `onSignedIn` once the service has accepted the key. */
export function signInForm(problem, onSignedIn) {
  const input = h('input', { id: 'key', name: 'key', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, 'aria-describedby': 'key-note' });
  const place = h('div', null, problem && problemAlert(problem));
  const submit = async (event) => {
    event.preventDefault();
    signIn(input.value.trim());
    try {
      await requestJson('GET', '/v1/jobs?limit=1');
      onSignedIn();
    } catch (error) {
      const refusal = toProblem(error);
      if (!refusal) return;
      signOut();
      place.replaceChildren(problemAlert(refusal));
      input.select();
    }
  };
  return h('div', { class: 'view narrow' }, title('Sign in'),
    h('p', null, 'This service requires an API key. Ask its operator for one.'),
    h('form', { onsubmit: submit },
      h('label', { for: 'key' }, 'API key'),
      input,
      h('p', { class: 'note', id: 'key-note' }, 'The key is stored in this tab only, sent to this service only, and removed when you close the tab or sign out.'),
      place,
      h('button', { class: 'primary' }, 'Sign in')));
}
