//! Hash table of words and their counts (ADR 41).
//!
//! Words of up to 16 bytes are packed into 24 bytes with their count, longer ones are in a map.
//! Words are counted in the form in which they are added: until they are normalized, `The` and
//! `the` are two words. Each distinct form is normalized only once, when the table exceeds its
//! limit or is finished, instead of at every occurrence.

mod packed_word;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use wordmill_common::histogram::Histogram;

pub(super) use self::packed_word::{SHORT_BYTES_MAX, pack};

use self::packed_word::{PackedWord, unpack};
use super::normalize::Normalizer;

/// Initial capacity for short words, enough for a text of about 1 kB.
const INITIAL_CAPACITY: usize = 224;

/// Words and their counts.
///
/// The memory is bounded by the maximum number of distinct words. Before normalization, the table
/// holds up to 1.5 times as many forms.
pub(super) struct WordTable {
    /// Words that [`pack`] accepts. A `HashTable`, because its entries can be compared without a
    /// conversion to a key type.
    short_words: HashTable<PackedWord>,
    /// Words that [`pack`] does not accept.
    long_words: HashMap<Box<str>, u64>,
    /// Hasher of `short_words`. Its seeds are random, so that a text cannot be crafted to be slow.
    hasher: DefaultHashBuilder,
    normalizer: Normalizer,
    /// Short words that were added since the last normalization and may need it.
    unnormalized: Vec<PackedWord>,
    /// Whether a long word was added that may need normalization.
    has_unnormalized_long: bool,
    /// Number of words above which all of them are normalized.
    normalize_above: usize,
    /// Maximum number of distinct words after normalization.
    unique_words_max: usize,
    /// Whether `unique_words_max` was exceeded.
    is_full: bool,
}

impl WordTable {
    pub(super) fn new(normalizer: Normalizer, unique_words_max: usize) -> Self {
        Self {
            short_words: HashTable::with_capacity(INITIAL_CAPACITY),
            long_words: HashMap::new(),
            hasher: DefaultHashBuilder::default(),
            normalizer,
            unnormalized: Vec::new(),
            has_unnormalized_long: false,
            normalize_above: unique_words_max,
            unique_words_max,
            is_full: false,
        }
    }

    /// Returns whether ASCII words must be added in lower case.
    pub(super) fn is_lowercasing(&self) -> bool {
        self.normalizer.is_lowercasing()
    }

    /// Counts an occurrence of a word in any form. The word must not be empty.
    pub(super) fn add(&mut self, word: &str) {
        match pack(word.as_bytes()) {
            Some((low, high)) => self.insert_short(low, high, 1),
            None => {
                self.has_unnormalized_long = true;
                self.insert_long(word, 1);
            }
        }
    }

    /// Counts an occurrence of a normalized ASCII word, which must not be empty.
    pub(super) fn add_normalized(&mut self, word: &str) {
        self.insert(word, 1);
    }

    /// Counts an occurrence of a normalized ASCII word in packed form: 1 to [`SHORT_BYTES_MAX`]
    /// bytes, and the last one is not zero.
    #[inline]
    pub(super) fn add_short(&mut self, low: u64, high: u64) {
        self.insert_short(low, high, 1);
    }

    /// Removes all words.
    pub(super) fn clear(&mut self) {
        self.short_words.clear();
        self.long_words.clear();
        self.unnormalized.clear();
        self.has_unnormalized_long = false;
        self.is_full = false;
    }

    /// Returns whether there were more distinct words than the table may hold.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Returns the normalized words, or `None` if there are more than the table may hold.
    pub(super) fn into_histogram(mut self) -> Option<Histogram> {
        self.normalize_words();
        if self.is_full || self.len() > self.unique_words_max {
            return None;
        }
        let long_bytes: usize = self.long_words.keys().map(|word| word.len()).sum();
        let short_bytes = self.short_words.len().saturating_mul(SHORT_BYTES_MAX);
        let mut text = Vec::with_capacity(short_bytes.saturating_add(long_bytes));
        let mut ends = Vec::with_capacity(self.len());
        for word in &self.short_words {
            let (bytes, length) = unpack(word);
            let end = text.len().saturating_add(length);
            // Copying all 16 bytes and truncating is faster than copying `length` bytes.
            text.extend_from_slice(&bytes);
            text.truncate(end);
            ends.push((end, word.count));
        }
        for (word, count) in self.long_words {
            text.extend_from_slice(word.as_bytes());
            ends.push((text.len(), count));
        }
        #[expect(clippy::expect_used, reason = "words are added as UTF-8")]
        let text = String::from_utf8(text).expect("words are valid UTF-8");
        Some(Histogram::from_distinct(text, &ends))
    }

    fn len(&self) -> usize {
        self.short_words.len().saturating_add(self.long_words.len())
    }

    fn insert(&mut self, word: &str, count: u64) {
        match pack(word.as_bytes()) {
            Some((low, high)) => self.insert_short(low, high, count),
            None => self.insert_long(word, count),
        }
    }

    #[inline]
    fn insert_short(&mut self, low: u64, high: u64, count: u64) {
        let word = PackedWord { low, high, count };
        let hash = word.hash(&self.hasher);
        // Most words are already in the table.
        if let Some(known) = self.short_words.find_mut(hash, |other| other.has_text_of(&word)) {
            known.count = known.count.saturating_add(count);
            return;
        }
        self.insert_new(hash, word);
    }

    /// Inserts a short word that the table does not contain.
    ///
    /// Not inlined: most words are already in the table, and [`WordTable::insert_short`] is faster
    /// if its code is short.
    #[inline(never)]
    fn insert_new(&mut self, hash: u64, word: PackedWord) {
        let hasher = &self.hasher;
        self.short_words.insert_unique(hash, word, |word| word.hash(hasher));
        if !word.is_normalized() {
            self.unnormalized.push(word);
        }
        self.normalize_if_needed();
    }

    fn insert_long(&mut self, word: &str, count: u64) {
        // The entry API needs an owned key, and most words are already in the table.
        if let Some(sum) = self.long_words.get_mut(word) {
            *sum = sum.saturating_add(count);
            return;
        }
        self.long_words.insert(word.into(), count);
        self.normalize_if_needed();
    }

    /// Normalizes all words if there are too many.
    #[inline]
    fn normalize_if_needed(&mut self) {
        if self.len() > self.normalize_above {
            self.normalize_words();
            self.is_full = self.len() > self.unique_words_max;
            // Normalizing takes time for each form, so the next normalization waits until the
            // number of words has grown by half. For example, with a limit of 1,000 and 900 words
            // left, it waits for 1,350 forms.
            let half_more = self.len().saturating_add(self.len() / 2);
            self.normalize_above = half_more.max(self.unique_words_max);
        }
    }

    /// Replaces every word with its normal form: `The` (2) and `the` (3) become `the` (5).
    fn normalize_words(&mut self) {
        if self.unnormalized.is_empty() && !self.has_unnormalized_long {
            return;
        }
        // The limit is still exceeded, and the insertions below must not start another
        // normalization. They add no words: each replaces a removed one. The caller sets the new
        // value.
        self.normalize_above = usize::MAX;
        let mut normalized = String::new();
        // Collected first, because an insertion can append to `unnormalized`.
        let mut short_changes: Vec<(PackedWord, String)> = Vec::new();
        for packed in &self.unnormalized {
            let (bytes, length) = unpack(packed);
            let word = bytes.get(..length).and_then(|word| str::from_utf8(word).ok());
            let word = word.unwrap_or_default();
            self.normalizer.write(word, &mut normalized);
            if normalized != word {
                short_changes.push((*packed, std::mem::take(&mut normalized)));
            }
        }
        for (packed, normalized) in short_changes {
            let count = self.remove(&packed);
            self.insert(&normalized, count);
        }
        let mut long_changes: Vec<(Box<str>, String)> = Vec::new();
        for word in self.long_words.keys() {
            self.normalizer.write(word, &mut normalized);
            if normalized != **word {
                long_changes.push((word.clone(), std::mem::take(&mut normalized)));
            }
        }
        for (word, normalized) in long_changes {
            let count = self.long_words.remove(&word).unwrap_or(0);
            self.insert(&normalized, count);
        }
        // The insertions above have appended non-ASCII normal forms such as `été`. They need not be
        // normalized again: normalization is idempotent (tested in `normalize`).
        self.unnormalized.clear();
        self.has_unnormalized_long = false;
    }

    /// Removes a short word and returns its count, or 0 if the table does not contain it.
    fn remove(&mut self, word: &PackedWord) -> u64 {
        let hash = word.hash(&self.hasher);
        match self.short_words.find_entry(hash, |other| other.has_text_of(word)) {
            Ok(entry) => entry.remove().0.count,
            Err(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use wordmill_common::options::{Case, Options};

    use super::*;

    fn table(case: Case, unique_words_max: usize) -> WordTable {
        let options = Options { case, ..Options::default() };
        WordTable::new(Normalizer::new(&options), unique_words_max)
    }

    #[test]
    fn words_of_any_length_are_counted() {
        let mut table = table(Case::Keep, 100_000);
        let words: Vec<String> = (0..20_000_u64).map(|n| format!("w{}", n * n * 37)).collect();
        let long: Vec<String> = (0..300).map(|n| "x".repeat(n + 1)).collect();
        for word in words.iter().chain(&long).chain(&words) {
            table.add(word);
        }
        let histogram = table.into_histogram().unwrap();
        let expected = words.iter().map(|word| (word.as_str(), 2));
        let expected = expected.chain(long.iter().map(|word| (word.as_str(), 1)));
        assert_eq!(histogram, expected.collect());
    }

    #[test]
    fn nul_is_an_ordinary_character() {
        let mut table = table(Case::Keep, 10);
        for word in ["a", "a\0", "\0", "\0a"] {
            table.add(word);
        }
        assert_eq!(table.into_histogram().unwrap().len(), 4);
    }

    #[test]
    fn forms_are_listed_under_their_normal_form() {
        let mut table = table(Case::Lower, 10);
        for word in ["Don\u{2019}t", "DON'T", "ÉTÉ", "e\u{301}te\u{301}", "\u{212a}", "k"] {
            table.add(word);
        }
        table.add_normalized("don't");
        let expected = [("don't", 3), ("été", 2), ("k", 2)];
        assert_eq!(table.into_histogram().unwrap(), expected.into_iter().collect());
    }

    #[test]
    fn a_table_is_full_above_its_limit() {
        let mut table = table(Case::Lower, 2);
        for word in ["a", "b", "a", "A", "B"] {
            table.add(word);
        }
        assert!(!table.is_full());
        table.add("c");
        assert!(table.is_full());
    }

    #[test]
    fn other_words_are_still_found_after_a_removal() {
        let mut table = table(Case::Lower, 100_000);
        let words: Vec<String> = (0..5_000_u64).map(|n| format!("{}", n * n * 37)).collect();
        for word in &words {
            table.add_normalized(word);
        }
        for (_, word) in words.iter().enumerate().filter(|(number, _)| number % 3 > 0) {
            let (low, high) = pack(word.as_bytes()).unwrap();
            assert_eq!(table.remove(&PackedWord { low, high, count: 0 }), 1, "{word}");
            assert_eq!(table.remove(&PackedWord { low, high, count: 0 }), 0, "{word}");
        }
        for word in &words {
            table.add_normalized(word);
        }
        let counts = words.iter().enumerate();
        let counts = counts.map(|(number, word)| (word, if number % 3 > 0 { 1 } else { 2 }));
        assert_eq!(table.into_histogram().unwrap(), counts.collect());
    }

    #[test]
    fn many_forms_of_few_words_fit() {
        let mut table = table(Case::Lower, 3);
        for variant in 0..100 {
            for word in ["größe", "mill", "river"] {
                let upper = |(i, c): (usize, char)| match (variant >> i) & 1 {
                    0 => c,
                    _ if c == 'ß' => c,
                    _ => c.to_uppercase().next().unwrap(),
                };
                table.add(&word.chars().enumerate().map(upper).collect::<String>());
            }
        }
        assert!(!table.is_full());
        assert!(table.len() <= 5);
    }
}
