// Warnings of a job: reasons to check its count before relying on it.

import { formatNumber, h, isolate, plural, section } from './dom.js';

/** Descriptions by code, as functions of the count. */
const DESCRIPTIONS = new Map(Object.entries({
  no_text_found: (count) => count === 1 ? 'No words were found' : `${formatNumber(count)} documents have no words`,
  script_only_page: (count) => `The page has hardly any words, but ${plural(count, 'script')}. JavaScript probably creates its text, and is not run`,
  hidden_text_present: (count) => `Hidden text was not counted: ${plural(count, 'character')} without spaces`,
  unclosed_hidden_element: (count) => `${plural(count, 'hidden element has', 'hidden elements have')} no end tag, so text was not counted`,
  charset_guessed: (count) => count === 1 ? 'The charset was guessed' : `The charset of ${formatNumber(count)} documents was guessed`,
  charset_contradicted: (count) => `The charset may be wrong: ${plural(count, 'part contradicts', 'parts contradict')} it`,
  nesting_too_deep: (count) => `${plural(count, 'element is', 'elements are')} nested too deeply`,
  mixed_versions: (count) => `${plural(count, 'member was', 'members were')} counted by an older version than others`,
}));
/** Descriptions of a single document without words, by its `where`. */
const NO_TEXT_FOUND = new Map([['main', 'The main content has no words'], ['options', 'The options exclude all words']]);

/** Creates the section of warnings. Returns `null` if there are none. */
export function warningSection(job) {
  const warnings = job.warnings ?? [];
  if (warnings.length === 0) return null;
  const item = (warning) => h('li', null, describe(warning), '. ', h('code', null, warning.code));
  return section('Warnings', h('ul', { class: 'warnings' }, warnings.map(item)));
}

function describe({ code, count, where }) {
  if (code === 'no_text_found' && count === 1 && NO_TEXT_FOUND.has(where)) return NO_TEXT_FOUND.get(where);
  const description = DESCRIPTIONS.get(code)?.(count) ?? `This version of the UI does not know this warning, which occurred ${plural(count, 'time')}`;
  return where ? [description, ' (', isolate(where), ')'] : description;
}
