//! The dictionary of Chinese and Japanese, and how a text is cut with it: into the words that
//! together are the most frequent.
//!
//! `icu_segmenter` has the words and how frequent each is, but takes the longest one at each place,
//! which is often not the right one. Here all ways to cut are weighed, as ICU for C and Java
//! weighs them, with the same result. The words are in a hash table, made once in a process in
//! which such text is met, so that a step from character to character is one look.

use std::sync::LazyLock;

use icu_provider::{
    DataIdentifierBorrowed, DataMarkerAttributes, DataProvider, DataRequest, DataResponse,
};
use icu_segmenter::provider::{Baked, DictionaryBreakData, SegmenterDictionaryAutoV2};

/// The name of the dictionary among the data of `icu_segmenter`.
const CHINESE_JAPANESE: &str = "cjdict";

/// What a character costs that is no word of the dictionary: more than any word.
const UNKNOWN_COST: u32 = 255;

/// What a row of Katakana costs as one word, by its number of characters: most words from other
/// languages have three to five. These are the numbers of ICU.
const KATAKANA_COSTS: [u32; 9] = [8192, 984, 408, 240, 204, 252, 300, 372, 480];

/// What a longer row of Katakana costs.
const KATAKANA_COST_MAX: u32 = 8192;

/// A row of more Katakana than this is not taken for one word.
const KATAKANA_MAX: usize = 19;

/// What a step can reach. The bits above those hold the place, which is a number for each beginning
/// of a word, 0 for the empty one.
const HAS_MORE: u32 = 1;
const FLAGS_BITS: u32 = 1;

/// The bits of an entry that hold a step; those above say from which place and by which character.
const STEP_BITS: u32 = 24;
const CHARACTER_BITS: u32 = 16;

/// Words of bits for pairs of characters: 256 KiB, of which one bit in ten is set.
const PAIRS: usize = 32 * 1024;

/// Tells whether a text of such characters is in normal form, whatever stands beside what: the
/// common Han characters, Hiragana and Katakana.
pub(super) const fn is_plain(c: char) -> bool {
    matches!(c,
        '々' | '〇' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30fe}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Tells whether a character can be part of a row of Katakana.
const fn is_katakana(c: char) -> bool {
    matches!(c, '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30fe}' | '\u{ff66}'..='\u{ff9f}')
}

/// The steps from the beginnings of words to longer ones.
pub(super) struct Lexicon {
    /// The first steps, by character.
    first: Vec<u32>,
    /// A bit for the hash of every pair of characters that a word begins with. Most pairs begin none,
    /// and unlike the steps this fits into a fast cache.
    pairs: Vec<u64>,
    /// The other steps: open addressing by place and character; 0 is free, and at least half are.
    entries: Vec<u64>,
    /// What the word that ends at a place costs: the rarer, the more. 0 where none ends.
    costs: Vec<u8>,
}

/// The cheapest way to cut a text up to some place.
#[derive(Clone, Copy)]
struct Way {
    cost: u32,
    /// Where its last word begins.
    start: usize,
}

/// Where a text is cut; kept from text to text for its memory.
#[derive(Default)]
pub(super) struct Cut {
    /// The cheapest way to each byte; only those between characters are reached.
    ways: Vec<Way>,
    ends: Vec<usize>,
}

impl Cut {
    /// Returns where the words end.
    pub(super) fn ends(&self) -> impl Iterator<Item = usize> + '_ {
        self.ends.iter().copied()
    }

    fn begin(&mut self, length: usize) {
        self.ways.clear();
        self.ways.resize(length.saturating_add(1), Way { cost: u32::MAX, start: 0 });
        self.reach(0, Way { cost: 0, start: 0 });
    }

    /// Takes a way to `end` unless one as cheap is known.
    fn reach(&mut self, end: usize, way: Way) {
        if let Some(known) = self.ways.get_mut(end).filter(|known| way.cost < known.cost) {
            *known = way;
        }
    }

    fn cost(&self, at: usize) -> u32 {
        self.ways.get(at).map_or(u32::MAX, |way| way.cost)
    }

    /// Follows the cheapest way back from the end.
    fn finish(&mut self) {
        self.ends.clear();
        let mut end = self.ways.len().saturating_sub(1);
        while let Some(way) = self.ways.get(end).filter(|_| end > 0) {
            self.ends.push(end);
            end = way.start;
        }
        self.ends.reverse();
    }
}

impl Lexicon {
    /// Returns the dictionary, which is made once in a process; `None` if `icu_segmenter` does not
    /// have it in the form that is known here.
    pub(super) fn get() -> Option<&'static Self> {
        static LEXICON: LazyLock<Option<Lexicon>> = LazyLock::new(|| Lexicon::of(words()?));
        LEXICON.as_ref()
    }

    /// Cuts a text into the words that together cost the least.
    pub(super) fn cut(&self, text: &str, cut: &mut Cut) {
        cut.begin(text.len());
        let mut is_in_katakana = false;
        for (start, c) in text.char_indices() {
            let (cost, rest) = (cut.cost(start), text.get(start..).unwrap_or_default());
            if !self.add_words(start, cost, rest, cut) {
                let way = Way { cost: cost.saturating_add(UNKNOWN_COST), start };
                cut.reach(start.saturating_add(c.len_utf8()), way);
            }
            let was_in_katakana = std::mem::replace(&mut is_in_katakana, is_katakana(c));
            if is_in_katakana && !was_in_katakana {
                add_katakana(start, cost, rest, cut);
            }
        }
        cut.finish();
    }

    /// Adds every word that `rest` begins with; returns whether its first character is one.
    #[inline]
    fn add_words(&self, start: usize, cost: u32, rest: &str, cut: &mut Cut) -> bool {
        let mut characters = rest.chars();
        let Some(first) = characters.next() else { return false };
        let (mut c, mut end, mut has_single) = (first, start, false);
        let mut step = usize::try_from(u32::from(c)).ok().and_then(|c| self.first.get(c)).copied();
        while let Some(reached) = step.filter(|step| *step != 0) {
            let (is_first, place) = (end == start, reached >> FLAGS_BITS);
            end = end.saturating_add(c.len_utf8());
            let more = usize::try_from(place).ok().and_then(|place| self.costs.get(place));
            if let Some(more) = more.filter(|more| **more > 0) {
                has_single |= is_first;
                cut.reach(end, Way { cost: cost.saturating_add(u32::from(*more)), start });
            }
            if reached & HAS_MORE == 0 {
                break;
            }
            let Some(next) = characters.next() else { break };
            let may_go_on = !is_first || self.may_begin_with(first, next);
            step = may_go_on.then(|| self.step(place, next));
            c = next;
        }
        has_single
    }

    /// Tells whether a word may begin with two characters; some do not although it says so.
    #[inline]
    fn may_begin_with(&self, first: char, second: char) -> bool {
        let (word, bit) = pair(first, second);
        self.pairs.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// Takes a step from a place; 0 leads nowhere.
    #[inline]
    fn step(&self, place: u32, c: char) -> u32 {
        let Some(way) = way(place, c) else { return 0 };
        let mut index = index(way, self.entries.len());
        while let Some(&entry) = self.entries.get(index) {
            if entry >> STEP_BITS == way || entry == 0 {
                return step_of(entry);
            }
            index = index.wrapping_add(1) & self.entries.len().wrapping_sub(1);
        }
        0
    }

    /// Lays out words with their costs, which come in such an order that those with a common
    /// beginning stand together. `None` if there are too many.
    fn of(words: impl Iterator<Item = (String, u8)>) -> Option<Self> {
        let mut steps: Vec<(u64, u32)> = Vec::new();
        let (mut costs, mut first, mut pairs) =
            (vec![0], vec![0; 1 << CHARACTER_BITS], vec![0; PAIRS]);
        // The word before, as the steps that led to it.
        let mut path: Vec<(char, usize)> = Vec::new();
        for (word, cost) in words {
            let common = path.iter().zip(word.chars()).take_while(|((had, _), c)| had == c).count();
            path.truncate(common);
            for c in word.chars().skip(common) {
                if let [(first, _)] = path.as_slice() {
                    let (word, bit) = pair(*first, c);
                    *pairs.get_mut(word)? |= bit;
                }
                let parent = path.last().and_then(|(_, index)| steps.get_mut(*index));
                let place = parent.map_or(0, |(_, step)| {
                    *step |= HAS_MORE;
                    *step >> FLAGS_BITS
                });
                path.push((c, steps.len()));
                let reached = u32::try_from(steps.len()).ok()?.checked_add(1)?;
                steps.push((way(place, c)?, reached.checked_shl(FLAGS_BITS)?));
                costs.push(0);
            }
            *costs.last_mut()? = cost;
        }
        if steps.len() >= 1 << (STEP_BITS - FLAGS_BITS) {
            return None;
        }
        let mut entries = vec![0; steps.len().saturating_mul(2).next_power_of_two()];
        for (way, step) in steps {
            if let Some(first) = usize::try_from(way).ok().and_then(|c| first.get_mut(c)) {
                *first = step;
                continue;
            }
            let mut index = index(way, entries.len());
            while entries.get(index).is_some_and(|entry| *entry != 0) {
                index = index.wrapping_add(1) & entries.len().wrapping_sub(1);
            }
            *entries.get_mut(index)? = way << STEP_BITS | u64::from(step);
        }
        Some(Self { first, pairs, entries, costs })
    }
}

/// Returns where the bit for a pair of characters is.
fn pair(first: char, second: char) -> (usize, u64) {
    let pair = u64::from(u32::from(first)) << CHARACTER_BITS | u64::from(u32::from(second));
    let hash = index(pair, PAIRS.saturating_mul(64));
    (hash / 64, 1 << (hash % 64))
}

/// Adds the row of Katakana that `rest` begins with, as a word.
fn add_katakana(start: usize, cost: u32, rest: &str, cut: &mut Cut) {
    let length = rest.find(|c| !is_katakana(c)).unwrap_or(rest.len());
    let characters = rest.chars().take(KATAKANA_MAX + 1).take_while(|c| is_katakana(*c)).count();
    if characters <= KATAKANA_MAX {
        let more = KATAKANA_COSTS.get(characters).copied().unwrap_or(KATAKANA_COST_MAX);
        let way = Way { cost: cost.saturating_add(more), start };
        cut.reach(start.saturating_add(length), way);
    }
}

/// Returns the words of the dictionary and what they cost, in its order; `None` if one costs more
/// than is known here.
fn words() -> Option<impl Iterator<Item = (String, u8)>> {
    let name = DataMarkerAttributes::try_from_str(CHINESE_JAPANESE).ok()?;
    let id = DataIdentifierBorrowed::for_marker_attributes(name);
    let request = DataRequest { id, ..DataRequest::default() };
    let found: DataResponse<SegmenterDictionaryAutoV2> = Baked.load(request).ok()?;
    match found.payload.get_static()? {
        DictionaryBreakData::Char16Trie(trie) => {
            // A word that cost nothing would be no word, and one that cost more is as rare as any.
            let cost = |cost: i32| u8::try_from(cost.max(1)).unwrap_or(u8::MAX);
            Some(trie.iter2().map(move |(word, value)| (word, cost(value))))
        }
        DictionaryBreakData::ZeroTrie { .. } => None,
    }
}

/// Returns a number for a step from a place by a character; `None` for one beyond those that words
/// of the dictionary consist of.
fn way(place: u32, c: char) -> Option<u64> {
    let c = u16::try_from(u32::from(c)).ok()?;
    Some(u64::from(place) << CHARACTER_BITS | u64::from(c))
}

#[expect(clippy::cast_possible_truncation, reason = "the step is in the lower bits")]
const fn step_of(entry: u64) -> u32 {
    entry as u32 & ((1 << STEP_BITS) - 1)
}

/// Returns one of so many places, a power of two, to look a number up in.
#[expect(clippy::cast_possible_truncation, reason = "the number is below that of the entries")]
const fn index(way: u64, entries: usize) -> usize {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    (way.wrapping_mul(SPREAD) >> (u64::BITS - entries.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use icu_normalizer::ComposingNormalizer;

    use super::*;
    use crate::count::random::Random;

    fn plain() -> Vec<char> {
        ('\0'..=char::MAX).filter(|c| is_plain(*c)).collect()
    }

    fn cut(text: &str) -> Vec<&str> {
        let mut cut = Cut::default();
        Lexicon::get().unwrap().cut(text, &mut cut);
        let mut start = 0;
        let words = cut.ends().map(|end| text.get(std::mem::replace(&mut start, end)..end));
        words.map(Option::unwrap).collect()
    }

    /// What a word costs, by the dictionary itself.
    fn cost(words: &HashMap<String, u8>, text: &[char], start: usize, end: usize) -> Option<u32> {
        let word: String = text[start..end].iter().collect();
        let in_words = words.get(&word).map(|cost| u32::from(*cost));
        let unknown = (end - start == 1 && in_words.is_none()).then_some(UNKNOWN_COST);
        let is_row = text[start..end].iter().all(|c| is_katakana(*c))
            && !text[..start].last().is_some_and(|c| is_katakana(*c))
            && !text[end..].first().is_some_and(|c| is_katakana(*c))
            && end - start <= KATAKANA_MAX;
        let row = KATAKANA_COSTS.get(end - start).copied().unwrap_or(KATAKANA_COST_MAX);
        [in_words, unknown, is_row.then_some(row)].into_iter().flatten().min()
    }

    #[test]
    fn plain_characters_stand_for_themselves() {
        let composer = ComposingNormalizer::new_nfc();
        let all: String = plain().into_iter().collect();
        assert!(composer.is_normalized(&all));
        assert!(plain().into_iter().all(|c| c.len_utf8() == 3));
    }

    #[test]
    fn the_most_frequent_words_are_taken_and_not_the_longest() {
        assert_eq!(cut("学生在学校"), ["学生", "在", "学校"]);
        assert_eq!(cut("自定义"), ["自", "定义"]);
        assert_eq!(cut("継続します"), ["継続", "し", "ます"]);
        assert_eq!(cut("東京は日本の首都です"), ["東京", "は", "日本", "の", "首都", "です"]);
        // A row of Katakana is a word, if it is none of the dictionary and not too long.
        assert_eq!(cut("ヌルポガ"), ["ヌルポガ"]);
        assert_eq!(cut("ｶﾌｪで"), ["ｶﾌｪ", "で"]);
        assert!(cut(&"ヌ".repeat(100)).len() > 1);
        // What no dictionary has.
        assert_eq!(cut("\u{20000}\u{20001}水"), ["\u{20000}", "\u{20001}", "水"]);
        assert!(cut("").is_empty());
    }

    #[test]
    fn no_other_way_to_cut_costs_less() {
        let words: HashMap<String, u8> = words().unwrap().collect();
        assert!(words.len() > 100_000);
        let mut parts: Vec<&String> = words.keys().collect();
        parts.sort();
        let plain = plain();
        let mut random = Random::new(11);
        for _ in 0..5_000 {
            let mut text = Vec::new();
            for _ in 0..=random.below(6) {
                let word: Vec<char> = parts[random.below(parts.len())].chars().collect();
                match random.below(4) {
                    0 => text.push(plain[random.below(plain.len())]),
                    1 => text.extend(&word[..random.below(word.len())]),
                    2 => text.extend(&word[random.below(word.len())..]),
                    _ => text.extend(word),
                }
            }
            // The least cost up to each place, tried word by word.
            let mut least = vec![0];
            for end in 1..=text.len() {
                let start = end.saturating_sub(20);
                let costs = (start..end)
                    .filter_map(|start| Some(least[start] + cost(&words, &text, start, end)?));
                least.push(costs.min().unwrap());
            }
            let all: String = text.iter().collect();
            let (mut start, mut sum) = (0, 0);
            for word in cut(&all) {
                let end = start + word.chars().count();
                sum += cost(&words, &text, start, end).unwrap();
                start = end;
            }
            assert_eq!((start, sum), (text.len(), least[text.len()]), "{all}");
        }
    }
}
