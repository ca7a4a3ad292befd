// Function body that a test runs in a page. Counts the words of the displayed text: first as the
// browser shows the page, then after each step that applies a rule of docs/counting.md which
// browsers do not have. The steps are those of `STEPS` in pages.rs, in this order. ICU segments the
// text, and keys are formed as described in docs/counting.md.
//
// For the scope `main`, removes navigation first, and counts only the main content.
const [language, scope] = arguments;
let shown = [document.body];
if (scope === 'main') {
  const around = 'nav, search, aside:not([role=note]), [role=navigation], [role=search], [role=complementary]';
  for (const element of document.querySelectorAll(around)) element.remove();
  shown = [...document.querySelectorAll('main, [role=main]')];
}

const ignorable = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]/gu;
const segmenter = new Intl.Segmenter(language, {granularity: 'word'});

// Returns the words and their counts. `convert` changes a word, or returns '' if it is not a word.
function count(convert) {
  const counts = new Map();
  for (const {segment, isWordLike} of segmenter.segment(shown.map(element => element.innerText).join('\n'))) {
    if (!isWordLike) continue;
    const word = segment.normalize('NFC').replace(/[\u2019\u02bc\uff07]/g, "'")
      .replace(ignorable, '').toLowerCase().normalize('NFC');
    const key = convert(word);
    if (key !== '') counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts];
}

const steps = [count(word => word)];

// Folded text is counted.
for (const element of document.querySelectorAll('details, dialog')) element.open = true;
for (const element of document.querySelectorAll('[popover]')) element.removeAttribute('popover');
steps.push(count(word => word));

// Words end at boxes. A space at both sides can only split a word there.
const boxes = 'img, input, iframe, textarea, audio, video, canvas, meter, progress';
for (const box of document.querySelectorAll(boxes)) {
  if (!box.checkVisibility()) continue;
  box.before(' ');
  box.after(' ');
}
steps.push(count(word => word));

// A word has a letter or digit.
const hasLetter = word => /[\p{L}\p{Nd}\p{Nl}]/u.test(word);
steps.push(count(word => hasLetter(word) ? word : ''));

// The space U+202F stays only inside a word.
steps.push(count(word => hasLetter(word) ? word.replace(/^\u202f+|\u202f+$/g, '') : ''));

const meta = document.querySelector('meta[charset], meta[http-equiv=content-type i]');
const declaredCharset = meta?.getAttribute('charset') ?? meta?.content.match(/charset=([^\s;]+)/i)?.[1] ?? null;
return {charset: document.characterSet, declaredCharset, steps};
