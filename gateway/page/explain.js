// Explains why two rules count differently: reasons, tokens, and samples from the document.

import { requestJson, toProblem } from './api.js';
import { isBatch } from './batch.js';
import { formatBytes, formatNumber, formatSigned, h, isolate, plural, problemAlert, section } from './dom.js';
import { languageOf } from './jobs.js';
import { RULES } from './options.js';

const REASONS = {
  no_letter_or_digit: 'tokens without a letter or digit: only rules that split at white space count them',
  written_without_spaces: 'text in a script without spaces between words',
  characters_divided: 'scripts for which GMX divides the number of characters by a factor',
  signs_inside: 'hyphens, slashes and other punctuation inside a token, at which some rules split',
};
const DROPPED = { hidden: 'hidden parts', replaced: 'the title, form fields, and fallback content of media and scripts' };
/** Number of tokens that are shown before the button for all is pressed. */
const FIRST_TOKENS = 12;

/** Creates the section that compares any two rules. */
export function explanationSection(job, signal) {
  const totals = job.totals_by_rule ?? {};
  const names = Object.keys(RULES).filter((name) => name in totals);
  if (isBatch(job)) {
    return section('Why the rules differ', h('p', null, 'Not available for a batch. Open one of its members.'));
  }
  if (!job.options.explain) {
    const areEqual = new Set(Object.values(totals)).size <= 1;
    return section('Why the rules differ', h('p', null, areEqual ? 'All four rules give the same count.' : 'Not recorded for this job. Submit it again with the option “Record why the rules differ”.'));
  }
  const own = job.rule?.name ?? job.options.rule;
  const mostDifferent = names.reduce((best, name) => Math.abs(totals[name] - totals[own]) > Math.abs(totals[best] - totals[own]) ? name : best, names.find((name) => name !== own));
  const ruleSelect = (id, label, selected) => [h('label', { for: id, class: 'unseen' }, label),
    h('select', { id }, names.map((name) => h('option', { value: name, selected: name === selected }, RULES[name][0])))];
  const left = ruleSelect('left', 'First rule', own);
  const right = ruleSelect('right', 'Second rule', mostDifferent);
  const place = h('div', { 'aria-live': 'polite' });
  const load = async () => {
    const pair = [left[1].value, right[1].value];
    if (pair[0] === pair[1]) {
      place.replaceChildren(h('p', { class: 'note' }, 'Choose two different rules.'));
      return;
    }
    try {
      const explanation = await requestJson('GET', `/v1/jobs/${job.job_id}/explain?rules=${pair}`, { signal });
      // The user may have selected other rules meanwhile.
      if (`${pair}` === `${left[1].value},${right[1].value}`) place.replaceChildren(...explanationParts(explanation, languageOf(job)));
    } catch (error) {
      const problem = toProblem(error);
      if (problem) place.replaceChildren(problemAlert(problem, load));
    }
  };
  left[1].addEventListener('change', load);
  right[1].addEventListener('change', load);
  load();
  return section('Why the rules differ', h('p', { class: 'pair' }, left, ' and ', right), place);
}

function explanationParts(explanation, language) {
  const [left, right] = explanation.rules;
  const { difference, tokens } = explanation;
  const label = (rule) => RULES[rule]?.[0] ?? rule;
  const sentence = difference === 0
    ? `${label(left)} and ${label(right)} give the same total`
    : `${label(right)} counts ${plural(Math.abs(difference), 'word')} ${difference > 0 ? 'more' : 'fewer'} than ${label(left)}`;
  const parts = [h('p', { class: 'sentence' }, sentence, difference === 0 && tokens.length > 0 ? ', although some tokens are counted differently: the differences below cancel out.' : '.')];
  const sums = new Map();
  for (const token of tokens) sums.set(token.reason, (sums.get(token.reason) ?? 0) + tokenDifference(token, left, right));
  if (sums.size > 0) {
    parts.push(h('ul', { class: 'reasons' }, [...sums].map(([reason, sum]) => h('li', null,
      h('span', { class: 'sum' }, formatSigned(roundToTenth(sum))), ' ', REASONS[reason] ?? reason))));
  }
  const rest = difference - explanation.listed_difference;
  if (Math.abs(rest) >= 0.5) parts.push(h('p', { class: 'note' }, `A difference of ${formatSigned(roundToTenth(rest))} comes from less frequent tokens, which are not listed, or from rounding up.`));
  if (tokens.length > 0) parts.push(...tokenTable(tokens, left, right, language));
  const dropped = Object.entries(explanation.dropped_bytes).filter(([, size]) => size > 0);
  if (dropped.length > 0) {
    parts.push(h('p', { class: 'note' }, 'Not counted: ',
      dropped.map(([kind, size]) => `${DROPPED[kind] ?? kind} (${formatBytes(size)})`).join(', '), '.'));
  }
  return parts;
}

function tokenDifference(token, left, right) {
  return ((token.words[right] ?? 0) - (token.words[left] ?? 0)) * token.count;
}

function roundToTenth(value) {
  return Math.round(value * 10) / 10;
}

function tokenTable(tokens, left, right, language) {
  const rows = (token) => [
    h('tr', null,
      h('th', { scope: 'row' }, isolate(token.token, language)),
      h('td', { class: 'number' }, `×${formatNumber(token.count)}`),
      h('td', { class: 'number' }, formatNumber(roundToTenth(token.words[left] ?? 0))),
      h('td', { class: 'number' }, formatNumber(roundToTenth(token.words[right] ?? 0))),
      h('td', { class: 'number' }, formatSigned(roundToTenth(tokenDifference(token, left, right))))),
    ...contextRow(token, language),
  ];
  const head = [['Token'], ['Count', 1], [RULES[left]?.[0] ?? left, 1], [RULES[right]?.[0] ?? right, 1], ['Difference', 1]];
  const body = h('tbody', null, tokens.slice(0, FIRST_TOKENS).flatMap(rows));
  const table = h('table', { class: 'tokens' }, h('caption', { class: 'unseen' }, 'Tokens that are counted differently'),
    h('thead', null, h('tr', null, head.map(([text, isNumber]) => h('th', { scope: 'col', class: isNumber ? 'number' : null }, text)))), body);
  if (tokens.length <= FIRST_TOKENS) return [table];
  const more = h('button', { type: 'button', onclick: () => {
    body.append(...tokens.slice(FIRST_TOKENS).flatMap(rows));
    more.remove();
  } }, `${plural(tokens.length - FIRST_TOKENS, 'more token')}`);
  return [table, more];
}

/** Creates a row that shows the token in the context of its first sample. */
function contextRow(token, language) {
  const [sample] = token.samples;
  if (!sample || (!sample.before && !sample.after)) return [];
  const text = h('span', { dir: 'auto', lang: language || null }, sample.before, h('mark', null, token.token), sample.after);
  return [h('tr', { class: 'context' }, h('td', { colspan: '5' }, text))];
}
