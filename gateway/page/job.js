// One job: its progress until it is final, then its result or the reason why it failed.

import { ask, follow, isFinal, problemOf, save, key } from './api.js';
import { countFinishedPages, isBatch, memberSection } from './batch.js';
import { announce, bytes, duration, isolate, h, number, plural, section, time, title, problemAlert } from './dom.js';
import { sourceName } from './jobs.js';
import { jobDetails, result } from './result.js';

const KINDS = { url: 'Page', text: 'Text', document: 'File', batch: 'Batch' };

export async function job({ root, signal, id, setWindowTitle }) {
  setWindowTitle('Job');
  const heading = title('Job');
  const kind = h('p', { class: 'kind' });
  const state = h('div', { id: 'state' });
  const actions = h('div', { class: 'row actions' });
  const body = h('div', { id: 'outcome' });
  root.append(kind, heading, actions, state, body);

  const last = { status: null };
  const show = (job) => {
    const name = sourceName(job.source);
    kind.textContent = KINDS[job.source.kind] ?? 'Job';
    heading.replaceChildren(isolate(name));
    setWindowTitle(`${name}: ${job.totals ? plural(job.totals.words, 'word') : job.status}`);
    actions.replaceChildren(...buttons(job, { root, signal, actions }));
    if (last.status !== job.status) {
      last.status = job.status;
      announce(announcement(job));
    }
    if (!isFinal(job)) {
      progress(state, job);
    } else if (!last.isShown) {
      last.isShown = true;
      state.replaceChildren();
      end(job, body, signal);
    }
  };
  const showBroken = (problem, wait) => {
    const text = `${problem.title}. The job continues; next connection attempt in ${duration(wait)}.`;
    announce(text);
    state.querySelector('.broken')?.remove();
    state.append(h('p', { class: 'broken note' }, text, ' ', h('code', null, problem.code)));
  };

  const first = await ask('GET', `/v1/jobs/${encodeURIComponent(id)}`, { signal });
  show(first);
  if (!isFinal(first)) await follow(first.job_id, { onJob: show, onBroken: showBroken, signal });
}

function announcement(job) {
  const detail = job.failure ? ` ${job.failure.detail}` : job.totals ? ` ${plural(job.totals.words, 'word')}.` : '';
  return `Job ${job.status}.${detail}`;
}

/** Updates the progress of a job in place, so that the layout does not jump. */
function progress(state, job) {
  let bar = state.querySelector('progress');
  if (!bar) {
    bar = h('progress', { 'aria-label': 'Progress' });
    state.replaceChildren(bar, h('p', { class: 'stage' }), h('div', { class: 'tries' }));
  }
  state.querySelector('.broken')?.remove();
  const [done, total, text] = isBatch(job) ? batchStage(job) : stage(job);
  if (total > 0) {
    bar.max = total;
    bar.value = Math.min(done, total);
  } else {
    bar.removeAttribute('value');
  }
  state.querySelector('.stage').replaceChildren(text, ' ', h('span', { class: 'note' }, `In the ${job.lane} lane since `, time(job.created_at), '.'));
  state.querySelector('.tries').replaceChildren(...(isBatch(job) ? [memberSection(job)] : attempts(job)));
}

/** Returns the counted bytes of a job, its total (`null` if unknown), and a text about both. */
function stage({ status, progress: far, next_attempt_at: next }) {
  const { done_bytes: done = 0, total_bytes: total = null, stage } = far ?? {};
  const size = total > 0 ? `${bytes(done)} of ${bytes(total)}` : done > 0 ? bytes(done) : '';
  const doing = stage === 'fetch' ? 'Fetched and counted' : 'Counted';
  if (status === 'running') return [done, total, `Running${size ? `. ${doing} so far: ${size}` : ''}.`];
  if (status !== 'queued') return [done, total, `Status “${status}”, which is unknown to this version of the page.`];
  return [done, total, next ? 'Queued until the next attempt.' : 'Queued until a worker is free.'];
}

/** Returns the finished pages of a batch, all its pages, and a text about both. */
function batchStage(job) {
  const { done, total } = countFinishedPages(job);
  const text = done < total ? `${number(done)} of ${plural(total, 'page')} ${done === 1 ? 'has' : 'have'} finished.` : 'All pages have finished. Their results are being merged.';
  return [done, total, text];
}

/** Lists the attempts if one of them has failed. */
function attempts(job) {
  if (!job.attempts.some((attempt) => attempt.failure)) return [];
  const items = job.attempts.map((attempt) => h('li', null,
    `Attempt ${attempt.number}, `, time(attempt.started_at), ', ', isolate(attempt.worker), ': ',
    attempt.failure ? [attempt.failure.detail, ' ', h('code', null, attempt.failure.code)] : attempt.ended_at ? 'succeeded' : 'running'));
  const next = job.next_attempt_at && h('p', { class: 'note' }, 'Next attempt at ', time(job.next_attempt_at), '.');
  return [h('ol', { class: 'attempts' }, items), ...(next ? [next] : [])];
}

/** Creates the buttons and links for a job in its current status. */
function buttons(job, { root, signal, actions }) {
  const act = (method, path, then) => async (event) => {
    event.target.disabled = true;
    try {
      then(await ask(method, path, { signal }));
    } catch (error) {
      const problem = problemOf(error);
      if (!problem) return;
      actions.querySelector('.problem')?.remove();
      actions.append(problemAlert(problem));
    } finally {
      event.target.disabled = false;
    }
  };
  const path = `/v1/jobs/${job.job_id}`;
  if (!isFinal(job)) {
    return [h('button', { type: 'button', onclick: act('POST', `${path}/cancel`, () => {}) }, 'Cancel')];
  }
  const trace = job.links.trace && h('a', { href: job.links.trace, rel: 'noreferrer' }, 'Trace');
  const remove = act('DELETE', path, () => {
    announce('Deleted');
    location.hash = '#/jobs';
  });
  return [
    ...(job.status === 'succeeded' ? [h('span', null, 'All words as ', downloads(job, root).flatMap((link, i) => (i === 0 ? [link] : [' or ', link])))] : []),
    h('button', { type: 'button', onclick: act('POST', `${path}/retry`, (again) => { location.hash = `#/jobs/${again.job_id}`; }) }, 'Count again'),
    h('button', { type: 'button', onclick: withConfirmation(remove) }, 'Delete'),
    ...(trace ? [trace] : []),
  ];
}

/** Wraps a listener of a button: the action needs a second press within 4 s. */
export function withConfirmation(action) {
  return (event) => {
    const button = event.target;
    if (button.dataset.asked) {
      action(event);
      return;
    }
    const before = button.textContent;
    button.dataset.asked = 'yes';
    button.textContent = `Really ${before.toLowerCase()}?`;
    setTimeout(() => {
      delete button.dataset.asked;
      button.textContent = before;
    }, 4000);
  };
}

function downloads(job, root) {
  return ['csv', 'json'].map((format) => {
    const path = `${isBatch(job) ? `/v1/batches/${job.job_id}` : `/v1/jobs/${job.job_id}`}/result?format=${format}`;
    const name = `words-${job.job_id}.${format}`;
    const onclick = (event) => {
      // Without a key the browser follows the link. With one the page must send it.
      if (!key()) return;
      event.preventDefault();
      save(path, name).catch((error) => {
        const problem = problemOf(error);
        if (problem) root.querySelector('.actions').append(problemAlert(problem));
      });
    };
    return h('a', { href: path, download: name, onclick }, format.toUpperCase());
  });
}

function end(job, body, signal) {
  if (job.status === 'succeeded') {
    result(job, body, signal);
    return;
  }
  if (job.status === 'cancelled') {
    body.append(h('p', { class: 'verdict' }, 'Cancelled'), h('p', { class: 'lead' }, 'The job was cancelled before it finished. It has no result.'));
  } else {
    body.append(h('p', { class: 'verdict bad' }, 'Failed'),
      h('p', { class: 'lead' }, job.failure.detail, ' ', h('code', null, job.failure.code)),
      h('p', null, job.failure.retryable ? 'A retry may succeed.' : 'A retry would fail in the same way, unless something changes.',
        job.dead_lettered && [' The job is kept in the ', h('a', { href: '#/dead-letters' }, 'dead letters'), '.']));
    const tried = attempts(job);
    if (tried.length > 0) body.append(section('Attempts', tried));
  }
  if (isBatch(job)) body.append(memberSection(job));
  body.append(jobDetails(job));
}
