// Requests to the service. Every failure becomes a `Problem` with a code and a sentence, including
// broken connections and responses of other servers, such as proxies.

/** Session storage item that contains the API key. */
const KEY_ITEM = 'wordmill.key';
/** Idle timeout of an event stream. The service sends a heartbeat every 15 s. */
const IDLE_TIMEOUT_MS = 40_000;
/** Maximum delay before a broken event stream is opened again. */
const RECONNECT_DELAY_MAX_MS = 15_000;

let unauthorizedHandler = () => {};

/** Sets the function that is called with the problem of each response with status 401. */
export function onUnauthorized(handler) {
  unauthorizedHandler = handler;
}

/**
 * Returns the API key. It is stored for this tab only, and never on disk. It is not a cookie,
 * because browsers send cookies with requests from other sites, too.
 */
export function apiKey() {
  return sessionStorage.getItem(KEY_ITEM);
}

export function signIn(value) {
  sessionStorage.setItem(KEY_ITEM, value);
}

export function signOut() {
  sessionStorage.removeItem(KEY_ITEM);
}

export class Problem extends Error {
  constructor({ code, title, detail, status = 0, retryable = false, ...more }) {
    super(detail);
    Object.assign(this, { code, title, detail, status, retryable, more });
  }
}

/** Converts an exception to a problem. Returns `null` if the request was aborted. */
export function toProblem(error) {
  if (error instanceof Problem) return error;
  if (error?.name === 'AbortError') return null;
  console.warn(error);
  return new Problem({ code: 'page_defect', title: 'Error in this page', detail: 'Reload the page. If it happens again, please report it as a bug.' });
}

function unreachableProblem() {
  const detail = navigator.onLine
    ? 'The connection failed before a response arrived. The request may have been accepted: check the list of jobs before you send it again.'
    : 'This device is offline.';
  return new Problem({ code: 'unreachable', title: 'The service cannot be reached', detail, retryable: true });
}

function requestHeaders(more) {
  const all = new Headers(more);
  if (apiKey()) all.set('Authorization', `Bearer ${apiKey()}`);
  return all;
}

/** Parses an error response. A response of another server becomes a problem, too. */
function parseProblem(status, text) {
  let body = null;
  try {
    body = JSON.parse(text);
  } catch { /* The response is from another server. */ }
  if (body?.code) return new Problem(body);
  return new Problem({
    code: `http_${status}`, status, title: 'Unexpected response',
    detail: `Another server, for example a proxy, returned status ${status}.`, retryable: status >= 500,
  });
}

/** Sends a request and returns the response. Throws a `Problem` unless its status is 2xx. */
export async function send(method, path, { json, body, type, headers: more, signal } = {}) {
  const fields = requestHeaders({ Accept: 'application/json', ...more });
  if (json !== undefined) fields.set('Content-Type', 'application/json');
  if (type) fields.set('Content-Type', type);
  let response;
  try {
    response = await fetch(path, { method, headers: fields, body: json === undefined ? body : JSON.stringify(json), signal });
  } catch (error) {
    throw error?.name === 'AbortError' ? error : unreachableProblem();
  }
  if (response.ok) return response;
  const problem = parseProblem(response.status, await response.text().catch(() => ''));
  if (response.status === 401) unauthorizedHandler(problem);
  throw problem;
}

/** Sends a request and parses the response as JSON. Returns `null` for status 204. */
export async function requestJson(method, path, request) {
  const response = await send(method, path, request);
  if (response.status === 204) return null;
  try {
    return await response.json();
  } catch (error) {
    throw error?.name === 'AbortError' ? error : unreachableProblem();
  }
}

/** Reads an NDJSON response. Yields an array of objects whenever complete lines have arrived. */
export async function* readLines(path, signal) {
  const response = await send('GET', path, { headers: { Accept: 'application/x-ndjson' }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let incomplete = '';
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      throw error?.name === 'AbortError' ? error : unreachableProblem();
    });
    if (done) break;
    const complete = (incomplete + value).split('\n');
    incomplete = complete.pop();
    yield complete.map((line) => JSON.parse(line));
  }
}

/**
 * Uploads a form. Calls `onProgress` with the uploaded fraction, from 0 to 1. Uses an
 * `XMLHttpRequest`, because `fetch` does not report the progress of uploads.
 */
export function upload(path, form, onProgress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open('POST', path);
    request.setRequestHeader('Accept', 'application/json');
    if (apiKey()) request.setRequestHeader('Authorization', `Bearer ${apiKey()}`);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(unreachableProblem());
    request.onabort = () => reject(new DOMException('The view was closed.', 'AbortError'));
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) {
        resolve(JSON.parse(request.responseText));
        return;
      }
      const problem = parseProblem(request.status, request.responseText);
      if (request.status === 401) unauthorizedHandler(problem);
      reject(problem);
    };
    signal?.addEventListener('abort', () => request.abort());
    request.send(form);
  });
}

function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(new DOMException('The view was closed.', 'AbortError'));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    }, ms);
    signal.addEventListener('abort', abort, { once: true });
  });
}

/**
 * Follows a job until it is final. Calls `onJob` after each change. If the event stream breaks,
 * calls `onDisconnect` with the problem and the delay in milliseconds, waits, and then resumes the
 * stream after the last received event.
 */
export async function followJob(job_id, { onJob, onDisconnect, signal }) {
  const path = `/v1/jobs/${job_id}/events`;
  let lastEventId = null;
  let failures = 0;
  for (;;) {
    try {
      const isComplete = await readEventStream(path, lastEventId, signal, (id, job) => {
        lastEventId = id;
        failures = 0;
        onJob(job);
      });
      if (isComplete) return;
    } catch (error) {
      if (error?.name === 'AbortError' || (error instanceof Problem && !error.retryable)) throw error;
      failures += 1;
      const delay = Math.min(1000 * 2 ** (failures - 1), RECONNECT_DELAY_MAX_MS);
      onDisconnect(toProblem(error), delay);
      await sleep(delay, signal);
      // Polls the job in addition, because a proxy may block all event streams.
      const job = await requestJson('GET', `/v1/jobs/${job_id}`, { signal }).catch(() => null);
      if (job) onJob(job);
      if (job && isFinal(job)) return;
      continue;
    }
    await sleep(1000, signal);
  }
}

/** Reads one event stream to its end. Returns whether the final job has been received. */
async function readEventStream(path, lastEventId, signal, onEvent) {
  const idleTimeout = new AbortController();
  const closedOrIdle = AbortSignal.any([signal, idleTimeout.signal]);
  const startTimer = () => setTimeout(() => idleTimeout.abort(), IDLE_TIMEOUT_MS);
  let timer = startTimer();
  try {
    const more = { Accept: 'text/event-stream', ...(lastEventId && { 'Last-Event-ID': lastEventId }) };
    const response = await send('GET', path, { headers: more, signal: closedOrIdle });
    // The event with the final job was received earlier, and no more events follow.
    if (response.status === 204) return true;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let incomplete = '';
    let isComplete = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return isComplete;
      clearTimeout(timer);
      timer = startTimer();
      const blocks = (incomplete + value).split(/\r?\n\r?\n/);
      incomplete = blocks.pop();
      // Heartbeats are comments without data.
      for (const event of blocks.map(parseEvent).filter((event) => event.data)) {
        const job = JSON.parse(event.data);
        isComplete = isFinal(job);
        onEvent(event.id, job);
      }
    }
  } catch (error) {
    if (signal.aborted) throw new DOMException('The view was closed.', 'AbortError');
    throw error instanceof Problem ? error : unreachableProblem();
  } finally {
    clearTimeout(timer);
  }
}

function parseEvent(block) {
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

/** Downloads a response as a file. A plain link would not send the API key. */
export async function download(path, fileName) {
  const response = await send('GET', path, { headers: { Accept: '*/*' } });
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement('a');
  link.href = url;
  link.download = fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
