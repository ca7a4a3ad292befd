// The queue: numbers of jobs in each lane, age of the oldest job, and the workers.

import { ask, problemOf } from './api.js';
import { announce, bytes, duration, isolate, h, number, plural, section, title, problemAlert } from './dom.js';

/** Polling interval in milliseconds. */
const INTERVAL = 2000;
/** Age from which the oldest job is shown as late, in milliseconds. */
const LATE = 60_000;

const LANES = { interactive: 'Interactive', bulk: 'Bulk' };
const COUNTS = {
  depth: 'Unfinished', waiting: 'Waiting', in_work: 'Running', waiting_for_retry: 'Waiting for a retry', redelivered: 'Redelivered',
};

export async function queue({ root, signal, setWindowTitle }) {
  setWindowTitle('Queue');
  const place = h('div', null, h('p', { class: 'note' }, 'Loading …'));
  const state = h('p', { class: 'note foot' });
  root.append(title('Queue'), place, state);
  let wasBroken = false;
  const refresh = async () => {
    try {
      show(place, await ask('GET', '/v1/queue', { signal }));
      state.textContent = `Updates every ${INTERVAL / 1000} s.`;
      if (wasBroken) announce('The numbers are up to date again');
      wasBroken = false;
    } catch (error) {
      const problem = problemOf(error);
      if (!problem) return;
      state.replaceChildren(problemAlert(problem));
      wasBroken = true;
    }
  };
  await refresh();
  // No requests while the page is hidden.
  const timer = setInterval(() => !document.hidden && refresh(), INTERVAL);
  signal.addEventListener('abort', () => clearInterval(timer));
}

function show(place, queue) {
  const row = ([label, value]) => h('tr', null, h('th', { scope: 'row' }, label), Object.keys(LANES).map((name) => value(queue.lanes[name])));
  const rows = [
    ...Object.entries(COUNTS).map(([field, label]) => [label, (lane) => h('td', { class: 'number' }, number(lane[field]))]),
    ['Oldest', ({ oldest_age_ms: age }) => h('td', { class: `number${age > LATE ? ' late' : ''}` }, age === null ? '–' : duration(age))],
  ];
  const most = queue.depth_max ? ` of at most ${number(queue.depth_max)}` : '';
  const room = queue.size_bytes_max ? ` of at most ${bytes(queue.size_bytes_max)}` : '';
  const age = Math.max(queue.lanes.interactive.oldest_age_ms ?? 0, queue.lanes.bulk.oldest_age_ms ?? 0);
  place.replaceChildren(
    h('p', { class: 'total' }, h('span', { class: 'figure' }, number(queue.depth)), ' ', queue.depth === 1 ? 'unfinished job' : 'unfinished jobs'),
    h('p', { class: 'lead' }, queue.depth === 0 ? 'The queue is empty.' : age > LATE ? `The oldest job is late: it is ${duration(age)} old.` : `The oldest job is ${duration(age)} old.`),
    section('Lanes',
      h('table', { class: 'lanes' }, h('caption', { class: 'unseen' }, 'Jobs in each lane'),
        h('thead', null, h('tr', null, h('td', null), Object.values(LANES).map((label) => h('th', { scope: 'col', class: 'number' }, label)))),
        h('tbody', null, rows.map(row))),
      h('p', { class: 'note' }, `${plural(queue.depth, 'job')}${most}, ${bytes(queue.size_bytes)}${room}.`)),
    section('Workers', workers(queue)));
}

function workers(queue) {
  if (queue.workers_seen === 0) return h('p', { class: 'late' }, 'No worker has been seen. Jobs wait until one starts.');
  const row = (worker) => {
    const busy = worker.in_work.interactive + worker.in_work.bulk;
    const fill = h('span');
    fill.style.inlineSize = `${Math.min(100, (busy / worker.slots) * 100)}%`;
    return h('tr', null, h('th', { scope: 'row' }, isolate(worker.name)),
      h('td', { class: 'number' }, `${number(busy)} of ${plural(worker.slots, 'slot')}`), h('td', { class: 'bar', 'aria-hidden': 'true' }, fill));
  };
  return h('table', { class: 'chart' }, h('caption', { class: 'unseen' }, 'Workers'),
    h('thead', { class: 'unseen' }, h('tr', null, h('th', { scope: 'col' }, 'Worker'), h('th', { scope: 'col' }, 'Running jobs'), h('td', null))),
    h('tbody', null, queue.workers.map(row)));
}
