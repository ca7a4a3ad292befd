//! The words met so far and how often.

use std::collections::HashMap;

use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed, CodePointSetData, CodePointSetDataBorrowed,
    props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup},
};
use wordmill_common::histogram::Histogram;

use super::key::{Case, KeyMaker};

/// The longest word that is kept, in bytes of UTF-8; longer ones are only counted.
pub(super) const WORD_BYTES_MAX: usize = 256;

/// Collects words. Its size is bounded by the number of different words it may hold.
pub(super) struct Table {
    counts: HashMap<String, u64>,
    unique_words_max: usize,
    words: u64,
    overlong_words: u64,
    /// Words met while the table was told not to list them.
    unlisted_words: u64,
    lists: bool,
    full: bool,
    key_maker: KeyMaker,
    key: String,
    category: CodePointMapDataBorrowed<'static, GeneralCategory>,
    ignorable: CodePointSetDataBorrowed<'static>,
}

impl Table {
    pub(super) fn new(case: Case, unique_words_max: usize) -> Self {
        Self {
            counts: HashMap::new(),
            unique_words_max,
            words: 0,
            overlong_words: 0,
            unlisted_words: 0,
            lists: true,
            full: false,
            key_maker: KeyMaker::new(case),
            key: String::new(),
            category: CodePointMapData::new(),
            ignorable: CodePointSetData::new::<DefaultIgnorableCodePoint>(),
        }
    }

    /// Adds `segment` if it is a word, which is: if it holds a letter or a digit.
    pub(super) fn add(&mut self, segment: &str) {
        if segment.chars().any(|c| self.makes_a_word(c)) {
            self.add_word(segment, segment.len());
        }
    }

    /// Adds a word of `bytes` bytes, of which `kept` are here (all, unless it is overlong).
    pub(super) fn add_word(&mut self, kept: &str, bytes: usize) {
        if !self.lists {
            self.unlisted_words = self.unlisted_words.saturating_add(1);
            return;
        }
        self.words = self.words.saturating_add(1);
        if bytes > WORD_BYTES_MAX {
            self.overlong_words = self.overlong_words.saturating_add(1);
            return;
        }
        self.key_maker.write(kept, &mut self.key);
        if let Some(count) = self.counts.get_mut(&self.key) {
            *count = count.saturating_add(1);
        } else if self.counts.len() < self.unique_words_max {
            self.counts.insert(self.key.clone(), 1);
        } else {
            self.full = true;
        }
    }

    /// Returns whether a segment with `c` in it is a word: letters, decimal digits, letter numbers.
    ///
    /// Excepted are letters that cannot be seen (Hangul fillers) and the letter apostrophe, which
    /// is listed as an apostrophe and is no word alone.
    pub(super) fn makes_a_word(&self, c: char) -> bool {
        if c.is_ascii() {
            return c.is_ascii_alphanumeric();
        }
        let category = self.category.get(c);
        let is_letter = GeneralCategoryGroup::Letter.contains(category)
            || matches!(category, GeneralCategory::DecimalNumber | GeneralCategory::LetterNumber);
        is_letter && c != '\u{2bc}' && !self.ignorable.contains(c)
    }

    /// Returns whether a word had to be left out because the table may not grow.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Decides whether words to come are part of the result, or only counted as unlisted.
    pub(super) const fn set_lists(&mut self, lists: bool) {
        self.lists = lists;
    }

    /// Takes every word out of the result that is in it so far.
    pub(super) fn unlist_all(&mut self) {
        self.unlisted_words = self.unlisted_words.saturating_add(self.words);
        self.words = 0;
        self.overlong_words = 0;
        self.counts.clear();
    }

    pub(super) const fn words(&self) -> u64 {
        self.words
    }

    pub(super) const fn unlisted_words(&self) -> u64 {
        self.unlisted_words
    }

    pub(super) const fn overlong_words(&self) -> u64 {
        self.overlong_words
    }

    pub(super) fn into_histogram(self) -> Histogram {
        Histogram::from(self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_without_letter_or_digit_are_no_words() {
        let mut table = Table::new(Case::Lower, 10);
        for segment in ["", " ", "___", "½", "²", "\u{301}", "❤\u{fe0f}", "\u{3164}", "\u{2bc}"]
        {
            table.add(segment);
        }
        assert_eq!(table.words(), 0);
        for segment in ["a", "5", "\u{2163}", "水", "٣"] {
            table.add(segment);
        }
        assert_eq!(table.words(), 5);
    }

    #[test]
    fn overlong_words_are_counted_but_not_kept() {
        let mut table = Table::new(Case::Lower, 10);
        table.add(&"a".repeat(WORD_BYTES_MAX));
        table.add(&"a".repeat(WORD_BYTES_MAX + 1));
        assert_eq!((table.words(), table.overlong_words()), (2, 1));
        assert_eq!(table.into_histogram().len(), 1);
    }

    #[test]
    fn a_full_table_stops_growing_and_says_so() {
        let mut table = Table::new(Case::Lower, 2);
        table.add("a");
        table.add("b");
        table.add("a");
        assert!(!table.is_full());
        table.add("c");
        assert!(table.is_full());
        assert_eq!(table.into_histogram().len(), 2);
    }
}
