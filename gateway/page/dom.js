// Elements, and formats of numbers, sizes and times. Untrusted content, such as words and file
// names, passes through `h` as text. No part of the page creates HTML from strings.

/**
 * Creates an element. Properties that begin with `on` are listeners. `false`, `null` and
 * `undefined` are skipped.
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

/** Isolates text from outside, which may have any language and direction. */
export function isolate(text, language) {
  return h('bdi', { lang: language || null }, text);
}

const integers = new Intl.NumberFormat('en');
const decimals = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

export function number(value) {
  return Number.isInteger(value) ? integers.format(value) : decimals.format(value);
}

/** Formats a difference with its sign. */
export function signed(value) {
  return value > 0 ? `+${number(value)}` : value < 0 ? `−${number(-value)}` : '0';
}

export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

export function bytes(value) {
  const units = ['bytes', 'kB', 'MB', 'GB'];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0 ? plural(value, 'byte') : `${value.toPrecision(3)} ${units[unit]}`;
}

export function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.round((seconds % 86400) / 3600)} h`;
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const calendar = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' });

/** Formats a timestamp, without the date if it is today. */
export function time(iso) {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  const text = isToday ? clock.format(date) : `${calendar.format(date)}, ${clock.format(date)}`;
  return h('time', { datetime: iso, title: iso }, text);
}

/** Announces a text to screen readers. */
export function announce(text) {
  document.getElementById('live').textContent = text;
}

/** Shows a problem with its code, and a button that calls `again`, if given. */
export function problemAlert(problem, again) {
  return h('div', { class: 'problem', role: 'alert' },
    h('p', null, h('strong', null, problem.title), '. ', problem.detail, ' ', h('code', null, problem.code)),
    again && h('button', { type: 'button', onclick: again }, 'Try again'));
}

/** Creates a term with its values for a list of details; nothing without values. */
export function entry(term, ...values) {
  const shown = values.flat().filter((value) => value !== null && value !== undefined && value !== false && value !== '');
  return shown.length > 0 && [h('dt', null, term), h('dd', null, ...shown)];
}
