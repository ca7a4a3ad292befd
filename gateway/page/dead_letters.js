// Dead letters: lists, replays and deletes jobs that used up all attempts. Also lists and deletes
// messages that are not valid jobs.

import { requestJson, toProblem } from './api.js';
import { announce, formatNumber, h, isolate, plural, problemAlert, timeElement, title } from './dom.js';
import { withConfirmation } from './job.js';
import { sourceName } from './jobs.js';

/** Maximum number of dead letters in one replay request. */
const REPLAY_MAX = 100;

const OUTCOMES = {
  replayed: 'Replayed', not_found: 'Not found', unreadable: 'Not replayed: it cannot be read as a job',
  gone: 'Already replayed, and the new job is no longer stored', source_gone: 'Not replayed: its document is no longer stored',
  refused: 'Refused', not_tried: 'Not attempted: the time limit was reached, or an earlier replay was refused',
};

export async function deadLetters({ root, signal, setWindowTitle }) {
  setWindowTitle('Dead letters');
  const place = h('div', null, h('p', { class: 'note' }, 'Loading …'));
  const list = h('ol', { class: 'letters' });
  const replayRow = h('div', { class: 'row' });
  const replayableIds = [];
  const more = h('div', { class: 'row' });
  root.append(title('Dead letters'), h('p', { class: 'lead' }, 'Jobs that used up all their attempts, and messages that are not valid jobs. A dead letter is kept until you delete it or it expires, even after a replay.'), place);
  const load = async (cursor) => {
    const page = await requestJson('GET', `/v1/dead-letters?${new URLSearchParams({ limit: '50', ...(cursor && { cursor }) })}`, { signal });
    if (!cursor) place.replaceChildren(replayRow, list, more);
    replayableIds.push(...page.data.filter((letter) => letter.job_id).map((letter) => letter.id));
    replayRow.replaceChildren(...(replayableIds.length > 1 ? [replayAllButton(replayableIds, replayRow, signal)] : []));
    list.append(...page.data.map((letter) => letterItem(letter, signal)));
    const count = list.children.length;
    const next = page.next_cursor && h('button', { type: 'button', onclick: () => loadMore(page.next_cursor) }, count === 0 ? 'Search older dead letters' : 'Load more');
    more.replaceChildren(h('span', { class: 'note' }, count === 0 ? 'No dead letters.' : `${plural(count, 'dead letter')}, newest first.`), ...(next ? [next] : []));
  };
  const loadMore = (cursor) => load(cursor).catch((error) => {
    const problem = toProblem(error);
    if (problem) more.replaceChildren(problemAlert(problem, () => loadMore(cursor)));
  });
  await load(null);
}

/** Creates the button that replays all listed dead letters. */
function replayAllButton(ids, place, signal) {
  const replay = async (event) => {
    event.target.disabled = true;
    const status = h('p', { class: 'note', role: 'status' }, 'Replaying …');
    place.querySelector('p')?.remove();
    place.append(status);
    const outcomes = new Map();
    try {
      for (let first = 0; first < ids.length; first += REPLAY_MAX) {
        const response = await requestJson('POST', '/v1/dead-letters/replay', { json: { ids: ids.slice(first, first + REPLAY_MAX) }, signal });
        for (const { outcome } of response.data) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
      status.textContent = `${[...outcomes].map(([outcome, count]) => `${OUTCOMES[outcome] ?? outcome}: ${formatNumber(count)}`).join('. ')}.`;
    } catch (error) {
      const problem = toProblem(error);
      if (problem) status.replaceWith(problemAlert(problem));
    } finally {
      event.target.disabled = false;
    }
  };
  return h('button', { type: 'button', onclick: withConfirmation(replay) }, `Replay all ${formatNumber(ids.length)} listed`);
}

function letterItem(letter, signal) {
  const name = letter.source ? sourceName(letter.source) : 'Unreadable job';
  const message = h('div', { 'aria-live': 'polite' });
  const runAction = (action) => async (event) => {
    event.target.disabled = true;
    try {
      await action();
    } catch (error) {
      const problem = toProblem(error);
      if (problem) message.replaceChildren(problemAlert(problem));
    } finally {
      event.target.disabled = false;
    }
  };
  const replay = runAction(async () => {
    const response = await requestJson('POST', '/v1/dead-letters/replay', { json: { ids: [letter.id] }, signal });
    const [result] = response.data;
    const text = [OUTCOMES[result.outcome] ?? result.outcome, result.detail && `: ${result.detail}`, '. '];
    message.replaceChildren(h('p', { class: 'note' }, ...text.filter(Boolean), result.job_id && h('a', { href: `#/jobs/${result.job_id}` }, 'View new job')));
  });
  const remove = runAction(async () => {
    await requestJson('DELETE', `/v1/dead-letters/${letter.id}`, { signal });
    announce('Deleted');
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next?.querySelector('button') ?? document.querySelector('h1')).focus();
  });
  const attempts = letter.attempts === null ? '' : `, after ${plural(letter.attempts, 'attempt')}`;
  const row = h('li', null,
    h('p', { class: 'name' }, letter.job_id ? h('a', { href: `#/jobs/${letter.job_id}` }, isolate(name)) : isolate(name)),
    h('p', null, letter.failure.detail, ' ', h('code', null, letter.failure.code)),
    h('p', { class: 'note' }, 'Failed ', timeElement(letter.dead_at), `${attempts}; ${letter.lane} lane.`,
      letter.trace_id && [' Trace ', letter.links.trace ? h('a', { href: letter.links.trace, rel: 'noreferrer' }, letter.trace_id) : h('code', { class: 'digest' }, letter.trace_id)]),
    h('div', { class: 'row' },
      letter.job_id && h('button', { type: 'button', onclick: replay, 'aria-label': `Replay ${name}` }, 'Replay'),
      h('button', { type: 'button', onclick: withConfirmation(remove), 'aria-label': `Delete ${name}` }, 'Delete')),
    message);
  return row;
}
