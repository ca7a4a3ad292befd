//! The words met so far and how often.
//!
//! Words are counted as they are written; what they are listed under is found once for each
//! different form, when the table is settled, and not at every occurrence.

mod hash;
mod slot;

use std::collections::HashMap;

use wordmill_common::histogram::Histogram;

pub(super) use self::slot::{SHORT_BYTES_MAX, pack};

use self::{
    hash::Seeds,
    slot::{Slot, unpack},
};
use super::normalize::KeyMaker;

/// Slots of a new table; always a power of two.
const SLOTS_MIN: usize = 1024;

/// The longest search for a free slot that is put up with before all slots are dealt anew.
///
/// Half of the slots are free, so a search of this length does not happen by chance: in a table of
/// millions of words the longest is below 100.
const SEARCH_MAX: usize = 256;

/// A table of fewer slots keeps three quarters of them free, a larger one half of them.
const SLOTS_MANY: usize = 8192;

/// Collects words. Its size is bounded by the number of different words it may hold: between two
/// settlements it has up to half as many forms more.
pub(super) struct Table {
    slots: Vec<Slot>,
    short: usize,
    /// How many short words there may be before there are to be more slots.
    short_max: usize,
    long: HashMap<Box<str>, u64, Seeds>,
    seeds: Seeds,
    key_maker: KeyMaker,
    /// What was put into a slot since the last settlement and may not be a key.
    raw: Vec<Slot>,
    /// Whether there may be such a word among the long ones.
    has_raw_long: bool,
    settle_at: usize,
    unique_words_max: usize,
    full: bool,
}

impl Table {
    pub(super) fn new(key_maker: KeyMaker, unique_words_max: usize) -> Self {
        let seeds = Seeds::new();
        Self {
            slots: vec![Slot::default(); SLOTS_MIN],
            short: 0,
            short_max: short_max(SLOTS_MIN),
            long: HashMap::with_hasher(seeds),
            seeds,
            key_maker,
            raw: Vec::new(),
            has_raw_long: false,
            settle_at: unique_words_max,
            unique_words_max,
            full: false,
        }
    }

    /// Tells whether ASCII words have to be given in lower case.
    pub(super) fn lowers(&self) -> bool {
        self.key_maker.lowers()
    }

    /// Counts a word in any form; it is not empty.
    pub(super) fn add(&mut self, word: &str) {
        match pack(word.as_bytes()) {
            Some((low, high)) => self.add_short_times(low, high, 1),
            None => {
                self.has_raw_long = true;
                self.add_long_times(word, 1);
            }
        }
    }

    /// Counts an ASCII word that is a key already; it is not empty.
    pub(super) fn add_key(&mut self, word: &str) {
        self.add_times(word, 1);
    }

    /// Counts an ASCII word that is a key already, of up to [`SHORT_BYTES_MAX`] bytes, of which the
    /// last is not zero.
    #[inline]
    pub(super) fn add_short(&mut self, low: u64, high: u64) {
        self.add_short_times(low, high, 1);
    }

    /// Forgets every word.
    pub(super) fn clear(&mut self) {
        self.slots.fill(Slot::default());
        self.short = 0;
        self.long.clear();
        self.raw.clear();
        self.has_raw_long = false;
    }

    /// Returns whether there were more different words than the table may hold.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Returns the words; `None` if there were more than the table may hold.
    pub(super) fn into_histogram(mut self) -> Option<Histogram> {
        self.settle();
        if self.full || self.len() > self.unique_words_max {
            return None;
        }
        let long_bytes: usize = self.long.keys().map(|word| word.len()).sum();
        let short_bytes = self.short.saturating_mul(SHORT_BYTES_MAX);
        let mut text = Vec::with_capacity(short_bytes.saturating_add(long_bytes));
        let mut ends = Vec::with_capacity(self.len());
        for slot in taken(&self.slots) {
            let (bytes, length) = unpack(slot);
            let end = text.len().saturating_add(length);
            // Always as many bytes, and then less: faster than to copy each time as many as there are.
            text.extend_from_slice(&bytes);
            text.truncate(end);
            ends.push((end, slot.count));
        }
        for (word, count) in self.long {
            text.extend_from_slice(word.as_bytes());
            ends.push((text.len(), count));
        }
        #[expect(clippy::expect_used, reason = "slots are made of words, which are text")]
        let text = String::from_utf8(text).expect("words are text");
        Some(Histogram::from_distinct(text, &ends))
    }

    fn len(&self) -> usize {
        self.short.saturating_add(self.long.len())
    }

    fn add_times(&mut self, word: &str, times: u64) {
        match pack(word.as_bytes()) {
            Some((low, high)) => self.add_short_times(low, high, times),
            None => self.add_long_times(word, times),
        }
    }

    #[inline]
    fn add_short_times(&mut self, low: u64, high: u64, times: u64) {
        let home = self.seeds.hash(low, high);
        let mut place = home;
        let last = self.slots.len().wrapping_sub(1);
        // A free slot ends the search: half of them are.
        while let Some(slot) = self.slots.get_mut(place & last) {
            if slot.low == low && slot.high == high {
                slot.count = slot.count.saturating_add(times);
                return;
            }
            if slot.count == 0 {
                let new = Slot { low, high, count: times };
                *slot = new;
                self.note_new(new, place.wrapping_sub(home));
                return;
            }
            place = place.wrapping_add(1);
        }
    }

    /// Makes the table ready for more after a word was put in that was `searched` slots from its home.
    ///
    /// Not a part of the search, which is faster the shorter its code is.
    #[inline(never)]
    fn note_new(&mut self, slot: Slot, searched: usize) {
        self.short = self.short.saturating_add(1);
        if !slot.is_key() {
            self.raw.push(slot);
        }
        if searched > SEARCH_MAX {
            self.deal_anew();
        }
        self.make_room();
    }

    /// Spreads words that were found to crowd, such as those of a text made for that.
    #[cold]
    fn deal_anew(&mut self) {
        self.seeds = Seeds::new();
        self.refill(self.slots.len());
    }

    fn add_long_times(&mut self, word: &str, times: u64) {
        if let Some(count) = self.long.get_mut(word) {
            *count = count.saturating_add(times);
            return;
        }
        self.long.insert(word.into(), times);
        self.make_room();
    }

    /// Keeps half of the slots free or more, and the number of words within its limit.
    #[inline]
    fn make_room(&mut self) {
        if self.short > self.short_max || self.len() > self.settle_at {
            self.make_more_room();
        }
    }

    #[cold]
    fn make_more_room(&mut self) {
        if self.short > self.short_max {
            self.refill(self.slots.len().saturating_mul(2));
        }
        if self.len() > self.settle_at {
            self.settle();
            self.full = self.len() > self.unique_words_max;
            let half_more = self.len().saturating_add(self.len() / 2);
            self.settle_at = half_more.max(self.unique_words_max);
        }
    }

    /// Puts every short word into one of this many new slots, by the seeds of now.
    #[inline(never)]
    fn refill(&mut self, slots: usize) {
        self.short_max = short_max(slots);
        let slots = std::mem::replace(&mut self.slots, vec![Slot::default(); slots]);
        if slots.len() < SLOTS_MANY {
            self.short = 0;
            for slot in taken(&slots) {
                self.place(*slot);
            }
            return;
        }
        let total = slots.iter().fold(0, |total: u64, slot| total.saturating_add(slot.count));
        let words = u64::try_from(self.short).unwrap_or(u64::MAX).max(1);
        let often = |slot: &&Slot| slot.count > total / words;
        self.short = 0;
        // Words that are met often go first, so that they are found at the first look.
        for slot in slots.iter().filter(often) {
            self.place(*slot);
        }
        for slot in slots.iter().filter(|slot| slot.count > 0 && !often(slot)) {
            self.place(*slot);
        }
    }

    /// Puts a word where there is none of it and room for it.
    fn place(&mut self, new: Slot) {
        let mut place = self.seeds.hash(new.low, new.high);
        let last = self.slots.len().wrapping_sub(1);
        while let Some(slot) = self.slots.get_mut(place & last) {
            if slot.count == 0 {
                *slot = new;
                self.short = self.short.saturating_add(1);
                return;
            }
            place = place.wrapping_add(1);
        }
    }

    /// Lists every word under its key.
    fn settle(&mut self) {
        if self.raw.is_empty() && !self.has_raw_long {
            return;
        }
        // Settled words are never more than those before: no settlement follows from this one.
        self.settle_at = usize::MAX;
        let mut key = String::new();
        let mut others: Vec<(Slot, String)> = Vec::new();
        for slot in &self.raw {
            let (bytes, length) = unpack(slot);
            let word = bytes.get(..length).and_then(|word| str::from_utf8(word).ok());
            let word = word.unwrap_or_default();
            self.key_maker.write(word, &mut key);
            if key != word {
                others.push((*slot, std::mem::take(&mut key)));
            }
        }
        for (slot, key) in others {
            let times = self.take_out(&slot);
            self.add_times(&key, times);
        }
        let mut others: Vec<(Box<str>, String)> = Vec::new();
        for word in self.long.keys() {
            self.key_maker.write(word, &mut key);
            if key != **word {
                others.push((word.clone(), std::mem::take(&mut key)));
            }
        }
        for (word, key) in others {
            let times = self.long.remove(&word).unwrap_or(0);
            self.add_times(&key, times);
        }
        // What was put in since is a key.
        self.raw.clear();
        self.has_raw_long = false;
    }

    /// Frees the slot of a word, and returns how often it was counted.
    ///
    /// The words behind it move up as far as they may, so that each is still found: there must be
    /// no free slot between the place where the search for it begins and the one where it is.
    fn take_out(&mut self, word: &Slot) -> u64 {
        let last = self.slots.len().wrapping_sub(1);
        let mut hole = self.seeds.hash(word.low, word.high) & last;
        let count = loop {
            match self.slots.get(hole) {
                Some(slot) if (slot.low, slot.high) == (word.low, word.high) => break slot.count,
                Some(slot) if slot.count > 0 => hole = hole.wrapping_add(1) & last,
                _ => return 0,
            }
        };
        let mut place = hole;
        loop {
            place = place.wrapping_add(1) & last;
            let Some(slot) = self.slots.get(place).copied().filter(|slot| slot.count > 0) else {
                break;
            };
            let to_home = place.wrapping_sub(self.seeds.hash(slot.low, slot.high)) & last;
            let to_hole = place.wrapping_sub(hole) & last;
            if to_home >= to_hole {
                self.put(hole, slot);
                hole = place;
            }
        }
        self.put(hole, Slot::default());
        self.short = self.short.saturating_sub(1);
        count
    }

    fn put(&mut self, place: usize, slot: Slot) {
        if let Some(here) = self.slots.get_mut(place) {
            *here = slot;
        }
    }
}

/// Returns how many words so many slots are for.
const fn short_max(slots: usize) -> usize {
    if slots < SLOTS_MANY { slots / 4 } else { slots / 2 }
}

/// Visits the slots that are not free.
///
/// Whether one is free cannot be foreseen: it is found out for many before any is visited.
fn taken(slots: &[Slot]) -> impl Iterator<Item = &Slot> {
    slots.chunks(64).flat_map(|chunk| {
        let bits = chunk.iter().zip(0_u32..);
        let taken = bits.fold(0, |all, (slot, bit)| all | u64::from(slot.count > 0) << bit);
        let mut rest = taken;
        std::iter::from_fn(move || {
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

    fn table(case: Case, unique_words_max: usize) -> Table {
        let options = Options { case, ..Options::default() };
        Table::new(KeyMaker::new(&options), unique_words_max)
    }

    #[test]
    fn words_of_any_length_are_counted() {
        let mut table = table(Case::Keep, 100_000);
        let words: Vec<String> = (0..20_000_u64).map(|n| format!("w{}", n * n * 37)).collect();
        let long: Vec<String> = (0..300).map(|n| "x".repeat(n + 1)).collect();
        for word in words.iter().chain(&long).chain(&words) {
            table.add(word);
        }
        let found = table.into_histogram().unwrap();
        let expected = words.iter().map(|word| (word.as_str(), 2));
        let expected = expected.chain(long.iter().map(|word| (word.as_str(), 1)));
        assert_eq!(found, expected.collect());
    }

    #[test]
    fn a_zero_is_a_character() {
        let mut table = table(Case::Keep, 10);
        for word in ["a", "a\0", "\0", "\0a"] {
            table.add(word);
        }
        assert_eq!(table.into_histogram().unwrap().len(), 4);
    }

    #[test]
    fn forms_are_listed_under_their_key() {
        let mut table = table(Case::Lower, 10);
        for word in ["Don\u{2019}t", "DON'T", "ÉTÉ", "e\u{301}te\u{301}", "\u{212a}", "k"] {
            table.add(word);
        }
        table.add_key("don't");
        let expected = [("don't", 3), ("été", 2), ("k", 2)];
        assert_eq!(table.into_histogram().unwrap(), expected.into_iter().collect());
    }

    #[test]
    fn a_full_table_stops_and_says_so() {
        let mut table = table(Case::Lower, 2);
        for word in ["a", "b", "a", "A", "B"] {
            table.add(word);
        }
        assert!(!table.is_full());
        table.add("c");
        assert!(table.is_full());
    }

    #[test]
    fn words_made_to_crowd_are_dealt_anew() {
        let mut table = table(Case::Lower, 100_000);
        // By these, every word of up to eight bytes belongs into the first slot.
        table.seeds = Seeds { low: 0, high: 0 };
        let words: Vec<String> = (0..20_000).map(|n| format!("w{n}")).collect();
        for word in &words {
            table.add_key(word);
        }
        let last = table.slots.len() - 1;
        let longest = table.slots.iter().enumerate().filter(|(_, slot)| slot.count > 0);
        let longest = longest
            .map(|(place, slot)| place.wrapping_sub(table.seeds.hash(slot.low, slot.high)) & last)
            .max();
        assert!(longest.is_some_and(|longest| longest <= SEARCH_MAX), "{longest:?}");
        for word in &words {
            table.add_key(word);
        }
        let expected = words.iter().map(|word| (word.as_str(), 2)).collect();
        assert_eq!(table.into_histogram().unwrap(), expected);
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_found() {
        let mut table = table(Case::Lower, 100_000);
        let words: Vec<String> = (0..5_000_u64).map(|n| format!("{}", n * n * 37)).collect();
        for word in &words {
            table.add_key(word);
        }
        for (_, word) in words.iter().enumerate().filter(|(turn, _)| turn % 3 > 0) {
            let (low, high) = pack(word.as_bytes()).unwrap();
            assert_eq!(table.take_out(&Slot { low, high, count: 0 }), 1, "{word}");
            assert_eq!(table.take_out(&Slot { low, high, count: 0 }), 0, "{word}");
        }
        for word in &words {
            table.add_key(word);
        }
        let counts = words.iter().enumerate();
        let counts = counts.map(|(turn, word)| (word, if turn % 3 > 0 { 1 } else { 2 }));
        assert_eq!(table.into_histogram().unwrap(), counts.collect());
    }

    #[test]
    fn many_forms_of_few_words_fit() {
        let mut table = table(Case::Lower, 3);
        for turn in 0..100 {
            for word in ["größe", "mill", "river"] {
                let upper = |(i, c): (usize, char)| match (turn >> i) & 1 {
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
