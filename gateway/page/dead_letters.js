// Dead letters: jobs that failed for good, with the reasons. They can be replayed and deleted.

import { ask, problemOf } from './api.js';
import { announce, isolate, h, number, plural, time, title, problemAlert } from './dom.js';
import { withConfirmation } from './job.js';
import { sourceName } from './jobs.js';

/** Maximum number of dead letters in one replay request. */
const REPLAY_MAX = 100;

const OUTCOMES = {
  replayed: 'Replayed', not_found: 'Not found', unreadable: 'Not replayed, because it cannot be read as a job',
  gone: 'Replayed before, and the new job is no longer stored', source_gone: 'Not replayed, because its document is no longer stored',
  refused: 'Refused', not_tried: 'Not tried, because the time limit was reached or an earlier one was refused',
};

export async function deadLetters({ root, signal, setWindowTitle }) {
  setWindowTitle('Dead letters');
  const place = h('div', null, h('p', { class: 'note' }, 'Loading …'));
  const list = h('ol', { class: 'letters' });
  const all = h('div', { class: 'row' });
  const shown = [];
  const more = h('div', { class: 'row' });
  root.append(title('Dead letters'), h('p', { class: 'lead' }, 'Jobs that failed for good. They are kept until you delete them or they expire, also after a replay.'), place);
  const load = async (cursor) => {
    const page = await ask('GET', `/v1/dead-letters?${new URLSearchParams({ limit: '50', ...(cursor && { cursor }) })}`, { signal });
    if (!cursor) place.replaceChildren(all, list, more);
    shown.push(...page.data.filter((letter) => letter.job_id).map((letter) => letter.id));
    all.replaceChildren(...(shown.length > 1 ? [replayAll(shown, all, signal)] : []));
    list.append(...page.data.map((letter) => item(letter, signal)));
    const count = list.children.length;
    const next = page.next_cursor && h('button', { type: 'button', onclick: () => again(page.next_cursor) }, count === 0 ? 'Search older entries' : 'Load more');
    more.replaceChildren(h('span', { class: 'note' }, count === 0 ? 'No dead letters.' : `${plural(count, 'dead letter')}, newest first.`), ...(next ? [next] : []));
  };
  const again = (cursor) => load(cursor).catch((error) => {
    const problem = problemOf(error);
    if (problem) more.replaceChildren(problemAlert(problem, () => again(cursor)));
  });
  await load(null);
}

/** Creates the button that replays all listed dead letters. */
function replayAll(ids, place, signal) {
  const replay = async (event) => {
    event.target.disabled = true;
    const status = h('p', { class: 'note', role: 'status' }, 'Replaying …');
    place.querySelector('p')?.remove();
    place.append(status);
    const outcomes = new Map();
    try {
      for (let first = 0; first < ids.length; first += REPLAY_MAX) {
        const answer = await ask('POST', '/v1/dead-letters/replay', { json: { ids: ids.slice(first, first + REPLAY_MAX) }, signal });
        for (const { outcome } of answer.data) outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
      status.textContent = `${[...outcomes].map(([outcome, count]) => `${OUTCOMES[outcome] ?? outcome}: ${number(count)}`).join('. ')}.`;
    } catch (error) {
      const problem = problemOf(error);
      if (problem) status.replaceWith(problemAlert(problem));
    } finally {
      event.target.disabled = false;
    }
  };
  return h('button', { type: 'button', onclick: withConfirmation(replay) }, `Replay all ${number(ids.length)} listed`);
}

function item(letter, signal) {
  const name = letter.source ? sourceName(letter.source) : 'Unreadable job';
  const message = h('div', { 'aria-live': 'polite' });
  const act = (action) => async (event) => {
    event.target.disabled = true;
    try {
      await action();
    } catch (error) {
      const problem = problemOf(error);
      if (problem) message.replaceChildren(problemAlert(problem));
    } finally {
      event.target.disabled = false;
    }
  };
  const replay = act(async () => {
    const answer = await ask('POST', '/v1/dead-letters/replay', { json: { ids: [letter.id] }, signal });
    const [line] = answer.data;
    const text = [OUTCOMES[line.outcome] ?? line.outcome, line.detail && `: ${line.detail}`, '. '];
    message.replaceChildren(h('p', { class: 'note' }, ...text.filter(Boolean), line.job_id && h('a', { href: `#/jobs/${line.job_id}` }, 'View new job')));
  });
  const remove = act(async () => {
    await ask('DELETE', `/v1/dead-letters/${letter.id}`, { signal });
    announce('Deleted');
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next?.querySelector('button') ?? document.querySelector('h1')).focus();
  });
  const attempts = letter.attempts === null ? '' : `, after ${plural(letter.attempts, 'attempt')}`;
  const row = h('li', null,
    h('p', { class: 'name' }, letter.job_id ? h('a', { href: `#/jobs/${letter.job_id}` }, isolate(name)) : isolate(name)),
    h('p', null, letter.failure.detail, ' ', h('code', null, letter.failure.code)),
    h('p', { class: 'note' }, 'Failed ', time(letter.dead_at), `${attempts}; ${letter.lane} lane.`,
      letter.trace_id && [' Trace ', letter.links.trace ? h('a', { href: letter.links.trace, rel: 'noreferrer' }, letter.trace_id) : h('code', { class: 'digest' }, letter.trace_id)]),
    h('div', { class: 'row' },
      letter.job_id && h('button', { type: 'button', onclick: replay, 'aria-label': `Replay ${name}` }, 'Replay'),
      h('button', { type: 'button', onclick: withConfirmation(remove) }, 'Delete')),
    message);
  return row;
}
