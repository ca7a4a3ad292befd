// Start view: a form for text, URLs and files, and the recent jobs.

import { requestJson, toProblem, upload } from './api.js';
import { announce, formatBytes, formatNumber, h, isolate, plural, problemAlert, section, title } from './dom.js';
import { jobRows } from './jobs.js';
import { chosenOptions, optionFields } from './options.js';
import { rememberLines } from './batch.js';

/** Maximum length of a text in JSON, in UTF-16 code units. Longer texts are sent as documents. */
const JSON_TEXT_LENGTH_MAX = 200_000;
/** Maximum number of URLs in a batch. */
const BATCH_URLS_MAX = 10_000;
/** Maximum number of recent jobs below the form. */
const RECENT_JOBS_MAX = 5;

const URL_LINE = /^https?:\/\/\S+$/i;

/** Classifies the input as `nothing`, `urls` (one per line) or `text`. */
export function classifyInput(text, isForcedText) {
  const filled = text.split('\n').map((line) => line.trim()).filter(Boolean);
  if (filled.length === 0) return { kind: 'nothing' };
  const urls = filled.filter((line) => URL_LINE.test(line));
  if (urls.length === filled.length && !isForcedText) return { kind: 'urls', urls };
  return { kind: 'text', urls, lines: filled.length };
}

export async function compose({ root, signal, setWindowTitle }) {
  setWindowTitle('Count words');
  const note = h('p', { id: 'input-kind', class: 'note', 'aria-live': 'polite' });
  const asText = h('input', { type: 'checkbox', id: 'as-text' });
  const asTextLine = h('label', { class: 'check', hidden: true }, asText, 'Count the URLs themselves as text');
  const text = h('textarea', {
    id: 'input', rows: '7', dir: 'auto', spellcheck: 'false', 'aria-describedby': 'input-kind',
    placeholder: 'Paste text, or the URLs of web pages, one per line.',
  });
  const files = h('input', { type: 'file', id: 'files', multiple: true, class: 'unseen' });
  const options = optionFields();
  const button = h('button', { class: 'primary', id: 'count' }, 'Count');
  const outcome = h('div', { id: 'outcome' });

  const updateNote = () => {
    const input = classifyInput(text.value, asText.checked);
    asTextLine.hidden = input.kind === 'nothing' || input.urls.length === 0 || (input.kind === 'text' && input.urls.length < input.lines);
    const description = describeInput(input, text.value);
    if (note.textContent !== description) note.textContent = description;
  };
  text.addEventListener('input', updateNote);
  asText.addEventListener('change', updateNote);
  text.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  const submit = async (event) => {
    event.preventDefault();
    const input = classifyInput(text.value, asText.checked);
    if (input.kind === 'nothing') {
      outcome.replaceChildren(problemAlert({ title: 'Nothing to count', detail: 'Paste text or URLs, or choose files.', code: 'empty' }));
      text.focus();
      return;
    }
    button.disabled = true;
    outcome.replaceChildren();
    announce('Submitting');
    try {
      location.hash = `#/jobs/${await submitInput(input, text.value, chosenOptions(options), signal)}`;
    } catch (error) {
      const problem = toProblem(error);
      if (problem) outcome.replaceChildren(problemAlert(problem), ...acceptedJobLink(problem), ...refusedLines(problem, input.urls));
    } finally {
      button.disabled = false;
    }
  };
  const form = h('form', { onsubmit: submit },
    h('label', { for: 'input', class: 'unseen' }, 'Text or URLs'),
    text, note, asTextLine,
    h('div', { class: 'row' }, button,
      h('span', null, 'or ', h('label', { for: 'files', class: 'file' }, 'choose files'), files, h('span', { class: 'by-mouse' }, ', or drop them anywhere on this page'))),
    outcome);

  const sendSelected = (list) => list.length > 0 && sendFiles([...list], chosenOptions(options), outcome, signal);
  files.addEventListener('change', () => {
    sendSelected(files.files);
    files.value = '';
  });
  acceptDroppedFiles(sendSelected, signal);

  const recent = h('div', null, h('p', { class: 'note' }, 'Loading …'));
  root.append(title('Count words'),
    h('p', { class: 'lead' }, 'Count the words of a text, file or web page under four rules, and see why the counts differ.'),
    section('Source', form), section('Options', options), section('Recent jobs', recent));
  updateNote();

  const page = await requestJson('GET', `/v1/jobs?limit=${RECENT_JOBS_MAX}`, { signal });
  recent.replaceChildren(page.data.length === 0
    ? h('p', { class: 'note' }, 'No jobs yet. Your jobs appear here.')
    : h('div', null, jobRows(page.data), h('p', null, h('a', { href: '#/jobs' }, 'All jobs'))));
}

function describeInput(input, text) {
  if (input.kind === 'nothing') return 'Several URLs become one batch with a merged result.';
  if (input.kind === 'urls') {
    if (input.urls.length > BATCH_URLS_MAX) return `Too many URLs (${formatNumber(input.urls.length)}): a batch can have at most ${formatNumber(BATCH_URLS_MAX)}.`;
    return input.urls.length === 1 ? 'The page at this URL will be fetched and counted.' : `${plural(input.urls.length, 'page')} will be fetched and counted as one batch.`;
  }
  const hint = input.urls.length > 0 && input.urls.length < input.lines
    ? ` ${plural(input.urls.length, 'line is a URL', 'lines are URLs')}. To count the pages, remove the other lines.` : '';
  return `Text of ${plural([...text].length, 'character')}.${hint}`;
}

/** Submits the input, and returns the id of the job or batch. */
async function submitInput(input, text, options, signal) {
  if (input.kind === 'urls' && input.urls.length === 1) {
    return (await requestJson('POST', '/v1/jobs', { json: { url: input.urls[0], options }, signal })).job_id;
  }
  if (input.kind === 'urls') {
    const body = input.urls.map((url) => `${JSON.stringify({ url })}\n`).join('');
    const path = `/v1/batches?${new URLSearchParams(options)}`;
    const batch = await requestJson('POST', path, { body, type: 'application/x-ndjson', signal });
    rememberLines(batch, input.urls);
    return batch.batch_id;
  }
  if (text.length > JSON_TEXT_LENGTH_MAX) {
    const path = `/v1/jobs?${new URLSearchParams(options)}`;
    return (await requestJson('POST', path, { body: text, type: 'text/plain; charset=utf-8', signal })).job_id;
  }
  return (await requestJson('POST', '/v1/jobs', { json: { text, options }, signal })).job_id;
}

/** Lists the first 20 lines with problems, for a batch without any valid line. */
function refusedLines(problem, urls = []) {
  const lines = (problem.more?.lines ?? []).filter((line) => line.problem).slice(0, 20);
  return lines.map((line) => h('p', { class: 'note' }, `Line ${line.line}: `, isolate(urls[line.line - 1] ?? ''), ' ', line.problem.detail, ' ', h('code', null, line.problem.code)));
}

/** Creates a link to the job, if it may have been accepted despite the problem. */
function acceptedJobLink(problem) {
  const id = problem.more?.job_id;
  return id ? [h('p', null, h('a', { href: `#/jobs/${id}` }, 'Check whether the job was accepted'))] : [];
}

/** Uploads files one after the other, each as a job. Opens the job if there is only one file. */
async function sendFiles(list, options, outcome, signal) {
  const rows = list.map((file) => {
    const state = h('span', { class: 'note' }, 'waiting to upload');
    return { file, state, row: h('li', null, h('bdi', null, file.name), ' ', h('span', { class: 'note' }, formatBytes(file.size)), ' ', state) };
  });
  outcome.replaceChildren(h('ul', { class: 'outcomes', 'aria-label': 'Files' }, rows.map((row) => row.row)));
  announce(`Submitting ${plural(list.length, 'file')}`);
  let submittedCount = 0;
  for (const { file, state } of rows) {
    try {
      const form = new FormData();
      form.append('file', file, file.name);
      const job = await upload(`/v1/jobs?${new URLSearchParams(options)}`, form, (fraction) => {
        state.textContent = `${Math.round(fraction * 100)} %`;
      }, signal);
      submittedCount += 1;
      state.replaceChildren(h('a', { href: `#/jobs/${job.job_id}` }, 'View job'));
      if (list.length === 1) location.hash = `#/jobs/${job.job_id}`;
    } catch (error) {
      const problem = toProblem(error);
      if (!problem) return;
      state.replaceChildren(problemAlert(problem));
    }
  }
  announce(`${plural(submittedCount, 'file')} submitted`);
}

/** Accepts files that are dropped anywhere on the page. */
function acceptDroppedFiles(sendSelected, signal) {
  const onDragOver = (event) => {
    if (![...event.dataTransfer.types].includes('Files')) return;
    event.preventDefault();
    document.body.classList.add('dropping');
  };
  const onDragLeave = (event) => {
    if (!event.relatedTarget) document.body.classList.remove('dropping');
  };
  const onDrop = (event) => {
    document.body.classList.remove('dropping');
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    sendSelected(event.dataTransfer.files);
  };
  addEventListener('dragover', onDragOver, { signal });
  addEventListener('dragleave', onDragLeave, { signal });
  addEventListener('drop', onDrop, { signal });
  signal.addEventListener('abort', () => document.body.classList.remove('dropping'));
}
