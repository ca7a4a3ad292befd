// Batches: the status of their pages, and the reasons why lines were refused.

import { isolate, h, number, plural, section } from './dom.js';
import { STATUSES } from './jobs.js';

/** Maximum number of pages that are listed by URL. */
const LISTED = 100;

/** Outcomes of the lines by batch id, for batches of this tab. Only the first response has them. */
const linesByBatch = new Map();

export function rememberLines(batch, urls) {
  linesByBatch.set(batch.batch_id, batch.lines.map((line) => ({ ...line, url: urls[line.line - 1] })));
}

export function isBatch(job) {
  return job.source.kind === 'batch';
}

/** Returns the number of finished pages of a batch, and of all. */
export function countFinishedPages(job) {
  const { queued = 0, running = 0, succeeded = 0, failed = 0, cancelled = 0 } = job.counts ?? {};
  const done = succeeded + failed + cancelled;
  return { done, total: done + queued + running };
}

/** Shows the number of pages of a batch by status, and the lines if they are known. */
export function memberSection(job) {
  const counts = job.counts ?? {};
  const rows = [...STATUSES, 'refused'].filter((name) => counts[name] > 0)
    .map((name) => h('tr', null, h('th', { scope: 'row' }, name), h('td', { class: 'number' }, number(counts[name]))));
  const lines = linesByBatch.get(job.job_id) ?? [];
  // Refused lines first: they need attention.
  const ordered = [...lines.filter((line) => line.problem), ...lines.filter((line) => !line.problem)];
  const rest = ordered.length - LISTED;
  return section('Pages',
    h('table', { class: 'plain' }, h('caption', { class: 'unseen' }, 'Pages by status'), h('tbody', null, rows)),
    ordered.length > 0 && h('ul', { class: 'outcomes' }, ordered.slice(0, LISTED).map(item)),
    rest > 0 && h('p', { class: 'note' }, `${plural(rest, 'more page')}: see the list of jobs.`));
}

function item({ line, url, job_id, problem }) {
  if (!problem) return h('li', null, h('a', { href: `#/jobs/${job_id}` }, isolate(url)));
  return h('li', null, `Line ${line}: `, isolate(url), h('br'), problem.detail, ' ', h('code', null, problem.code));
}
