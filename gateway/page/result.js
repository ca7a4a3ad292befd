// Result of a job: its totals by every rule, its words, and its details.

import { entry, formatBytes, formatDuration, formatNumber, formatSigned, h, isolate, plural, section, timeElement } from './dom.js';
import { explanationSection } from './explain.js';
import { isBatch, memberSection } from './batch.js';
import { languageOf } from './jobs.js';
import { RULES } from './options.js';
import { warningSection } from './warnings.js';
import { wordTable } from './words.js';

const CHARSET_FROM = {
  bom: 'from the byte order mark', header: 'from the HTTP header', meta: 'from a meta element', xml: 'from the XML declaration',
  detected: 'detected', default: 'by default',
};

export function showResult(job, body, signal) {
  const { totals } = job;
  const language = languageOf(job);
  body.append(
    h('p', { class: 'total' }, h('span', { class: 'figure' }, formatNumber(totals.words)), ' ', totals.words === 1 ? 'word' : 'words'),
    h('p', { class: 'lead' }, `${plural(totals.unique_words, 'unique word')}; ${plural(totals.characters, 'character')} (${formatNumber(totals.characters_no_spaces)} without spaces).`,
      totals.overlong_words > 0 && ` ${plural(totals.overlong_words, 'word is', 'words are')} too long to be listed.`),
    ...[warningSection(job)].filter(Boolean),
    ...(isBatch(job) ? [memberSection(job)] : []),
    section('Words by rule', ruleTable(job), scopeComparison(job)),
    explanationSection(job, signal),
    ...(job.top_words?.length > 0 ? [section('Most frequent words', wordChart(job.top_words, language))] : []),
    ...(totals.unique_words > 0 ? [section('All words', wordTable(job, language, signal))] : []),
    jobDetails(job),
  );
}

/** Compares the totals of all rules with the total of the job's rule. */
function ruleTable(job) {
  const all = job.totals_by_rule ?? {};
  const own = job.rule?.name ?? job.options.rule;
  const max = Math.max(1, ...Object.values(all));
  const row = (name) => {
    const [label, meaning] = RULES[name] ?? [name, ''];
    const isOwn = name === own;
    return h('tr', { class: isOwn ? 'own' : null },
      h('th', { scope: 'row' }, label, h('span', { class: 'note' }, meaning)),
      h('td', { class: 'number' }, formatNumber(all[name])),
      h('td', { class: 'number note' }, isOwn ? 'selected' : formatSigned(all[name] - all[own])),
      h('td', { class: 'bar', 'aria-hidden': 'true' }, barElement(all[name] / max)));
  };
  const names = Object.keys(RULES).filter((name) => name in all);
  return h('table', { class: 'rules' }, h('caption', { class: 'unseen' }, 'Words by rule'),
    h('thead', { class: 'unseen' }, h('tr', null, ['Rule', 'Words', 'Difference', ''].map((text) => text ? h('th', { scope: 'col' }, text) : h('td', null)))),
    h('tbody', null, names.map(row)));
}

function scopeComparison(job) {
  const scopes = job.totals_by_scope;
  if (!scopes || scopes.page === undefined || scopes.main === undefined) return null;
  // Only HTML has text outside the main content.
  if (!/html/.test(job.source.content_type ?? '')) return null;
  const areEqual = scopes.page === scopes.main;
  const counted = job.options.scope === 'main' ? 'This job counted only the main content.' : 'This job counted the whole page.';
  return h('p', { class: 'scopes' }, areEqual
    ? `The whole page and its main content both have ${plural(scopes.page, 'word')}.`
    : `The whole page has ${plural(scopes.page, 'word')}, its main content ${formatNumber(scopes.main)}. ${counted}`);
}

function barElement(part) {
  const element = h('span');
  element.style.inlineSize = `${(part * 100).toFixed(2)}%`;
  return element;
}

function wordChart(words, language) {
  const max = Math.max(...words.map((word) => word.count));
  return h('table', { class: 'chart' }, h('caption', { class: 'unseen' }, 'Most frequent words'),
    h('thead', { class: 'unseen' }, h('tr', null, h('th', { scope: 'col' }, 'Word'), h('th', { scope: 'col' }, 'Count'), h('td', null))),
    h('tbody', null, words.map(({ word, count }) => h('tr', null,
      h('th', { scope: 'row' }, isolate(word, language)),
      h('td', { class: 'number' }, formatNumber(count)),
      h('td', { class: 'bar', 'aria-hidden': 'true' }, barElement(count / max))))));
}

/** Lists the details of a job, with all that is needed to verify or repeat the count. */
export function jobDetails(job) {
  const { source, rule } = job;
  const runTime = job.started_at && job.finished_at && formatDuration(new Date(job.finished_at) - new Date(job.started_at));
  const worker = job.attempts.at(-1)?.worker;
  const labels = Object.entries(job.labels ?? {}).map(([name, value]) => `${name}: ${value}`).join(', ');
  const changedOptions = Object.entries(job.options).filter(([name, value]) => name !== 'explain' && value !== { rule: 'unicode', case: 'lower', scope: 'page' }[name]);
  return section('Details', h('dl', { class: 'details' },
    entry('URL', source.url && isolate(source.url)),
    entry('Final URL', source.final_url && source.final_url !== source.url && isolate(source.final_url)),
    entry('File name', source.file_name && isolate(source.file_name)),
    entry('Content type', source.content_type && isolate(source.content_type)),
    entry('Extractor', source.extractor && `${source.extractor.name}, version ${source.extractor.version}`),
    entry('Charset', source.charset && `${source.charset}${CHARSET_FROM[source.charset_from] ? `, ${CHARSET_FROM[source.charset_from]}` : ''}`),
    entry('Size', source.size_bytes !== undefined && source.size_bytes !== null && formatBytes(source.size_bytes)),
    entry('SHA-256', source.sha256 && h('code', { class: 'digest' }, source.sha256)),
    entry('Rule', rule && `${RULES[rule.name]?.[0] ?? rule.name}, version ${rule.version}; Unicode ${rule.unicode}`),
    entry('Options', changedOptions.length > 0 && changedOptions.map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(' ') : value}`).join(', ')),
    entry('Labels', labels && isolate(labels)),
    entry('Created', timeElement(job.created_at)),
    entry('Finished', job.finished_at && timeElement(job.finished_at), runTime && `, ${runTime} after the start`, worker && [', by ', isolate(worker)]),
    entry('Kept until', job.expires_at && timeElement(job.expires_at)),
    entry('Job id', h('code', { class: 'digest' }, job.job_id)),
    entry('Batch', job.batch && h('a', { href: `#/jobs/${job.batch}` }, job.batch)),
    entry('Retry of', job.retry_of && h('a', { href: `#/jobs/${job.retry_of}` }, job.retry_of)),
    entry('Trace id', job.trace_id && h('code', { class: 'digest' }, job.trace_id))));
}
