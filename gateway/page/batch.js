// What is special about a batch: how its lines stand, and which of them were refused.

import { ask } from './api.js';
import { foreign, h, number, section } from './dom.js';
import { STATUS } from './jobs.js';

/** What was refused when a batch of this tab was sent: only that answer says so. */
const refused = new Map();

export function remember(batch, urls) {
  const lines = (batch.lines ?? []).filter((line) => line.problem);
  refused.set(batch.batch_id, lines.map((line) => ({ ...line, url: urls[line.line - 1] })));
}

export function isBatch(job) {
  return job.source.kind === 'batch';
}

/** How the lines of a batch stand now. */
export async function batchCounts(job, signal) {
  const { counts = {} } = await ask('GET', `/v1/batches/${job.job_id}`, { signal });
  const names = { ...STATUS, refused: 'refused' };
  const rows = Object.keys(names).filter((name) => counts[name] > 0)
    .map((name) => h('tr', null, h('th', { scope: 'row' }, names[name]), h('td', { class: 'number' }, number(counts[name]))));
  const lines = refused.get(job.job_id) ?? [];
  return section('Its pages',
    h('table', { class: 'plain' }, h('caption', { class: 'unseen' }, 'Pages by status'), h('tbody', null, rows)),
    lines.length > 0 && h('ul', { class: 'sent' }, lines.map(({ line, url, problem }) => h('li', null,
      `Line ${line}: `, foreign(url), h('br'), problem.detail, ' ', h('code', null, problem.code)))));
}
