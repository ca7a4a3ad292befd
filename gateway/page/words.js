// Table of all words, with search and sorting. It stays fast with tens of thousands of words.
//
// It is an HTML table, so it works with screen readers and the keyboard. Its rows are grouped in
// blocks. Only blocks near the visible part contain their rows. The others contain one empty row of
// the same height, which is measured, because long words wrap.

import { readLines, toProblem } from './api.js';
import { announce, formatNumber, h, isolate, plural, problemAlert } from './dom.js';

/** Maximum number of words in the table. It bounds the memory of the browser tab. */
const WORDS_MAX = 500_000;
/** Number of rows in a block. */
const BLOCK_ROWS = 100;
/** Assumed height of a row that has not been shown yet. */
const ROW_HEIGHT_PX = 33;

const collator = new Intl.Collator(undefined, { numeric: true });

/** Comparison functions by sort order. `frequent` is the order of the service. */
const ORDERS = {
  frequent: (a, b) => a.rank - b.rank,
  rare: (a, b) => b.rank - a.rank,
  ascending: (a, b) => collator.compare(a.word, b.word) || a.rank - b.rank,
  descending: (a, b) => collator.compare(b.word, a.word) || b.rank - a.rank,
};

export function wordTable(job, language, signal) {
  const place = h('div', { class: 'words' }, h('p', { class: 'note' }, 'Loading …'));
  const load = () => fetchWords(job, signal)
    .then((words) => place.replaceChildren(...searchableTable(words, job.totals, language, signal)))
    .catch((error) => {
      const problem = toProblem(error);
      if (problem) place.replaceChildren(problemAlert(problem, load));
    });
  load();
  return place;
}

async function fetchWords(job, signal) {
  const root = job.source.kind === 'batch' ? '/v1/batches' : '/v1/jobs';
  const words = [];
  // NDJSON instead of one object: JavaScript moves keys that are integers to the front.
  for await (const entries of readLines(`${root}/${job.job_id}/result?format=ndjson&top=${WORDS_MAX}`, signal)) {
    for (const { word, count } of entries) words.push({ word, count, rank: words.length, searchKey: searchKey(word) });
  }
  return words;
}

/**
 * Normalizes a word for the search: ignores case, and accents of Latin, Greek and Cyrillic letters.
 * Keeps the marks of other scripts, because they distinguish words.
 */
function searchKey(text) {
  return text.normalize('NFD').replace(/[\u0300-\u036f]/g, '').toLowerCase();
}

function searchableTable(words, totals, language, signal) {
  const state = { order: 'frequent', query: '' };
  const note = h('p', { class: 'note', id: 'found-words', role: 'status' });
  const search = h('input', { type: 'search', id: 'search', autocomplete: 'off', spellcheck: 'false', dir: 'auto', 'aria-describedby': 'found-words' });
  const byWord = h('button', { type: 'button' }, 'Word');
  const byCount = h('button', { type: 'button' }, 'Count');
  const wordHead = h('th', { scope: 'col' }, byWord);
  const countHead = h('th', { scope: 'col', class: 'number' }, byCount);
  const body = h('table', { class: 'all' }, h('caption', { class: 'unseen' }, 'All words'), h('thead', null, h('tr', { 'aria-rowindex': '1' },
    wordHead, countHead, h('th', { scope: 'col', class: 'number' }, 'Share'))));
  const scroll = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'List of all words' }, body);
  const blocks = new RowBlocks(body, scroll, language, totals.words, signal);

  const show = () => {
    const matches = (state.query ? words.filter((entry) => entry.searchKey.includes(state.query)) : [...words]).sort(ORDERS[state.order]);
    blocks.fill(matches);
    wordHead.setAttribute('aria-sort', ['ascending', 'descending'].includes(state.order) ? state.order : 'none');
    countHead.setAttribute('aria-sort', { frequent: 'descending', rare: 'ascending' }[state.order] ?? 'none');
    const omitted = totals.unique_words - words.length;
    const hint = omitted > 0 ? ` The download has ${plural(omitted, 'more, less frequent word')}.` : '';
    note.textContent = (state.query ? `${formatNumber(matches.length)} of ${plural(words.length, 'word')}` : plural(words.length, 'unique word')) + `.${hint}`;
  };
  let searchTimer = 0;
  search.addEventListener('input', () => {
    clearTimeout(searchTimer);
    searchTimer = setTimeout(() => {
      state.query = searchKey(search.value.trim());
      show();
    }, 80);
  });
  const sort = (first, second) => () => {
    state.order = state.order === first ? second : first;
    show();
    announce(`Sorted: ${{ frequent: 'most frequent first', rare: 'least frequent first', ascending: 'by word, ascending', descending: 'by word, descending' }[state.order]}`);
  };
  byWord.addEventListener('click', sort('ascending', 'descending'));
  byCount.addEventListener('click', sort('frequent', 'rare'));
  show();
  return [h('div', { class: 'row' }, h('label', { for: 'search' }, 'Search'), search, note), scroll];
}

/** Rows of the table, in blocks. Only blocks near the visible part contain their rows. */
class RowBlocks {
  constructor(table, scroll, language, total, signal) {
    Object.assign(this, { table, scroll, language, total, entries: [] });
    this.observer = new IntersectionObserver((changes) => changes.forEach((change) => this.onIntersection(change)), { root: scroll, rootMargin: '600px 0px' });
    signal.addEventListener('abort', () => this.observer.disconnect());
    // The browser's handling of these keys stops before the end, because the heights of blocks
    // change while it scrolls.
    const actions = { Home: () => this.scrollToStart(), End: () => this.scrollToEnd() };
    scroll.addEventListener('keydown', (event) => {
      if (!Object.hasOwn(actions, event.key) || event.altKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      actions[event.key]();
    });
  }

  fill(entries) {
    this.observer.disconnect();
    this.entries = entries;
    for (const old of [...this.table.tBodies]) old.remove();
    this.table.setAttribute('aria-rowcount', String(entries.length + 1));
    for (let first = 0; first < entries.length; first += BLOCK_ROWS) {
      const block = h('tbody', { 'data-first': String(first) });
      this.removeRows(block, Math.min(BLOCK_ROWS, entries.length - first) * ROW_HEIGHT_PX);
      this.table.append(block);
      this.observer.observe(block);
    }
    this.scrollToStart();
  }

  // Fills the block immediately. The observer would do so only after scrolling.
  scrollToStart() {
    this.showBlock(this.table.tBodies[0]);
    this.scroll.scrollTop = 0;
  }

  scrollToEnd() {
    this.showBlock([...this.table.tBodies].at(-1));
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }

  showBlock(block) {
    if (block && block.dataset.filled !== 'yes') this.insertRows(block);
  }

  onIntersection({ target, isIntersecting, boundingClientRect }) {
    const isFilled = target.dataset.filled === 'yes';
    if (isIntersecting) this.showBlock(target);
    // Keeps a block that has the focus, which would be lost with its rows.
    if (!isIntersecting && isFilled && !target.contains(document.activeElement)) this.removeRows(target, boundingClientRect.height);
  }

  removeRows(block, height) {
    const gap = h('td', { colspan: '3' });
    gap.style.blockSize = `${height}px`;
    block.replaceChildren(h('tr', { class: 'gap', 'aria-hidden': 'true' }, gap));
    block.dataset.filled = 'no';
  }

  insertRows(block) {
    const first = Number(block.dataset.first);
    const rows = this.entries.slice(first, first + BLOCK_ROWS).map(({ word, count }, i) => h('tr', { 'aria-rowindex': String(first + i + 2) },
      h('td', null, isolate(word, this.language)),
      h('td', { class: 'number' }, formatNumber(count)),
      h('td', { class: 'number note' }, formatShare(count / this.total))));
    block.replaceChildren(...rows);
    block.dataset.filled = 'yes';
  }
}

function formatShare(fraction) {
  const percent = fraction * 100;
  return percent < 0.01 ? '< 0.01 %' : `${percent.toFixed(percent < 1 ? 2 : 1)} %`;
}
