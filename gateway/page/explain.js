// Why two rules count differently: tokens, reasons, and samples from the document.

import { ask, problemOf } from './api.js';
import { isBatch } from './batch.js';
import { bytes, isolate, h, number, plural, section, signed, problemAlert } from './dom.js';
import { languageOf } from './jobs.js';
import { RULES } from './options.js';

const REASONS = {
  no_letter_or_digit: 'characters without a letter or digit, which are words only for rules that split at spaces',
  written_without_spaces: 'a script written without spaces between words',
  characters_divided: 'a number of characters that is divided by a factor',
  signs_inside: 'hyphens, slashes and other signs inside, at which some rules split',
};
const DROPPED = { hidden: 'hidden parts', replaced: 'the title, form fields, and alternatives to media and scripts' };
/** Number of tokens that are shown at first. */
const FIRST = 12;

/** Creates the section that compares any two rules. */
export function differences(job, signal) {
  const all = job.totals_by_rule ?? {};
  const names = Object.keys(RULES).filter((name) => name in all);
  if (isBatch(job)) {
    return section('Why they differ', h('p', null, 'Not available for a batch. Open the job of a single page.'));
  }
  if (!job.options.explain) {
    const areEqual = new Set(Object.values(all)).size <= 1;
    return section('Why they differ', h('p', null, areEqual ? 'All four rules count the same here.' : 'Not recorded for this job. Count again with the option “Record why the rules differ”.'));
  }
  const own = job.rule?.name ?? job.options.rule;
  const mostDifferent = names.reduce((best, name) => Math.abs(all[name] - all[own]) > Math.abs(all[best] - all[own]) ? name : best, names.find((name) => name !== own));
  const pick = (id, label, selected) => [h('label', { for: id, class: 'unseen' }, label),
    h('select', { id }, names.map((name) => h('option', { value: name, selected: name === selected }, RULES[name][0])))];
  const left = pick('left', 'First rule', own);
  const right = pick('right', 'Second rule', mostDifferent);
  const place = h('div', { 'aria-live': 'polite' });
  const load = async () => {
    const pair = [left[1].value, right[1].value];
    if (pair[0] === pair[1]) {
      place.replaceChildren(h('p', { class: 'note' }, 'Choose two different rules.'));
      return;
    }
    try {
      const explanation = await ask('GET', `/v1/jobs/${job.job_id}/explain?rules=${pair}`, { signal });
      // The user may have selected other rules meanwhile.
      if (`${pair}` === `${left[1].value},${right[1].value}`) place.replaceChildren(...explanationParts(explanation, languageOf(job)));
    } catch (error) {
      const problem = problemOf(error);
      if (problem) place.replaceChildren(problemAlert(problem, load));
    }
  };
  left[1].addEventListener('change', load);
  right[1].addEventListener('change', load);
  load();
  return section('Why they differ', h('p', { class: 'pair' }, left, ' and ', right), place);
}

function explanationParts(explanation, language) {
  const [left, right] = explanation.rules;
  const { difference, tokens } = explanation;
  const label = (rule) => RULES[rule]?.[0] ?? rule;
  const sentence = difference === 0
    ? `${label(left)} and ${label(right)} count the same`
    : `${label(right)} counts ${plural(Math.abs(difference), 'word')} ${difference > 0 ? 'more' : 'fewer'} than ${label(left)}`;
  const parts = [h('p', { class: 'sentence' }, sentence, difference === 0 && tokens.length > 0 ? ' in total, but not the same words: the differences below cancel each other out.' : '.')];
  const sums = new Map();
  for (const token of tokens) sums.set(token.reason, (sums.get(token.reason) ?? 0) + change(token, left, right));
  if (sums.size > 0) {
    parts.push(h('ul', { class: 'reasons' }, [...sums].map(([reason, sum]) => h('li', null,
      h('span', { class: 'sum' }, signed(rounded(sum))), ' ', REASONS[reason] ?? reason))));
  }
  const rest = difference - explanation.listed_difference;
  if (Math.abs(rest) >= 0.5) parts.push(h('p', { class: 'note' }, `${signed(rounded(rest))} come from rarer tokens, which are not listed, or from rounding up.`));
  if (tokens.length > 0) parts.push(...tokenTable(tokens, left, right, language));
  const dropped = Object.entries(explanation.dropped_bytes).filter(([, size]) => size > 0);
  if (dropped.length > 0) {
    parts.push(h('p', { class: 'note' }, 'Parts of the page that no rule counts: ',
      dropped.map(([kind, size]) => `${DROPPED[kind] ?? kind} (${bytes(size)})`).join(', '), '.'));
  }
  return parts;
}

function change(token, left, right) {
  return ((token.words[right] ?? 0) - (token.words[left] ?? 0)) * token.count;
}

function rounded(value) {
  return Math.round(value * 10) / 10;
}

function tokenTable(tokens, left, right, language) {
  const rows = (token) => [
    h('tr', null,
      h('th', { scope: 'row' }, isolate(token.token, language)),
      h('td', { class: 'number' }, `×${number(token.count)}`),
      h('td', { class: 'number' }, number(rounded(token.words[left] ?? 0))),
      h('td', { class: 'number' }, number(rounded(token.words[right] ?? 0))),
      h('td', { class: 'number' }, signed(rounded(change(token, left, right))))),
    ...context(token, language),
  ];
  const head = [['Token'], ['Occurs', 1], [RULES[left]?.[0] ?? left, 1], [RULES[right]?.[0] ?? right, 1], ['Difference', 1]];
  const body = h('tbody', null, tokens.slice(0, FIRST).flatMap(rows));
  const table = h('table', { class: 'tokens' }, h('caption', { class: 'unseen' }, 'Tokens that are counted differently'),
    h('thead', null, h('tr', null, head.map(([text, isNumber]) => h('th', { scope: 'col', class: isNumber ? 'number' : null }, text)))), body);
  if (tokens.length <= FIRST) return [table];
  const more = h('button', { type: 'button', onclick: () => {
    body.append(...tokens.slice(FIRST).flatMap(rows));
    more.remove();
  } }, `${plural(tokens.length - FIRST, 'more token')}`);
  return [table, more];
}

/** Creates a row with the first sample of a token in its context. */
function context(token, language) {
  const [sample] = token.samples;
  if (!sample || (!sample.before && !sample.after)) return [];
  const text = h('span', { dir: 'auto', lang: language || null }, sample.before, h('mark', null, token.token), sample.after);
  return [h('tr', { class: 'context' }, h('td', { colspan: '5' }, text))];
}
