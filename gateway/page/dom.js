// Elements, and how numbers, sizes and times are written. Whatever comes from a document, a file's name or
// an answer goes through `h` as text: nothing here, and nothing on this page, makes HTML out of a string.

/** Makes an element. Properties that begin with `on` are listeners; `false`, `null` and `undefined` are left out. */
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

/** A part of the page: its heading stands in the margin. */
export function section(title, ...children) {
  return h('section', null, h('h2', null, title), h('div', { class: 'matter' }, ...children));
}

/** The heading of a view. It takes the focus when the view is opened. */
export function title(...children) {
  return h('h1', { tabindex: '-1' }, ...children);
}

/** Text of somebody else, in whatever direction and language. */
export function foreign(text, language) {
  return h('bdi', { lang: language || null }, text);
}

const integers = new Intl.NumberFormat('en');
const decimals = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });

export function number(value) {
  return Number.isInteger(value) ? integers.format(value) : decimals.format(value);
}

/** A difference, with its sign. */
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

/** A point in time: the hour alone if it was today. */
export function time(iso) {
  const date = new Date(iso);
  const isToday = date.toDateString() === new Date().toDateString();
  const text = isToday ? clock.format(date) : `${calendar.format(date)}, ${clock.format(date)}`;
  return h('time', { datetime: iso, title: iso }, text);
}

/** Says something to whoever listens instead of looking. */
export function announce(text) {
  document.getElementById('live').textContent = text;
}

/** What went wrong, in words, with its code; `again` is offered where it may help. */
export function trouble(problem, again) {
  return h('div', { class: 'trouble', role: 'alert' },
    h('p', null, h('strong', null, problem.title), '. ', problem.detail, ' ', h('code', null, problem.code)),
    again && h('button', { type: 'button', onclick: again }, 'Try again'));
}

/** A term and what it is, for a receipt; nothing if there is nothing to say. */
export function entry(term, ...values) {
  const said = values.flat().filter((value) => value !== null && value !== undefined && value !== false && value !== '');
  return said.length > 0 && [h('dt', null, term), h('dd', null, ...said)];
}
