// Batches: the number of members by status, and the refused lines with their problems.

import { formatNumber, h, isolate, plural, section } from './dom.js';
import { STATUSES } from './jobs.js';

/** Maximum number of lines that are listed by URL. */
const LISTED_LINES_MAX = 100;

/**
 * Lines with their jobs or problems, by batch id. Contains only batches that were submitted in this
 * tab, because only the response to the submission lists the lines.
 */
const linesByBatch = new Map();

export function rememberLines(batch, urls) {
  linesByBatch.set(batch.batch_id, batch.lines.map((line) => ({ ...line, url: urls[line.line - 1] })));
}

export function isBatch(job) {
  return job.source.kind === 'batch';
}

/** Returns the number of final members of a batch (`done`), and of all its members (`total`). */
export function countFinalMembers(job) {
  const { queued = 0, running = 0, succeeded = 0, failed = 0, cancelled = 0 } = job.counts ?? {};
  const done = succeeded + failed + cancelled;
  return { done, total: done + queued + running };
}

/** Creates a section with the number of members by status, and with the lines if known. */
export function memberSection(job) {
  const counts = job.counts ?? {};
  const rows = [...STATUSES, 'refused'].filter((name) => counts[name] > 0)
    .map((name) => h('tr', null, h('th', { scope: 'row' }, name), h('td', { class: 'number' }, formatNumber(counts[name]))));
  const lines = linesByBatch.get(job.job_id) ?? [];
  // Refused lines come first, because they need attention.
  const sorted = [...lines.filter((line) => line.problem), ...lines.filter((line) => !line.problem)];
  const omitted = sorted.length - LISTED_LINES_MAX;
  return section('Members',
    h('table', { class: 'plain' }, h('caption', { class: 'unseen' }, 'Members by status'), h('tbody', null, rows)),
    sorted.length > 0 && h('ul', { class: 'outcomes' }, sorted.slice(0, LISTED_LINES_MAX).map(lineItem)),
    omitted > 0 && h('p', { class: 'note' }, `${plural(omitted, 'more member')}: see the list of jobs.`));
}

function lineItem({ line, url, job_id, problem }) {
  if (!problem) return h('li', null, h('a', { href: `#/jobs/${job_id}` }, isolate(url)));
  return h('li', null, `Line ${line}: `, isolate(url), h('br'), problem.detail, ' ', h('code', null, problem.code));
}
