//! Hash table of words and their counts (ADR 36).
//!
//! Words of up to 16 bytes are in slots of 24 bytes (open addressing, linear probing), longer ones
//! in a `HashMap`. Words are counted in the form in which they are added: until they are
//! normalized, `The` and `the` are two words. Each distinct form is normalized only once, when the
//! table exceeds its limit or is finished, instead of at every occurrence.

mod hash;
mod slot;

use std::collections::HashMap;

use wordmill_common::histogram::Histogram;

pub(super) use self::slot::{SHORT_BYTES_MAX, pack};

use self::{
    hash::Seeds,
    slot::{Slot, unpack},
};
use super::normalize::Normalizer;

/// Number of slots of a new table. The number of slots is always a power of two.
const SLOTS_MIN: usize = 1024;

/// Maximum probe length before the table is rehashed with other seeds.
///
/// At most half of the slots are occupied, so a probe of this length does not occur by chance: in a
/// table of millions of words, the maximum is below 100.
const PROBE_LENGTH_MAX: usize = 256;

/// Number of slots from which a table may be half full. A smaller table may be a quarter full.
const LARGE_TABLE_SLOTS_MIN: usize = 8192;

/// Words and their counts.
///
/// The memory is bounded by the maximum number of distinct words. Before normalization, the table
/// holds up to 1.5 times as many forms.
pub(super) struct WordTable {
    /// Words that [`pack`] accepts. Open addressing with linear probing.
    slots: Vec<Slot>,
    /// Number of occupied slots.
    short_words: usize,
    /// Maximum of `short_words`. When it is exceeded, the number of slots is doubled.
    short_words_max: usize,
    /// Words that [`pack`] does not accept. They are hashed with a copy of the first seeds.
    long_words: HashMap<Box<str>, u64, Seeds>,
    /// Seeds of `slots`, replaced by a rehash.
    seeds: Seeds,
    normalizer: Normalizer,
    /// Short words that were added since the last normalization and may need it.
    unnormalized: Vec<Slot>,
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
        let seeds = Seeds::new();
        Self {
            slots: vec![Slot::default(); SLOTS_MIN],
            short_words: 0,
            short_words_max: short_words_max(SLOTS_MIN),
            long_words: HashMap::with_hasher(seeds),
            seeds,
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
        self.slots.fill(Slot::default());
        self.short_words = 0;
        self.long_words.clear();
        self.unnormalized.clear();
        self.has_unnormalized_long = false;
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
        let short_bytes = self.short_words.saturating_mul(SHORT_BYTES_MAX);
        let mut text = Vec::with_capacity(short_bytes.saturating_add(long_bytes));
        let mut ends = Vec::with_capacity(self.len());
        for slot in occupied_slots(&self.slots) {
            let (bytes, length) = unpack(slot);
            let end = text.len().saturating_add(length);
            // Copying all 16 bytes and truncating is faster than copying `length` bytes.
            text.extend_from_slice(&bytes);
            text.truncate(end);
            ends.push((end, slot.count));
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
        self.short_words.saturating_add(self.long_words.len())
    }

    fn insert(&mut self, word: &str, count: u64) {
        match pack(word.as_bytes()) {
            Some((low, high)) => self.insert_short(low, high, count),
            None => self.insert_long(word, count),
        }
    }

    #[inline]
    fn insert_short(&mut self, low: u64, high: u64, count: u64) {
        let home = self.seeds.hash(low, high);
        let mut index = home;
        // The number of slots is a power of two, so `& mask` is the remainder and wraps around.
        let mask = self.slots.len().wrapping_sub(1);
        // At least half of the slots are free, so the probe ends.
        while let Some(slot) = self.slots.get_mut(index & mask) {
            // Compare first, because most words are already in the table. A free slot is all zeros
            // and matches no word: the last byte of a packed word is not zero.
            if slot.low == low && slot.high == high {
                slot.count = slot.count.saturating_add(count);
                return;
            }
            if slot.count == 0 {
                let new_slot = Slot { low, high, count };
                *slot = new_slot;
                self.finish_insert(new_slot, index.wrapping_sub(home));
                return;
            }
            index = index.wrapping_add(1);
        }
    }

    /// Updates the table after a new word was inserted, `probe_length` slots behind its home slot:
    /// rehashes and grows it if needed.
    ///
    /// Not inlined: most words are already in the table, and the probe loop is faster if its code
    /// is short.
    #[inline(never)]
    fn finish_insert(&mut self, slot: Slot, probe_length: usize) {
        self.short_words = self.short_words.saturating_add(1);
        if !slot.is_normalized() {
            self.unnormalized.push(slot);
        }
        if probe_length > PROBE_LENGTH_MAX {
            self.rehash();
        }
        self.grow_if_needed();
    }

    /// Moves all short words to other slots with new seeds. Only necessary after many hash
    /// collisions, for example in a text that is designed to cause them.
    #[cold]
    fn rehash(&mut self) {
        self.seeds = Seeds::new();
        self.resize(self.slots.len());
    }

    fn insert_long(&mut self, word: &str, count: u64) {
        // The entry API needs an owned key, and most words are already in the table.
        if let Some(sum) = self.long_words.get_mut(word) {
            *sum = sum.saturating_add(count);
            return;
        }
        self.long_words.insert(word.into(), count);
        self.grow_if_needed();
    }

    /// Keeps at least half of the slots free, and the number of words within its limit.
    #[inline]
    fn grow_if_needed(&mut self) {
        if self.short_words > self.short_words_max || self.len() > self.normalize_above {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        if self.short_words > self.short_words_max {
            self.resize(self.slots.len().saturating_mul(2));
        }
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

    /// Moves all short words to `slots` new slots, with the current seeds.
    #[inline(never)]
    fn resize(&mut self, slots: usize) {
        self.short_words_max = short_words_max(slots);
        let old_slots = std::mem::replace(&mut self.slots, vec![Slot::default(); slots]);
        if old_slots.len() < LARGE_TABLE_SLOTS_MIN {
            self.short_words = 0;
            for slot in occupied_slots(&old_slots) {
                self.insert_new(*slot);
            }
            return;
        }
        let total = old_slots.iter().fold(0, |total: u64, slot| total.saturating_add(slot.count));
        let words = u64::try_from(self.short_words).unwrap_or(u64::MAX).max(1);
        let is_frequent = |slot: &&Slot| slot.count > total / words;
        self.short_words = 0;
        // Insert words with more than the average count first. They get their home slots or slots
        // nearby, and are found with short probes. Most of a text consists of them.
        for slot in old_slots.iter().filter(is_frequent) {
            self.insert_new(*slot);
        }
        for slot in old_slots.iter().filter(|slot| slot.count > 0 && !is_frequent(slot)) {
            self.insert_new(*slot);
        }
    }

    /// Inserts a word that the table does not contain. At least one slot must be free.
    fn insert_new(&mut self, new_slot: Slot) {
        let mut index = self.seeds.hash(new_slot.low, new_slot.high);
        let mask = self.slots.len().wrapping_sub(1);
        while let Some(slot) = self.slots.get_mut(index & mask) {
            if slot.count == 0 {
                *slot = new_slot;
                self.short_words = self.short_words.saturating_add(1);
                return;
            }
            index = index.wrapping_add(1);
        }
    }

    /// Replaces every word with its normal form: `The` (2) and `the` (3) become `the` (5).
    fn normalize_words(&mut self) {
        if self.unnormalized.is_empty() && !self.has_unnormalized_long {
            return;
        }
        // The limit is still exceeded, and the insertions below must not start another
        // normalization. They add no words: each replaces a removed one. `grow` sets the new value.
        self.normalize_above = usize::MAX;
        let mut normalized = String::new();
        // Collected first, because an insertion can append to `unnormalized`.
        let mut short_changes: Vec<(Slot, String)> = Vec::new();
        for slot in &self.unnormalized {
            let (bytes, length) = unpack(slot);
            let word = bytes.get(..length).and_then(|word| str::from_utf8(word).ok());
            let word = word.unwrap_or_default();
            self.normalizer.write(word, &mut normalized);
            if normalized != word {
                short_changes.push((*slot, std::mem::take(&mut normalized)));
            }
        }
        for (slot, normalized) in short_changes {
            let count = self.remove(&slot);
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

    /// Removes a word and returns its count, or 0 if the table does not contain it.
    ///
    /// The words behind it move up (backward-shift deletion). A free slot between the home slot of
    /// a word and its slot would end the probe before the word is found.
    fn remove(&mut self, word: &Slot) -> u64 {
        let mask = self.slots.len().wrapping_sub(1);
        let mut hole = self.seeds.hash(word.low, word.high) & mask;
        let count = loop {
            match self.slots.get(hole) {
                Some(slot) if slot.low == word.low && slot.high == word.high => break slot.count,
                Some(slot) if slot.count > 0 => hole = hole.wrapping_add(1) & mask,
                _ => return 0,
            }
        };
        let mut index = hole;
        loop {
            index = index.wrapping_add(1) & mask;
            let Some(slot) = self.slots.get(index).copied().filter(|slot| slot.count > 0) else {
                break;
            };
            // Distances from `index` backwards, wrapping around the end of the table. The word may
            // move into the hole unless its home is behind the hole. For example, with the hole at
            // 5, a word at 7 with home 4 moves (3 >= 2). One with home 6 stays (1 < 2), because a
            // probe that starts at 6 does not visit 5.
            let to_home = index.wrapping_sub(self.seeds.hash(slot.low, slot.high)) & mask;
            let to_hole = index.wrapping_sub(hole) & mask;
            if to_home >= to_hole {
                self.set_slot(hole, slot);
                hole = index;
            }
        }
        self.set_slot(hole, Slot::default());
        self.short_words = self.short_words.saturating_sub(1);
        count
    }

    fn set_slot(&mut self, index: usize, slot: Slot) {
        if let Some(target) = self.slots.get_mut(index) {
            *target = slot;
        }
    }
}

/// Returns the maximum number of short words in a table of `slots` slots.
const fn short_words_max(slots: usize) -> usize {
    if slots < LARGE_TABLE_SLOTS_MIN { slots / 4 } else { slots / 2 }
}

/// Iterates over the occupied slots.
///
/// The processor cannot predict which slots are occupied, and a misprediction costs more than the
/// work for a slot. So a loop without branches collects the occupancy of 64 slots as bits of one
/// number, and then the set bits are visited.
fn occupied_slots(slots: &[Slot]) -> impl Iterator<Item = &Slot> {
    slots.chunks(64).flat_map(|chunk| {
        let bits = chunk.iter().zip(0_u32..);
        let mut rest = bits.fold(0, |all, (slot, bit)| all | u64::from(slot.count > 0) << bit);
        std::iter::from_fn(move || {
            // Take the lowest set bit: 0b1010 yields 1 and becomes 0b1000, which yields 3 and
            // becomes 0. 0 yields 64, which is out of range and ends the iteration.
            let bit = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            chunk.get(bit as usize)
        })
    })
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
    fn words_with_colliding_hashes_are_rehashed() {
        let mut table = table(Case::Lower, 100_000);
        // With these seeds, the home slot of every word of up to eight bytes is the first one.
        table.seeds = Seeds { low: 0, high: 0 };
        let words: Vec<String> = (0..20_000).map(|n| format!("w{n}")).collect();
        for word in &words {
            table.add_normalized(word);
        }
        let mask = table.slots.len() - 1;
        let occupied = table.slots.iter().enumerate().filter(|(_, slot)| slot.count > 0);
        let lengths = occupied
            .map(|(index, slot)| index.wrapping_sub(table.seeds.hash(slot.low, slot.high)) & mask);
        let longest = lengths.max();
        assert!(longest.is_some_and(|longest| longest <= PROBE_LENGTH_MAX), "{longest:?}");
        for word in &words {
            table.add_normalized(word);
        }
        let expected = words.iter().map(|word| (word.as_str(), 2)).collect();
        assert_eq!(table.into_histogram().unwrap(), expected);
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
            assert_eq!(table.remove(&Slot { low, high, count: 0 }), 1, "{word}");
            assert_eq!(table.remove(&Slot { low, high, count: 0 }), 0, "{word}");
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
