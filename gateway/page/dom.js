// Creates elements, and formats numbers, sizes and times. Untrusted content, such as words and file
// names, passes through `h` as text. The UI never creates HTML from strings.

/**
 * Creates an element. Properties that begin with `on` are event listeners, all others are
 * attributes. Properties and children that are `false`, `null` or `undefined` are skipped.
 */
export function h(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Creates a section with its heading in the margin. */
export function section(title, ...children) {
  return h('section', null, h('h2', null, title), h('div', { class: 'matter' }, ...children));
}

/** Creates the heading of a view. It receives the focus when the view is opened. */
export function title(...children) {
  return h('h1', { tabindex: '-1' }, ...children);
}

/** Isolates untrusted text, which may have any language and writing direction. */
export function isolate(text, language) {
  return h('bdi', { lang: language || null }, text);
}

const integers = new Intl.NumberFormat('en');
const decimals = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

export function formatNumber(value) {
  return Number.isInteger(value) ? integers.format(value) : decimals.format(value);
}

/** Formats a difference with a plus or minus sign. */
export function formatSigned(value) {
  return value > 0 ? `+${formatNumber(value)}` : value < 0 ? `−${formatNumber(-value)}` : '0';
}

export function plural(count, one, many = `${one}s`) {
  return `${formatNumber(count)} ${count === 1 ? one : many}`;
}

export function formatBytes(value) {
  const units = ['bytes', 'kB', 'MB', 'GB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0 ? plural(value, 'byte') : `${value.toPrecision(3)} ${units[unit]}`;
}

export function formatDuration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round((seconds % 86400) / 3600)} h`;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const calendar = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

/** Creates a `time` element for a timestamp. It shows the date unless that is today. */
export function timeElement(iso) {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  const text = isToday ? clock.format(date) : `${calendar.format(date)}, ${clock.format(date)}`;
  return h('time', { datetime: iso, title: iso }, text);
}

/** Announces text to screen readers. */
export function announce(text) {
  document.getElementById('live').textContent = text;
}

/** Creates an alert with a problem and its code. A button calls `retry`, if given. */
export function problemAlert(problem, retry) {
  return h('div', { class: 'problem', role: 'alert' },
    h('p', null, h('strong', null, problem.title), '. ', problem.detail, ' ', h('code', null, problem.code)),
    retry && h('button', { type: 'button', onclick: retry }, 'Try again'));
}

/** Creates a term with its values for a `dl`. Returns `false` if all values are empty. */
export function entry(term, ...values) {
  const shownValues = values.flat().filter((value) => value !== null && value !== undefined && value !== false && value !== '');
  return shownValues.length > 0 && [h('dt', null, term), h('dd', null, ...shownValues)];
}
