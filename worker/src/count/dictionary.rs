//! Words of scripts that are written without spaces, found with dictionaries.

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed, options::WordBreakInvariantOptions};

use super::{class::Kinds, segment::Stretch, words::Words};

/// A longer run is taken in pieces, so that unspaced text of any length needs this much memory.
const RUN_BYTES_MAX: usize = 16 * 1024;

/// Words that end this near to the end of a piece wait for the next one.
///
/// The segmenter takes the longest dictionary word at each place, so what follows matters as
/// far as that word may reach: no dictionary has one of this length.
const LOOK_AHEAD_BYTES: usize = 1024;

/// Writing systems that have a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// Han, Hiragana and Katakana, which Japanese mixes within one word.
    ChineseJapanese,
    Khmer,
    Lao,
    Myanmar,
    Thai,
}

/// An unbroken run of letters of one writing system.
pub(super) struct Run {
    text: String,
    segmenter: WordSegmenterBorrowed<'static>,
    composer: ComposingNormalizerBorrowed<'static>,
    kinds: Kinds,
}

impl Run {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            segmenter: WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()),
            composer: ComposingNormalizer::new_nfc(),
            kinds: Kinds::get(),
        }
    }

    /// Appends letters, or marks on the letter before.
    ///
    /// Invisible characters are left out, because the dictionaries do not know them.
    pub(super) fn push(&mut self, stretch: &Stretch<'_>, writing: Writing, words: &mut Words) {
        if stretch.kind.is_ignorable() {
            return;
        }
        words.add_letters(writing, stretch);
        if self.text.len().saturating_add(stretch.text.len()) > RUN_BYTES_MAX {
            self.compose();
            let decided = self.text.len().saturating_sub(LOOK_AHEAD_BYTES);
            let end = self.take_words(decided, writing, words);
            self.text.drain(..end);
        }
        self.text.push_str(stretch.text);
    }

    /// Ends the run: adds what is left of it.
    pub(super) fn finish(&mut self, writing: Writing, words: &mut Words) {
        self.compose();
        self.take_words(self.text.len(), writing, words);
        self.text.clear();
    }

    fn compose(&mut self) {
        if !self.composer.is_normalized(&self.text) {
            self.text = self.composer.normalize(&self.text).into_owned();
        }
    }

    /// Adds the words that end at or before `decided` and returns where the last of them ends.
    ///
    /// A mark stays with its letter. If no word ends there, the whole text is one word, so that the
    /// run cannot grow.
    fn take_words(&self, decided: usize, writing: Writing, words: &mut Words) -> usize {
        let mut start = 0;
        for end in self.segmenter.segment_str(&self.text) {
            if end > decided {
                break;
            }
            // What the dictionary does not know, the segmenter cuts at every character.
            let next = self.text.get(end..).and_then(|rest| rest.chars().next());
            if next.is_some_and(|c| self.kinds.of(c).class.extends()) {
                continue;
            }
            if let Some(word) = self.text.get(start..end).filter(|word| !word.is_empty()) {
                words.add_cut(word, writing);
            }
            start = end;
        }
        if start == 0 && !self.text.is_empty() {
            words.add_cut(&self.text, writing);
            start = self.text.len();
        }
        start
    }
}
