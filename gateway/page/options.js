// Form fields for the options of counting, and the names and descriptions of the rules.

import { h } from './dom.js';

/** Label and description of every rule, in the order of the documentation. */
export const RULES = {
  unicode: ['Unicode', 'words as readers see them; Japanese, Chinese and Thai are split with dictionaries'],
  whitespace: ['White space', 'text between white space, as wc -w counts'],
  office: ['Office', 'like White space, but each Chinese or Japanese character is a word'],
  gmx: ['GMX', 'translation volume (GMX-V); characters of some languages are divided by a factor'],
};

const CASES = { lower: 'Lower case', fold: 'Case folding: ß becomes ss', keep: 'As written' };
const SCOPES = { page: 'Whole page', main: 'Main content only' };

function select(id, label, choices) {
  const options = Object.entries(choices).map(([value, text]) => h('option', { value }, text));
  return h('div', { class: 'field' }, h('label', { for: id }, label), h('select', { id }, options));
}

export function optionFields() {
  const rules = Object.fromEntries(Object.entries(RULES).map(([name, [label]]) => [name, label]));
  return h('div', { class: 'options' },
    select('rule', 'Counting rule', rules),
    select('case', 'Letter case', CASES),
    select('scope', 'Scope', SCOPES),
    h('div', { class: 'field' }, h('label', { for: 'language' }, 'Language'),
      h('input', { id: 'language', autocomplete: 'off', spellcheck: 'false', placeholder: 'from the page', size: '12', 'aria-describedby': 'language-note' }),
      h('p', { class: 'note', id: 'language-note' }, 'For example ja or zh. Used by GMX.')),
    h('label', { class: 'check' }, h('input', { type: 'checkbox', id: 'explain', checked: true }), 'Record why the rules differ'));
}

/** Returns the options that differ from the defaults of the service. */
export function chosenOptions(fields) {
  const value = (id) => fields.querySelector(`#${id}`).value.trim();
  const options = {};
  if (value('rule') !== 'unicode') options.rule = value('rule');
  if (value('case') !== 'lower') options.case = value('case');
  if (value('scope') !== 'page') options.scope = value('scope');
  if (value('language')) options.language = value('language');
  if (fields.querySelector('#explain').checked) options.explain = true;
  return options;
}
