// Result of a job: total, totals by every rule, most frequent words, all words, and details.

import { bytes, duration, entry, isolate, h, number, plural, section, signed, time } from './dom.js';
import { differences } from './explain.js';
import { isBatch, memberSection } from './batch.js';
import { languageOf } from './jobs.js';
import { RULES } from './options.js';
import { wordTable } from './words.js';

const CHARSET_FROM = {
  bom: 'from the byte order mark', header: 'from the HTTP header', meta: 'from a meta element', xml: 'from the XML declaration',
  detected: 'detected', default: 'by default',
};

export function result(job, body, signal) {
  const { totals } = job;
  const language = languageOf(job);
  body.append(
    h('p', { class: 'total' }, h('span', { class: 'figure' }, number(totals.words)), ' ', totals.words === 1 ? 'word' : 'words'),
    h('p', { class: 'lead' }, `${describeUniqueWords(totals)}; ${plural(totals.characters, 'character')} (${number(totals.characters_no_spaces)} without spaces).`,
      totals.overlong_words > 0 && ` ${plural(totals.overlong_words, 'word is', 'words are')} too long to be listed.`),
    ...(isBatch(job) ? [memberSection(job)] : []),
    section('Words by rule', byRule(job), scopes(job)),
    differences(job, signal),
    ...(job.top_words?.length > 0 ? [section('Most frequent words', chart(job.top_words, language))] : []),
    ...(totals.unique_words > 0 ? [section('All words', wordTable(job, language, signal))] : []),
    jobDetails(job),
  );
}

function describeUniqueWords({ words, unique_words }) {
  if (words === unique_words) return words === 1 ? 'A single word' : 'All words different';
  return `${plural(unique_words, 'different word')}`;
}

/** Compares the totals of all rules with that of the rule of this job. */
function byRule(job) {
  const all = job.totals_by_rule ?? {};
  const own = job.rule?.name ?? job.options.rule;
  const most = Math.max(1, ...Object.values(all));
  const row = (name) => {
    const [label, meaning] = RULES[name] ?? [name, ''];
    const isOwn = name === own;
    return h('tr', { class: isOwn ? 'own' : null },
      h('th', { scope: 'row' }, label, h('span', { class: 'note' }, meaning)),
      h('td', { class: 'number' }, number(all[name])),
      h('td', { class: 'number note' }, isOwn ? 'selected' : signed(all[name] - all[own])),
      h('td', { class: 'bar', 'aria-hidden': 'true' }, bar(all[name] / most)));
  };
  const names = Object.keys(RULES).filter((name) => name in all);
  return h('table', { class: 'rules' }, h('caption', { class: 'unseen' }, 'Words by rule'),
    h('thead', { class: 'unseen' }, h('tr', null, ['Rule', 'Words', 'Difference', ''].map((text) => text ? h('th', { scope: 'col' }, text) : h('td', null)))),
    h('tbody', null, names.map(row)));
}

function scopes(job) {
  const scopes = job.totals_by_scope;
  if (!scopes || scopes.page === undefined || scopes.main === undefined) return null;
  // Only HTML pages have text outside the main article.
  if (!/html/.test(job.source.content_type ?? '')) return null;
  const same = scopes.page === scopes.main;
  const counted = job.options.scope === 'main' ? 'This job counts the main article only.' : 'This job counts the whole page.';
  return h('p', { class: 'scopes' }, same
    ? `The whole page and its main article both have ${plural(scopes.page, 'word')}.`
    : `The whole page has ${plural(scopes.page, 'word')}, its main article ${number(scopes.main)}. ${counted}`);
}

function bar(part) {
  const element = h('span');
  element.style.inlineSize = `${(part * 100).toFixed(2)}%`;
  return element;
}

function chart(words, language) {
  const most = Math.max(...words.map((word) => word.count));
  return h('table', { class: 'chart' }, h('caption', { class: 'unseen' }, 'Most frequent words'),
    h('thead', { class: 'unseen' }, h('tr', null, h('th', { scope: 'col' }, 'Word'), h('th', { scope: 'col' }, 'Count'), h('td', null))),
    h('tbody', null, words.map(({ word, count }) => h('tr', null,
      h('th', { scope: 'row' }, isolate(word, language)),
      h('td', { class: 'number' }, number(count)),
      h('td', { class: 'bar', 'aria-hidden': 'true' }, bar(count / most))))));
}

/** Lists the details of a job: everything that is needed to verify or repeat the count. */
export function jobDetails(job) {
  const { source, rule } = job;
  const took = job.started_at && job.finished_at && duration(new Date(job.finished_at) - new Date(job.started_at));
  const worker = job.attempts.at(-1)?.worker;
  const labels = Object.entries(job.labels ?? {}).map(([name, value]) => `${name}: ${value}`).join(', ');
  const changed = Object.entries(job.options).filter(([name, value]) => name !== 'explain' && value !== { rule: 'unicode', case: 'lower', scope: 'page' }[name]);
  return section('Details', h('dl', { class: 'details' },
    entry('URL', source.url && isolate(source.url)),
    entry('Final URL', source.final_url && source.final_url !== source.url && isolate(source.final_url)),
    entry('File', source.file_name && isolate(source.file_name)),
    entry('Content type', source.content_type && isolate(source.content_type)),
    entry('Extractor', source.extractor && `${source.extractor.name}, version ${source.extractor.version}`),
    entry('Encoding', source.charset && `${source.charset}${CHARSET_FROM[source.charset_from] ? `, ${CHARSET_FROM[source.charset_from]}` : ''}`),
    entry('Size', source.size_bytes !== undefined && source.size_bytes !== null && bytes(source.size_bytes)),
    entry('SHA-256', source.sha256 && h('code', { class: 'digest' }, source.sha256)),
    entry('Rule', rule && `${RULES[rule.name]?.[0] ?? rule.name}, version ${rule.version}; Unicode ${rule.unicode}`),
    entry('Options', changed.length > 0 && changed.map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(' ') : value}`).join(', ')),
    entry('Labels', labels && isolate(labels)),
    entry('Created', time(job.created_at)),
    entry('Finished', job.finished_at && time(job.finished_at), took && `, ${took} after the start`, worker && [', by ', isolate(worker)]),
    entry('Kept until', job.expires_at && time(job.expires_at)),
    entry('Job id', h('code', { class: 'digest' }, job.job_id)),
    entry('Part of', job.batch && h('a', { href: `#/jobs/${job.batch}` }, 'a batch')),
    entry('Retry of', job.retry_of && h('a', { href: `#/jobs/${job.retry_of}` }, job.retry_of)),
    entry('Trace id', job.trace_id && h('code', { class: 'digest' }, job.trace_id))));
}
