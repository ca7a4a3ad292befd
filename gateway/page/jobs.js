// List of jobs, page by page: all of them, or those with one status.

import { requestJson, toProblem } from './api.js';
import { formatBytes, formatNumber, h, isolate, plural, problemAlert, timeElement, title } from './dom.js';

export const STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'];

/** Returns a short name for the source of a job. */
export function sourceName(source) {
  if (source.url) return source.url;
  if (source.file_name) return source.file_name;
  if (source.kind === 'batch') return source.batch ? `Batch of ${plural(source.batch.lines, 'line')}` : 'Batch';
  const size = source.size_bytes === undefined ? '' : ` (${formatBytes(source.size_bytes)})`;
  if (source.kind === 'text') return `Text${size}`;
  return source.kind === 'document' ? `Document${size}` : `Source of kind ${source.kind}`;
}

/**
 * Returns the language of the counted words, or `null` if it is unknown. Browsers need it to select
 * the Japanese or Chinese form of Han characters, and screen readers to pronounce words.
 */
export function languageOf(job) {
  if (job.options.language) return job.options.language;
  // Only Japanese is written with kana.
  const isKana = ({ word }) => /[\p{Script=Hiragana}\p{Script=Katakana}]/u.test(word);
  return job.top_words?.some(isKana) ? 'ja' : null;
}

/** Creates a table of jobs. */
export function jobRows(jobs) {
  const row = (job) => h('tr', { class: `is-${job.status}` },
    h('td', { class: 'wide' }, h('a', { href: `#/jobs/${job.job_id}` }, isolate(sourceName(job.source))),
      job.failure && h('span', { class: 'note' }, ' ', job.failure.code)),
    h('td', null, h('span', { class: 'status' }, job.status)),
    h('td', { class: 'number' }, job.totals ? formatNumber(job.totals.words) : ''),
    h('td', { class: 'number' }, timeElement(job.created_at)));
  const head = h('tr', null, h('th', { scope: 'col' }, 'Source'), h('th', { scope: 'col' }, 'Status'),
    h('th', { scope: 'col', class: 'number' }, 'Words'), h('th', { scope: 'col', class: 'number' }, 'Created'));
  return h('table', { class: 'list' }, h('thead', null, head), h('tbody', null, jobs.map(row)));
}

export async function jobs({ root, signal, query, setWindowTitle }) {
  const status = STATUSES.includes(query.get('status')) ? query.get('status') : '';
  setWindowTitle(status ? `Jobs: ${status}` : 'Jobs');
  const filterLink = (value, text) => h('a', { href: value ? `#/jobs?status=${value}` : '#/jobs', 'aria-current': value === status ? 'true' : null }, text);
  const filter = h('nav', { class: 'filter', 'aria-label': 'Status' }, filterLink('', 'all'), STATUSES.map((value) => filterLink(value, value)));
  const place = h('div', null, h('p', { class: 'note' }, 'Loading …'));
  root.append(title('Jobs'), filter, place);

  let table = null;
  const more = h('div', { class: 'row' });
  const load = async (cursor) => {
    const parameters = new URLSearchParams({ limit: '50', ...(status && { status }), ...(cursor && { cursor }) });
    const page = await requestJson('GET', `/v1/jobs?${parameters}`, { signal });
    if (!table) {
      table = jobRows([]);
      place.replaceChildren(table, more);
    }
    table.tBodies[0].append(...jobRows(page.data).tBodies[0].rows);
    const count = table.tBodies[0].rows.length;
    // An empty page may have a successor: the service reads a bounded number of records per page.
    const next = page.next_cursor && h('button', { type: 'button', onclick: () => loadMore(page.next_cursor) }, count === 0 ? 'Search older jobs' : 'Load more');
    more.replaceChildren(h('span', { class: 'note' }, count === 0 ? 'No jobs.' : `${plural(count, 'job')}, most recently changed first.`), ...(next ? [next] : []));
    table.hidden = count === 0;
  };
  const loadMore = (cursor) => load(cursor).catch((error) => {
    const problem = toProblem(error);
    if (problem) more.replaceChildren(problemAlert(problem, () => loadMore(cursor)));
  });
  await load(null);
}
