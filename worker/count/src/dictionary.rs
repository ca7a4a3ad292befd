//! Words of scripts that are written without spaces, found with dictionaries.

use std::sync::LazyLock;

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed, options::WordBreakInvariantOptions};

use super::{
    char_class::{Kinds, Writing},
    cjk_segmenter::{Cut, Lexicon},
    stretch::Stretch,
    word_sink::Words,
};

/// A longer run is taken in pieces, so that unspaced text of any length needs this much memory.
const RUN_BYTES_MAX: usize = 16 * 1024;

/// Words that end this near to the end of a piece wait for the next one.
///
/// What follows matters as far as a word may reach, and where ways to cut are weighed, until they
/// have a cut in common: after a few words.
const LOOK_AHEAD_BYTES: usize = 1024;

/// Returns the dictionaries of `icu_segmenter`, found once in a process: few documents need them.
fn segmenter() -> WordSegmenterBorrowed<'static> {
    static SEGMENTER: LazyLock<WordSegmenterBorrowed<'static>> =
        LazyLock::new(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));
    *SEGMENTER
}

/// An unbroken run of letters of one writing system.
pub(super) struct Run {
    text: String,
    /// Whether every character is known to be in normal form.
    is_plain: bool,
    composer: ComposingNormalizerBorrowed<'static>,
    kinds: Kinds,
    cut: Cut,
}

impl Run {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            is_plain: true,
            composer: ComposingNormalizer::new_nfc(),
            kinds: Kinds::get(),
            cut: Cut::default(),
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
        self.is_plain &= stretch.kind.is_plain();
        let mut rest = stretch.text;
        // Pieces end where the run says so, and not where what was pushed at once does.
        while let Some((piece, more)) = rest.split_at_checked(self.room_in(rest)) {
            self.text.push_str(piece);
            rest = more;
            if rest.is_empty() {
                break;
            }
            let end = self.take_words(LOOK_AHEAD_BYTES, writing, words);
            self.text.drain(..end);
        }
    }

    /// Returns how much of a text this piece of the run still takes.
    fn room_in(&self, text: &str) -> usize {
        text.floor_char_boundary(RUN_BYTES_MAX.saturating_sub(self.text.len()))
    }

    /// Ends the run: adds what is left of it.
    pub(super) fn finish(&mut self, writing: Writing, words: &mut Words) {
        self.take_words(0, writing, words);
        self.text.clear();
        self.is_plain = true;
    }

    /// Adds the words that end before the last `open` bytes, and returns where the last of them ends.
    fn take_words(&mut self, open: usize, writing: Writing, words: &mut Words) -> usize {
        if !self.is_plain {
            self.compose();
        }
        match Lexicon::get().filter(|_| writing == Writing::ChineseJapanese) {
            Some(lexicon) => {
                lexicon.cut(&self.text, &mut self.cut);
                self.add_words(self.cut.ends(&self.text), open, writing, words)
            }
            None => self.add_words(segmenter().segment_str(&self.text), open, writing, words),
        }
    }

    fn compose(&mut self) {
        if !self.composer.is_normalized(&self.text) {
            self.text = self.composer.normalize(&self.text).into_owned();
        }
    }

    /// Adds the words up to the first that ends in the last `open` bytes.
    ///
    /// A mark stays with its letter. If no word ends there, the whole text is one word, so that the
    /// run cannot grow.
    fn add_words(
        &self,
        ends: impl Iterator<Item = usize>,
        open: usize,
        writing: Writing,
        words: &mut Words,
    ) -> usize {
        let decided = self.text.len().saturating_sub(open);
        let mut start = 0;
        for end in ends {
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
