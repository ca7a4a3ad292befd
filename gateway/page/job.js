// One job: its progress until it is final, then its result or the reason for the failure.

import { apiKey, download, followJob, isFinal, requestJson, toProblem } from './api.js';
import { countFinalMembers, isBatch, memberSection } from './batch.js';
import { announce, formatBytes, formatDuration, formatNumber, h, isolate, plural, problemAlert, section, timeElement, title } from './dom.js';
import { sourceName } from './jobs.js';
import { jobDetails, showResult } from './result.js';

const KINDS = { url: 'Web page', text: 'Text', document: 'Document', batch: 'Batch' };

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
    actions.replaceChildren(...jobActions(job, { root, signal, actions }));
    if (last.status !== job.status) {
      last.status = job.status;
      announce(announcement(job));
    }
    if (!isFinal(job)) {
      showProgress(state, job);
    } else if (!last.isShown) {
      last.isShown = true;
      state.replaceChildren();
      showFinalJob(job, body, signal);
    }
  };
  const showConnectionLoss = (problem, delay) => {
    const text = `${problem.title}. The job continues; next connection attempt in ${formatDuration(delay)}.`;
    announce(text);
    state.querySelector('.broken')?.remove();
    state.append(h('p', { class: 'broken note' }, text, ' ', h('code', null, problem.code)));
  };

  const first = await requestJson('GET', `/v1/jobs/${encodeURIComponent(id)}`, { signal });
  show(first);
  if (!isFinal(first)) await followJob(first.job_id, { onJob: show, onDisconnect: showConnectionLoss, signal });
}

function announcement(job) {
  const detail = job.failure ? ` ${job.failure.detail}` : job.totals ? ` ${plural(job.totals.words, 'word')}.` : '';
  const warnings = job.warnings?.length > 0 ? ` ${plural(job.warnings.length, 'warning')}.` : '';
  return `Job ${job.status}.${detail}${warnings}`;
}

/** Updates the progress of a job in place, so that the layout does not jump. */
function showProgress(state, job) {
  let bar = state.querySelector('progress');
  if (!bar) {
    bar = h('progress', { 'aria-label': 'Progress' });
    state.replaceChildren(bar, h('p', { class: 'stage' }), h('div', { class: 'tries' }));
  }
  state.querySelector('.broken')?.remove();
  const [done, total, text] = isBatch(job) ? describeBatchProgress(job) : describeProgress(job);
  if (total > 0) {
    bar.max = total;
    bar.value = Math.min(done, total);
  } else {
    bar.removeAttribute('value');
  }
  state.querySelector('.stage').replaceChildren(text, ' ', h('span', { class: 'note' }, `In the ${job.lane} lane since `, timeElement(job.created_at), '.'));
  state.querySelector('.tries').replaceChildren(...(isBatch(job) ? [memberSection(job)] : attemptList(job)));
}

/** Returns the counted bytes of a job, all its bytes (`null` if unknown), and a description. */
function describeProgress({ status, progress, next_attempt_at: next }) {
  const { done_bytes: done = 0, total_bytes: total = null, stage } = progress ?? {};
  const size = total > 0 ? `${formatBytes(done)} of ${formatBytes(total)}` : done > 0 ? formatBytes(done) : '';
  const verb = stage === 'fetch' ? 'Fetched and counted' : 'Counted';
  if (status === 'running') return [done, total, `Running${size ? `. ${verb} so far: ${size}` : ''}.`];
  if (status !== 'queued') return [done, total, `The status “${status}” is unknown to this version of the UI.`];
  return [done, total, next ? 'Queued until the next attempt.' : 'Queued until a worker is free.'];
}

/** Returns the number of final members of a batch, of all members, and a description. */
function describeBatchProgress(job) {
  const { done, total } = countFinalMembers(job);
  const text = done < total ? `${formatNumber(done)} of ${plural(total, 'member')} ${done === 1 ? 'is' : 'are'} final.` : 'All members are final. Their results are being merged.';
  return [done, total, text];
}

/** Creates a list of the attempts. Returns an empty array if none of them failed. */
function attemptList(job) {
  if (!job.attempts.some((attempt) => attempt.failure)) return [];
  const items = job.attempts.map((attempt) => h('li', null,
    `Attempt ${attempt.number}, `, timeElement(attempt.started_at), ', ', isolate(attempt.worker), ': ',
    attempt.failure ? [attempt.failure.detail, ' ', h('code', null, attempt.failure.code)] : attempt.ended_at ? 'succeeded' : 'running'));
  const next = job.next_attempt_at && h('p', { class: 'note' }, 'Next attempt at ', timeElement(job.next_attempt_at), '.');
  return [h('ol', { class: 'attempts' }, items), ...(next ? [next] : [])];
}

/** Creates the buttons and links for a job in its current status. */
function jobActions(job, { root, signal, actions }) {
  const requestAction = (method, path, then) => async (event) => {
    event.target.disabled = true;
    try {
      then(await requestJson(method, path, { signal }));
    } catch (error) {
      const problem = toProblem(error);
      if (!problem) return;
      actions.querySelector('.problem')?.remove();
      actions.append(problemAlert(problem));
    } finally {
      event.target.disabled = false;
    }
  };
  const path = `/v1/jobs/${job.job_id}`;
  if (!isFinal(job)) {
    return [h('button', { type: 'button', onclick: requestAction('POST', `${path}/cancel`, () => {}) }, 'Cancel')];
  }
  const trace = job.links.trace && h('a', { href: job.links.trace, rel: 'noreferrer' }, 'Trace');
  const remove = requestAction('DELETE', path, () => {
    announce('Deleted');
    location.hash = '#/jobs';
  });
  return [
    ...(job.status === 'succeeded' ? [h('span', null, 'Download all words as ', downloadLinks(job, root).flatMap((link, i) => (i === 0 ? [link] : [' or ', link])))] : []),
    h('button', { type: 'button', onclick: requestAction('POST', `${path}/retry`, (newJob) => { location.hash = `#/jobs/${newJob.job_id}`; }) }, 'Retry'),
    h('button', { type: 'button', onclick: withConfirmation(remove) }, 'Delete'),
    ...(trace ? [trace] : []),
  ];
}

/** Wraps the click listener of a button: the action needs a second click within 4 s. */
export function withConfirmation(action) {
  return (event) => {
    const button = event.target;
    if (button.dataset.confirming) {
      action(event);
      return;
    }
    const text = button.textContent;
    const label = button.getAttribute('aria-label');
    button.dataset.confirming = 'yes';
    button.textContent = `Really ${text.toLowerCase()}?`;
    // Without the label, screen readers read the question.
    button.removeAttribute('aria-label');
    setTimeout(() => {
      delete button.dataset.confirming;
      button.textContent = text;
      if (label) button.setAttribute('aria-label', label);
    }, 4000);
  };
}

function downloadLinks(job, root) {
  return ['csv', 'json'].map((format) => {
    const path = `${isBatch(job) ? `/v1/batches/${job.job_id}` : `/v1/jobs/${job.job_id}`}/result?format=${format}`;
    const name = `words-${job.job_id}.${format}`;
    const onclick = (event) => {
      // Without an API key, the browser follows the link. With one, this script must send it.
      if (!apiKey()) return;
      event.preventDefault();
      download(path, name).catch((error) => {
        const problem = toProblem(error);
        if (problem) root.querySelector('.actions').append(problemAlert(problem));
      });
    };
    return h('a', { href: path, download: name, onclick }, format.toUpperCase());
  });
}

function showFinalJob(job, body, signal) {
  if (job.status === 'succeeded') {
    showResult(job, body, signal);
    return;
  }
  if (job.status === 'cancelled') {
    body.append(h('p', { class: 'verdict' }, 'Cancelled'), h('p', { class: 'lead' }, 'The job was cancelled before it finished. It has no result.'));
  } else {
    body.append(h('p', { class: 'verdict bad' }, 'Failed'),
      h('p', { class: 'lead' }, job.failure.detail, ' ', h('code', null, job.failure.code)),
      h('p', null, job.failure.retryable ? 'A retry may succeed.' : 'A retry will fail again unless the cause is removed.',
        job.dead_lettered && [' The job was stored as a ', h('a', { href: '#/dead-letters' }, 'dead letter'), '.']));
    const list = attemptList(job);
    if (list.length > 0) body.append(section('Attempts', list));
  }
  if (isBatch(job)) body.append(memberSection(job));
  body.append(jobDetails(job));
}
