// The service, as this page asks it. Every failure becomes a `Problem` with a code and a sentence, also those
// that come from no service: a connection that breaks, an answer of something in between.

/** Where the key is while the tab is open. */
const KEY = 'wordmill.key';
/** The stream says every 15 s that it is alive. After this silence it is not, in milliseconds. */
const SILENCE_MAX = 40_000;
/** The longest wait before a broken stream is taken up again, in milliseconds. */
const PAUSE_MAX = 15_000;

let signedOut = () => {};

/** Says what to do when the service asks for a key. */
export function onSignedOut(action) {
  signedOut = action;
}

/** The key lives in this tab alone and goes with it: never on disk, never in a cookie that another page could ride on. */
export function key() {
  return sessionStorage.getItem(KEY);
}

export function signIn(value) {
  sessionStorage.setItem(KEY, value);
}

export function signOut() {
  sessionStorage.removeItem(KEY);
}

export class Problem extends Error {
  constructor({ code, title, detail, status = 0, retryable = false, ...more }) {
    super(detail);
    Object.assign(this, { code, title, detail, status, retryable, more });
  }
}

/** Makes a problem of whatever was thrown; `null` if somebody left. */
export function problemOf(error) {
  if (error instanceof Problem) return error;
  if (error?.name === 'AbortError') return null;
  console.warn(error);
  return new Problem({ code: 'page_defect', title: 'This page failed', detail: 'Load it again; if that does not help, it is a defect of the page.' });
}

function unreachable() {
  const detail = navigator.onLine
    ? 'The connection failed before an answer came. What was sent may have arrived: look at the jobs before you send it again.'
    : 'This device is offline.';
  return new Problem({ code: 'unreachable', title: 'The service cannot be reached', detail, retryable: true });
}

function headers(more) {
  const all = new Headers(more);
  if (key()) all.set('Authorization', `Bearer ${key()}`);
  return all;
}

/** Makes the problem that an answer is. */
function refusal(status, text) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch { /* an answer of something in between */ }
  if (body?.code) return new Problem(body);
  return new Problem({
    code: `http_${status}`, status, title: 'An answer that is not the service’s',
    detail: `Something between this page and the service answered with status ${status}.`, retryable: status >= 500,
  });
}

/** Sends a request; returns the response if it is a good one. */
export async function send(method, path, { json, body, type, headers: more, signal } = {}) {
  const fields = headers({ Accept: 'application/json', ...more });
  if (json !== undefined) fields.set('Content-Type', 'application/json');
  if (type) fields.set('Content-Type', type);
  let response;
  try {
    response = await fetch(path, { method, headers: fields, body: json === undefined ? body : JSON.stringify(json), signal });
  } catch (error) {
    throw error?.name === 'AbortError' ? error : unreachable();
  }
  if (response.ok) return response;
  const problem = refusal(response.status, await response.text().catch(() => ''));
  if (response.status === 401) signedOut(problem);
  throw problem;
}

/** Sends a request and returns the JSON of its answer; `null` if it has none. */
export async function ask(method, path, request) {
  const response = await send(method, path, request);
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    throw error?.name === 'AbortError' ? error : unreachable();
  }
}

/** Reads an answer line by line, as objects. */
export async function* lines(path, signal) {
  const response = await send('GET', path, { headers: { Accept: 'application/x-ndjson' }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error?.name === 'AbortError' ? error : unreachable();
    });
    if (done) break;
    const parts = (rest + value).split('\n');
    rest = parts.pop();
    yield parts.map((line) => JSON.parse(line));
  }
}

/** Sends a file, and says how much of it has gone; `fetch` cannot say that. */
export function upload(path, form, onSent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', path);
    request.setRequestHeader('Accept', 'application/json');
    if (key()) request.setRequestHeader('Authorization', `Bearer ${key()}`);
    request.upload.onprogress = (event) => event.lengthComputable && onSent(event.loaded / event.total);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException('left', 'AbortError'));
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) {
        resolve(JSON.parse(request.responseText));
        return;
      }
      const problem = refusal(request.status, request.responseText);
      if (request.status === 401) signedOut(problem);
      reject(problem);
    };
    signal?.addEventListener('abort', () => request.abort());
    request.send(form);
  });
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const left = () => {
      clearTimeout(timer);
      reject(new DOMException('left', 'AbortError'));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', left);
      resolve();
    }, ms);
    signal.addEventListener('abort', left, { once: true });
  });
}

/**
 * Follows a job to its end. `onJob` gets it at each change; `onBroken` gets the problem and the wait in
 * milliseconds when the stream breaks, before it is taken up again where it was.
 */
export async function follow(job_id, { onJob, onBroken, signal }) {
  const path = `/v1/jobs/${job_id}/events`;
  let last = null;
  let failures = 0;
  for (;;) {
    try {
      const over = await stream(path, last, signal, (id, job) => {
        last = id;
        failures = 0;
        onJob(job);
      });
      if (over) return;
    } catch (error) {
      if (error?.name === 'AbortError' || (error instanceof Problem && !error.retryable)) throw error;
      failures += 1;
      const wait = Math.min(1000 * 2 ** (failures - 1), PAUSE_MAX);
      onBroken(problemOf(error), wait);
      await pause(wait, signal);
      // Where streams are refused, looking now and then still tells how the job is.
      const job = await ask('GET', `/v1/jobs/${job_id}`, { signal }).catch(() => null);
      if (job) onJob(job);
      if (job && isFinal(job)) return;
      continue;
    }
    await pause(1000, signal);
  }
}

/** Reads one stream of events. Returns whether nothing more is to come. */
async function stream(path, last, signal, onEvent) {
  const silence = new AbortController();
  const both = AbortSignal.any([signal, silence.signal]);
  const wake = () => setTimeout(() => silence.abort(), SILENCE_MAX);
  let timer = wake();
  try {
    const more = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
    const response = await send('GET', path, { headers: more, signal: both });
    if (response.status === 204) return true;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let isOver = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return isOver;
      clearTimeout(timer);
      timer = wake();
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const event of blocks.map(parse).filter((event) => event.data)) {
        const job = JSON.parse(event.data);
        isOver = isFinal(job);
        onEvent(event.id, job);
      }
    }
  } catch (error) {
    if (signal.aborted) throw new DOMException('left', 'AbortError');
    throw error instanceof Problem ? error : unreachable();
  } finally {
    clearTimeout(timer);
  }
}

function parse(block) {
  const event = { id: null, data: '' };
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const value = line.slice(colon + 1).replace(/^ /, '');
    if (line.startsWith('id:')) event.id = value;
    if (line.startsWith('data:')) event.data += value;
  }
  return event;
}

export function isFinal(job) {
  return ['succeeded', 'failed', 'cancelled'].includes(job.status);
}

/** Lets the browser keep an answer as a file. With a key a plain link cannot do it. */
export async function save(path, name) {
  const response = await send('GET', path, { headers: { Accept: '*/*' } });
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
