// All words: a table with search and sorting that stays fast with tens of thousands of words.
//
// It is an HTML table, so that screen readers and the keyboard can use it. Its rows are grouped in
// blocks. Only blocks near the visible part contain their rows; the others are an empty row of the
// same height. The height is measured, because long words wrap.

import { lines, problemOf } from './api.js';
import { announce, isolate, h, number, plural, problemAlert } from './dom.js';

/** Maximum number of words in the table, so that the memory of the page is bounded. */
const WORDS_MAX = 500_000;
/** Number of rows in a block. */
const BLOCK = 100;
/** Assumed height in pixels of a row that has not been shown yet. */
const ROW_HEIGHT = 33;

const collator = new Intl.Collator(undefined, { numeric: true });

/** Comparison functions of the sort orders. `frequent` is the order of the service. */
const ORDERS = {
  frequent: (a, b) => a.rank - b.rank,
  rare: (a, b) => b.rank - a.rank,
  ascending: (a, b) => collator.compare(a.word, b.word) || a.rank - b.rank,
  descending: (a, b) => collator.compare(b.word, a.word) || b.rank - a.rank,
};

export function wordTable(job, language, signal) {
  const place = h('div', { class: 'words' }, h('p', { class: 'note' }, 'Reading the words …'));
  const load = () => read(job, signal)
    .then((words) => place.replaceChildren(...table(words, job.totals, language, signal)))
    .catch((error) => {
      const problem = problemOf(error);
      if (problem) place.replaceChildren(problemAlert(problem, load));
    });
  load();
  return place;
}

async function read(job, signal) {
  const root = job.source.kind === 'batch' ? '/v1/batches' : '/v1/jobs';
  const words = [];
  // NDJSON instead of one object: JavaScript moves members whose names are integers to the front.
  for await (const some of lines(`${root}/${job.job_id}/result?format=ndjson&top=${WORDS_MAX}`, signal)) {
    for (const { word, count } of some) words.push({ word, count, rank: words.length, searchKey: searchKey(word) });
  }
  return words;
}

/**
 * Normalizes a word for the search: without case, and without accents of Latin, Greek and Cyrillic
 * letters. Marks of other scripts are kept, because they distinguish words.
 */
function searchKey(text) {
  return text.normalize('NFD').replace(/[\u0300-\u036f]/g, '').toLowerCase();
}

function table(words, totals, language, signal) {
  const state = { order: 'frequent', wanted: '' };
  const note = h('p', { class: 'note', id: 'found-words', role: 'status' });
  const search = h('input', { type: 'search', id: 'search', autocomplete: 'off', spellcheck: 'false', dir: 'auto', 'aria-describedby': 'found-words' });
  const byWord = h('button', { type: 'button' }, 'Word');
  const byCount = h('button', { type: 'button' }, 'Count');
  const wordHead = h('th', { scope: 'col' }, byWord);
  const countHead = h('th', { scope: 'col', class: 'number' }, byCount);
  const body = h('table', { class: 'all' }, h('caption', { class: 'unseen' }, 'All words'), h('thead', null, h('tr', { 'aria-rowindex': '1' },
    wordHead, countHead, h('th', { scope: 'col', class: 'number' }, 'Share'))));
  const scroll = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'List of all words' }, body);
  const blocks = new Blocks(body, scroll, language, totals.words, signal);

  const show = () => {
    const found = (state.wanted ? words.filter((entry) => entry.searchKey.includes(state.wanted)) : [...words]).sort(ORDERS[state.order]);
    blocks.fill(found);
    wordHead.setAttribute('aria-sort', ['ascending', 'descending'].includes(state.order) ? state.order : 'none');
    countHead.setAttribute('aria-sort', { frequent: 'descending', rare: 'ascending' }[state.order] ?? 'none');
    const left = totals.unique_words - words.length;
    const rest = left > 0 ? ` The download has ${number(left)} more, which are rarer.` : '';
    note.textContent = (state.wanted ? `${number(found.length)} of ${plural(words.length, 'word')}` : plural(words.length, 'different word')) + `.${rest}`;
  };
  let typing = 0;
  search.addEventListener('input', () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      state.wanted = searchKey(search.value.trim());
      show();
    }, 80);
  });
  const sort = (first, second) => () => {
    state.order = state.order === first ? second : first;
    show();
    announce(`Sorted: ${{ frequent: 'most frequent first', rare: 'rarest first', ascending: 'by word, ascending', descending: 'by word, descending' }[state.order]}`);
  };
  byWord.addEventListener('click', sort('ascending', 'descending'));
  byCount.addEventListener('click', sort('frequent', 'rare'));
  show();
  return [h('div', { class: 'row' }, h('label', { for: 'search' }, 'Search'), search, note), scroll];
}

/** The rows of the table in blocks. Only blocks near the visible part contain their rows. */
class Blocks {
  constructor(table, scroll, language, total, signal) {
    Object.assign(this, { table, scroll, language, total, entries: [] });
    this.observer = new IntersectionObserver((seen) => seen.forEach((one) => this.onIntersection(one)), { root: scroll, rootMargin: '600px 0px' });
    signal.addEventListener('abort', () => this.observer.disconnect());
    // The browser's own handling of these keys stops before the end, because the heights of blocks
    // change while it scrolls.
    const ends = { Home: () => this.begin(), End: () => this.end() };
    scroll.addEventListener('keydown', (event) => {
      if (!Object.hasOwn(ends, event.key) || event.altKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      ends[event.key]();
    });
  }

  fill(entries) {
    this.observer.disconnect();
    this.entries = entries;
    for (const old of [...this.table.tBodies]) old.remove();
    this.table.setAttribute('aria-rowcount', String(entries.length + 1));
    for (let first = 0; first < entries.length; first += BLOCK) {
      const block = h('tbody', { 'data-first': String(first) });
      this.empty(block, Math.min(BLOCK, entries.length - first) * ROW_HEIGHT);
      this.table.append(block);
      this.observer.observe(block);
    }
    this.begin();
  }

  // Fills the block at once. The observer would do so only after scrolling.
  begin() {
    this.show(this.table.tBodies[0]);
    this.scroll.scrollTop = 0;
  }

  end() {
    this.show([...this.table.tBodies].at(-1));
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  show(block) {
    if (block && block.dataset.filled !== 'yes') this.rows(block);
  }

  onIntersection({ target, isIntersecting, boundingClientRect }) {
    const isFilled = target.dataset.filled === 'yes';
    if (isIntersecting) this.show(target);
    // Keeps a block that has the focus, which would be lost with its rows.
    if (!isIntersecting && isFilled && !target.contains(document.activeElement)) this.empty(target, boundingClientRect.height);
  }

  empty(block, height) {
    const gap = h('td', { colspan: '3' });
    gap.style.blockSize = `${height}px`;
    block.replaceChildren(h('tr', { class: 'gap', 'aria-hidden': 'true' }, gap));
    block.dataset.filled = 'no';
  }

  rows(block) {
    const first = Number(block.dataset.first);
    const rows = this.entries.slice(first, first + BLOCK).map(({ word, count }, i) => h('tr', { 'aria-rowindex': String(first + i + 2) },
      h('td', null, isolate(word, this.language)),
      h('td', { class: 'number' }, number(count)),
      h('td', { class: 'number note' }, share(count / this.total))));
    block.replaceChildren(...rows);
    block.dataset.filled = 'yes';
  }
}

function share(part) {
  const percent = part * 100;
  return percent < 0.01 ? '< 0.01 %' : `${percent.toFixed(percent < 1 ? 2 : 1)} %`;
}
