// Queue: the number of jobs by lane, the age of the oldest job, and the workers.

import { requestJson, toProblem } from './api.js';
import { announce, formatBytes, formatDuration, formatNumber, h, isolate, plural, problemAlert, section, title } from './dom.js';

const POLL_INTERVAL_MS = 2000;
/** Age above which the oldest job is shown as late. */
const LATE_AGE_MS = 60_000;

const LANES = { interactive: 'Interactive', bulk: 'Bulk' };
const COUNTS = {
  depth: 'Unfinished', waiting: 'Waiting', in_work: 'Running', waiting_for_retry: 'Waiting for a retry', redelivered: 'Redelivered',
};

export async function queue({ root, signal, setWindowTitle }) {
  setWindowTitle('Queue');
  const place = h('div', null, h('p', { class: 'note' }, 'Loading …'));
  const state = h('p', { class: 'note foot' });
  root.append(title('Queue'), place, state);
  let hadProblem = false;
  const refresh = async () => {
    try {
      show(place, await requestJson('GET', '/v1/queue', { signal }));
      state.textContent = `Updates every ${POLL_INTERVAL_MS / 1000} s.`;
      if (hadProblem) announce('Queue status is updating again');
      hadProblem = false;
    } catch (error) {
      const problem = toProblem(error);
      if (!problem) return;
      state.replaceChildren(problemAlert(problem));
      hadProblem = true;
    }
  };
  await refresh();
  // Sends no requests while the tab is hidden.
  const timer = setInterval(() => !document.hidden && refresh(), POLL_INTERVAL_MS);
  signal.addEventListener('abort', () => clearInterval(timer));
}

function show(place, queue) {
  const row = ([label, value]) => h('tr', null, h('th', { scope: 'row' }, label), Object.keys(LANES).map((name) => value(queue.lanes[name])));
  const rows = [
    ...Object.entries(COUNTS).map(([field, label]) => [label, (lane) => h('td', { class: 'number' }, formatNumber(lane[field]))]),
    ['Oldest job', ({ oldest_age_ms: age }) => h('td', { class: `number${age > LATE_AGE_MS ? ' late' : ''}` }, age === null ? '–' : formatDuration(age))],
  ];
  const depthLimit = queue.depth_max ? ` of at most ${formatNumber(queue.depth_max)}` : '';
  const sizeLimit = queue.size_bytes_max ? ` of at most ${formatBytes(queue.size_bytes_max)}` : '';
  const age = Math.max(queue.lanes.interactive.oldest_age_ms ?? 0, queue.lanes.bulk.oldest_age_ms ?? 0);
  place.replaceChildren(
    h('p', { class: 'total' }, h('span', { class: 'figure' }, formatNumber(queue.depth)), ' ', queue.depth === 1 ? 'unfinished job' : 'unfinished jobs'),
    h('p', { class: 'lead' }, queue.depth === 0 ? 'The queue is empty.' : age > LATE_AGE_MS ? `The oldest job is ${formatDuration(age)} old, which is longer than expected.` : `The oldest job is ${formatDuration(age)} old.`),
    section('Lanes',
      h('table', { class: 'lanes' }, h('caption', { class: 'unseen' }, 'Jobs in each lane'),
        h('thead', null, h('tr', null, h('td', null), Object.values(LANES).map((label) => h('th', { scope: 'col', class: 'number' }, label)))),
        h('tbody', null, rows.map(row))),
      h('p', { class: 'note' }, `${plural(queue.depth, 'job')}${depthLimit}, ${formatBytes(queue.size_bytes)}${sizeLimit}.`)),
    section('Workers', workerTable(queue)));
}

function workerTable(queue) {
  if (queue.workers_seen === 0) return h('p', { class: 'late' }, 'No worker is running. Jobs stay queued until one starts.');
  const row = (worker) => {
    const busy = worker.in_work.interactive + worker.in_work.bulk;
    const bar = h('span');
    bar.style.inlineSize = `${Math.min(100, (busy / worker.slots) * 100)}%`;
    return h('tr', null, h('th', { scope: 'row' }, isolate(worker.name)),
      h('td', { class: 'number' }, `${formatNumber(busy)} of ${plural(worker.slots, 'slot')}`), h('td', { class: 'bar', 'aria-hidden': 'true' }, bar));
  };
  return h('table', { class: 'chart' }, h('caption', { class: 'unseen' }, 'Workers'),
    h('thead', { class: 'unseen' }, h('tr', null, h('th', { scope: 'col' }, 'Worker'), h('th', { scope: 'col' }, 'Running jobs'), h('td', null))),
    h('tbody', null, queue.workers.map(row)));
}
