// Requests to the service. Every failure becomes a `Problem` with a code and a sentence, including
// broken connections and responses of other servers, such as proxies.

/** Name of the API key in the session storage. */
const KEY = 'wordmill.key';
/** Idle timeout of an event stream in milliseconds. The service sends a heartbeat every 15 s. */
const SILENCE_MAX = 40_000;
/** Maximum pause before a broken stream is opened again, in milliseconds. */
const PAUSE_MAX = 15_000;

let signedOut = () => {};

/** Sets the function that is called with the problem if the service requires a key (status 401). */
export function onSignedOut(action) {
  signedOut = action;
}

/**
 * Returns the API key. It is stored for this tab only, and never on disk. It is not a cookie,
 * because browsers send cookies with requests from other sites, too.
 */
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

/** Converts an exception to a problem; `null` if the request was aborted. */
export function problemOf(error) {
  if (error instanceof Problem) return error;
  if (error?.name === 'AbortError') return null;
  console.warn(error);
  return new Problem({ code: 'page_defect', title: 'Error in this page', detail: 'Reload the page. If the error comes back, it is a bug of the page.' });
}

function unreachable() {
  const detail = navigator.onLine
    ? 'The connection failed before a response arrived. The request may have been accepted: check the list of jobs before you send it again.'
    : 'This device is offline.';
  return new Problem({ code: 'unreachable', title: 'The service cannot be reached', detail, retryable: true });
}

function headers(more) {
  const all = new Headers(more);
  if (key()) all.set('Authorization', `Bearer ${key()}`);
  return all;
}

/** Creates the problem for an error response. */
function problemOfResponse(status, text) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch { /* not a response of the service */ }
  if (body?.code) return new Problem(body);
  return new Problem({
    code: `http_${status}`, status, title: 'Unexpected response',
    detail: `Another server, for example a proxy, answered with status ${status}.`, retryable: status >= 500,
  });
}

/** Sends a request and returns the response. Throws a `Problem` unless its status is 2xx. */
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
  const problem = problemOfResponse(response.status, await response.text().catch(() => ''));
  if (response.status === 401) signedOut(problem);
  throw problem;
}

/** Sends a request and returns the JSON of the response; `null` if it has no content (204). */
export async function ask(method, path, request) {
  const response = await send(method, path, request);
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    throw error?.name === 'AbortError' ? error : unreachable();
  }
}

/** Reads an NDJSON response. Yields the objects of complete lines as arrays, as they arrive. */
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

/** Uploads a form and reports its progress from 0 to 1. `fetch` cannot report progress. */
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
      const problem = problemOfResponse(request.status, request.responseText);
      if (request.status === 401) signedOut(problem);
      reject(problem);
    };
    signal?.addEventListener('abort', () => request.abort());
    request.send(form);
  });
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new DOMException('left', 'AbortError'));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    }, ms);
    signal.addEventListener('abort', abort, { once: true });
  });
}

/**
 * Follows a job until it is final. Calls `onJob` at each change. If the stream breaks, calls
 * `onBroken` with the problem and the pause in milliseconds, and then resumes after the last event.
 */
export async function follow(job_id, { onJob, onBroken, signal }) {
  const path = `/v1/jobs/${job_id}/events`;
  let last = null;
  let failures = 0;
  for (;;) {
    try {
      const isEnded = await stream(path, last, signal, (id, job) => {
        last = id;
        failures = 0;
        onJob(job);
      });
      if (isEnded) return;
    } catch (error) {
      if (error?.name === 'AbortError' || (error instanceof Problem && !error.retryable)) throw error;
      failures += 1;
      const wait = Math.min(1000 * 2 ** (failures - 1), PAUSE_MAX);
      onBroken(problemOf(error), wait);
      await pause(wait, signal);
      // Also polls the job, because a proxy may block event streams altogether.
      const job = await ask('GET', `/v1/jobs/${job_id}`, { signal }).catch(() => null);
      if (job) onJob(job);
      if (job && isFinal(job)) return;
      continue;
    }
    await pause(1000, signal);
  }
}

/** Reads one event stream. Returns whether the job is final, so that no more events follow. */
async function stream(path, last, signal, onEvent) {
  const silence = new AbortController();
  const either = AbortSignal.any([signal, silence.signal]);
  const startTimer = () => setTimeout(() => silence.abort(), SILENCE_MAX);
  let timer = startTimer();
  try {
    const more = { Accept: 'text/event-stream', ...(last && { 'Last-Event-ID': last }) };
    const response = await send('GET', path, { headers: more, signal: either });
    // The event with the final job has already been received: there are no more.
    if (response.status === 204) return true;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let isEnded = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return isEnded;
      clearTimeout(timer);
      timer = startTimer();
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const event of blocks.map(parse).filter((event) => event.data)) {
        const job = JSON.parse(event.data);
        isEnded = isFinal(job);
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

/** Saves a response as a file. A plain link would not send the API key. */
export async function save(path, name) {
  const response = await send('GET', path, { headers: { Accept: '*/*' } });
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
