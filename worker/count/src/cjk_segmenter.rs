//! Segmentation of Chinese and Japanese with a dictionary (ADR 31).
//!
//! Text is cut into the most probable sequence of words. Every word has a cost, which is higher
//! for rarer words, and the cut with the minimum total cost is a shortest path (Viterbi's
//! algorithm). ICU for C and Java uses the same algorithm, with the same result.
//!
//! `icu_segmenter` contains the words and their costs, but chooses the longest word at each
//! position, which is often wrong: for example, `自定` and `义` instead of `自` and `定义`. Its words are
//! therefore copied to tables in which a step from character to character is one lookup. The
//! tables are built once per process, when such text first occurs.

use std::sync::LazyLock;

use icu_provider::{
    DataIdentifierBorrowed, DataMarkerAttributes, DataProvider, DataRequest, DataResponse,
};
use icu_segmenter::provider::{Baked, DictionaryBreakData, SegmenterDictionaryAutoV2};

/// Name of the dictionary in the data of `icu_segmenter`.
const CHINESE_JAPANESE: &str = "cjdict";

/// Cost of a character that is not a word of the dictionary: at least the cost of any word in it.
const UNKNOWN_COST: u8 = u8::MAX;

/// Cost of a run of Katakana as one word, by its number of characters. Most loanwords
/// have three to five characters. The costs are those of ICU.
const KATAKANA_COSTS: [u32; 9] = [8192, 984, 408, 240, 204, 252, 300, 372, 480];

/// Cost of a run of Katakana that is longer than the table.
const KATAKANA_COST_MAX: u32 = 8192;

/// Maximum length of a run of Katakana that can be one word, in characters.
const KATAKANA_RUN_MAX: usize = 19;

/// Number of lower bits of a step, which hold a cost. The bits above hold the index of the next
/// steps.
const COST_BITS: u32 = 8;

/// Number of lower bits of an entry, which hold a step. The bits above hold its characters: two in
/// `pair_steps`, one in `next_steps`.
const STEP_BITS: u32 = 32;
const CHARACTER_BITS: u32 = 16;

/// Flag of the last entry among the steps that continue one prefix.
const IS_LAST: u64 = 1 << (STEP_BITS + CHARACTER_BITS);

/// Cost of a prefix that is not a word. Higher than the cost of any path of words.
const NO_WORD_COST: u32 = 1 << 30;

/// Returns whether a character is a common Han character, Hiragana or Katakana. A text of such
/// characters in any order is in normal form (NFC).
pub(super) const fn is_nfc_stable_cjk(c: char) -> bool {
    matches!(c,
        '々' | '〇' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30fe}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Returns whether a code point can be part of a run of Katakana.
const fn is_katakana(code: u16) -> bool {
    matches!(code, 0x30a1..=0x30fa | 0x30fc..=0x30fe | 0xff66..=0xff9f)
}

/// State after the first characters of a word: the cost of these characters as a word, and the
/// index of the steps for one more character.
#[derive(Clone, Copy, Default)]
struct Step(u32);

impl Step {
    /// No word begins with these characters.
    const NONE: Self = Self(0);

    /// Returns the cost of these characters as a word, or [`NO_WORD_COST`].
    #[inline]
    const fn cost(self) -> u32 {
        match self.0 & ((1 << COST_BITS) - 1) {
            0 => NO_WORD_COST,
            cost => cost,
        }
    }

    /// Returns the index of the next steps, or 0 if no word continues.
    #[inline]
    const fn next_index(self) -> u32 {
        self.0 >> COST_BITS
    }

    #[expect(clippy::cast_possible_truncation, reason = "the step is in the lower bits")]
    const fn of(entry: u64) -> Self {
        Self(entry as u32)
    }
}

/// The dictionary as a trie. Its layout minimizes memory accesses, which take most of the time.
pub(super) struct Lexicon {
    /// Cost of each single character as a word, by code point.
    single_costs: Vec<u8>,
    /// Steps for the first two characters of a word: a hash table with open addressing. At least
    /// half of the entries are free (0).
    pair_steps: Vec<u64>,
    /// Steps for one more character. The steps that continue one prefix are adjacent. Usually there
    /// are one or two, so one memory access finds them.
    next_steps: Vec<u64>,
}

/// A cut of the text up to some position: its cost in the upper half, and the start of its last
/// word in the lower half.
///
/// Paths are compared as numbers: the cheaper one is less. Of two paths with equal costs, the one
/// with the longer last word is less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct CutPath(u64);

impl CutPath {
    const UNKNOWN: Self = Self(u64::MAX);

    #[inline]
    const fn new(cost: u32, start: usize) -> Self {
        // A run is bounded (`RUN_BYTES_MAX`), so its positions fit into 32 bits.
        Self((cost as u64) << u32::BITS | start as u64)
    }

    #[inline]
    const fn cost(self) -> u32 {
        (self.0 >> u32::BITS) as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "the start is the lower half")]
    const fn start(self) -> usize {
        self.0 as u32 as usize
    }
}

/// Buffers for the cuts of a text. Reused for the next text, to save allocations.
#[derive(Default)]
pub(super) struct CutBuffer {
    /// Code points of the text. 0 for a character beyond the Basic Multilingual Plane, which occurs
    /// in no word of the dictionary.
    codes: Vec<u16>,
    /// Step for each character and the next one.
    pair_steps: Vec<Step>,
    /// Cheapest path to each position: `paths[n]` cuts the first n characters.
    paths: Vec<CutPath>,
    /// Number of characters of each word in the cheapest cut.
    lengths: Vec<usize>,
}

impl CutBuffer {
    /// Returns the ends of the words in `text`, in bytes. `text` must be the text that was
    /// segmented.
    pub(super) fn word_ends<'c>(&'c self, text: &'c str) -> impl Iterator<Item = usize> + 'c {
        // Usually every character has three bytes, so the text need not be scanned.
        let has_three_bytes_each = self.codes.iter().all(|code| *code >= 0x800);
        let mut rest = text;
        self.lengths.iter().map(move |length| {
            let bytes = if has_three_bytes_each {
                length.saturating_mul(3)
            } else {
                rest.char_indices().nth(*length).map_or(rest.len(), |(at, _)| at)
            };
            rest = rest.get(bytes..).unwrap_or_default();
            text.len().saturating_sub(rest.len())
        })
    }

    /// Prepares the buffers for a text.
    fn begin(&mut self, text: &str) {
        self.codes.clear();
        self.codes.extend(text.chars().map(|c| u16::try_from(u32::from(c)).unwrap_or(0)));
        self.paths.clear();
        self.paths.resize(self.codes.len().saturating_add(1), CutPath::UNKNOWN);
        self.offer_path(0, CutPath::new(0, 0));
    }

    /// Stores a path to `end` if it is cheaper than the stored one.
    #[inline]
    fn offer_path(&mut self, end: usize, path: CutPath) {
        if let Some(cheapest) = self.paths.get_mut(end) {
            *cheapest = path.min(*cheapest);
        }
    }

    /// Follows the cheapest path from the end back to the start, and stores the lengths of its
    /// words.
    fn finish(&mut self) {
        self.lengths.clear();
        let mut end = self.codes.len();
        while let Some(path) = self.paths.get(end).filter(|_| end > 0) {
            self.lengths.push(end.saturating_sub(path.start()));
            end = path.start();
        }
        self.lengths.reverse();
    }
}

impl Lexicon {
    /// Returns the dictionary, which is built once per process. `None` if the data of
    /// `icu_segmenter` has an unknown format.
    pub(super) fn get() -> Option<&'static Self> {
        static LEXICON: LazyLock<Option<Lexicon>> =
            LazyLock::new(|| Lexicon::from_words(dictionary_words()?));
        LEXICON.as_ref()
    }

    /// Segments a text into the words with the minimum total cost. Writes the result to `buffer`.
    pub(super) fn segment(&self, text: &str, buffer: &mut CutBuffer) {
        buffer.begin(text);
        self.look_up_pairs(buffer);
        let mut is_in_katakana = false;
        let mut start = 0;
        while let Some((&code, &pair)) = buffer.codes.get(start).zip(buffer.pair_steps.get(start)) {
            // The path to `start` is final: words that begin later also end later.
            let cost = buffer.paths.get(start).map_or(0, |path| path.cost());
            let single_cost = self.single_costs.get(usize::from(code)).copied();
            let single_cost = u32::from(single_cost.unwrap_or(UNKNOWN_COST));
            let next = start.saturating_add(1);
            // Every character can be a word, so each position has a path.
            buffer.offer_path(next, CutPath::new(cost.saturating_add(single_cost), start));
            self.add_words(start, cost, pair, buffer);
            let was_in_katakana = std::mem::replace(&mut is_in_katakana, is_katakana(code));
            // As in ICU, a run of Katakana is a word only as a whole, from its first character.
            if is_in_katakana && !was_in_katakana {
                add_katakana(start, cost, buffer);
            }
            start = next;
        }
        buffer.finish();
    }

    /// Looks up the step for each pair of adjacent characters.
    ///
    /// The lookups are independent, so a separate loop lets the processor overlap their memory
    /// accesses.
    fn look_up_pairs(&self, buffer: &mut CutBuffer) {
        let pairs = buffer.codes.iter().zip(buffer.codes.iter().skip(1));
        buffer.pair_steps.clear();
        buffer.pair_steps.extend(pairs.map(|(first, second)| self.look_up_pair(*first, *second)));
        // The last character has no successor.
        buffer.pair_steps.push(Step::NONE);
    }

    /// Returns the step for the first two characters of a word.
    #[inline]
    fn look_up_pair(&self, first: u16, second: u16) -> Step {
        let key = pair_key(first, second);
        let mut index = home_index(key, self.pair_steps.len());
        while let Some(&entry) = self.pair_steps.get(index) {
            // A free entry is 0, which is also [`Step::NONE`].
            if entry >> STEP_BITS == key || entry == 0 {
                return Step::of(entry);
            }
            index = index.wrapping_add(1) & self.pair_steps.len().wrapping_sub(1);
        }
        Step::NONE
    }

    /// Offers the paths through all words of two or more characters that begin at `start`.
    #[inline]
    fn add_words(&self, start: usize, cost: u32, pair: Step, buffer: &mut CutBuffer) {
        let mut step = pair;
        let mut end = start.saturating_add(2);
        // If the two characters are not a word, the path has [`NO_WORD_COST`] and is never chosen.
        buffer.offer_path(end, CutPath::new(cost.saturating_add(step.cost()), start));
        while step.next_index() != 0
            && let Some(&code) = buffer.codes.get(end)
            && let Some(next) = self.next_step(step.next_index(), code)
        {
            step = next;
            end = end.saturating_add(1);
            buffer.offer_path(end, CutPath::new(cost.saturating_add(step.cost()), start));
        }
    }

    /// Returns the step for one more character. `index` is the first of the steps to compare.
    #[inline]
    fn next_step(&self, index: u32, code: u16) -> Option<Step> {
        let steps = self.next_steps.get(usize::try_from(index).ok()?..)?;
        for &entry in steps {
            if (entry >> STEP_BITS) & ((1 << CHARACTER_BITS) - 1) == u64::from(code) {
                return Some(Step::of(entry));
            }
            if entry & IS_LAST != 0 {
                break;
            }
        }
        None
    }

    /// Builds the lexicon from words with their costs. Words with a common prefix must be adjacent.
    /// Returns `None` if there are too many, or if one has a character beyond the Basic
    /// Multilingual Plane.
    fn from_words(words: impl Iterator<Item = (String, u8)>) -> Option<Self> {
        let prefixes = Prefix::all_of_words(words)?;
        let mut longer: Vec<&Prefix> = prefixes.iter().filter(|prefix| prefix.length > 2).collect();
        longer.sort_by_key(|prefix| prefix.parent);
        // Index 0 means that no word continues.
        let indexes = 1..1_u32 << (STEP_BITS - COST_BITS);
        if longer.len() > indexes.len() {
            return None;
        }
        let mut next_indexes: Vec<u32> = vec![0; prefixes.len()];
        // In reverse order, because the index that is written last remains: that of the first of
        // several siblings.
        for (index, prefix) in indexes.zip(&longer).rev() {
            *next_indexes.get_mut(prefix.parent)? = index;
        }
        let entry = |key: u64, prefix: &Prefix| {
            let next_index = u64::from(next_indexes.get(prefix.id).copied().unwrap_or(0));
            key << STEP_BITS | next_index << COST_BITS | u64::from(prefix.cost)
        };

        let mut next_steps = vec![0];
        for siblings in longer.chunk_by(|left, right| left.parent == right.parent) {
            next_steps.extend(siblings.iter().map(|sibling| entry(sibling.code.into(), sibling)));
            *next_steps.last_mut()? |= IS_LAST;
        }
        let mut single_costs = vec![UNKNOWN_COST; 1 << CHARACTER_BITS];
        for single in prefixes.iter().filter(|prefix| prefix.length == 1 && prefix.cost > 0) {
            *single_costs.get_mut(usize::from(single.code))? = single.cost;
        }
        let pairs: Vec<&Prefix> = prefixes.iter().filter(|prefix| prefix.length == 2).collect();
        let mut pair_steps = vec![0; pairs.len().saturating_mul(2).next_power_of_two()];
        for pair in pairs {
            let key = pair_key(prefixes.get(pair.parent)?.code, pair.code);
            let mut index = home_index(key, pair_steps.len());
            while pair_steps.get(index).is_some_and(|entry| *entry != 0) {
                index = index.wrapping_add(1) & pair_steps.len().wrapping_sub(1);
            }
            *pair_steps.get_mut(index)? = entry(key, pair);
        }
        Some(Self { single_costs, pair_steps, next_steps })
    }
}

/// A prefix of one or more words.
#[derive(Default)]
struct Prefix {
    /// Index in the list of all prefixes.
    id: usize,
    /// Id of the prefix without its last character.
    parent: usize,
    /// Number of characters.
    length: usize,
    /// Last character.
    code: u16,
    /// Cost of the prefix as a word; 0 if it is not a word.
    cost: u8,
}

impl Prefix {
    /// Returns all prefixes of the words in the order of their ids. The first one is empty.
    fn all_of_words(words: impl Iterator<Item = (String, u8)>) -> Option<Vec<Self>> {
        let mut all = vec![Self::default()];
        // Characters of the previous word, each with the id of the prefix that it ends.
        let mut path: Vec<(char, usize)> = Vec::new();
        for (word, cost) in words {
            let common =
                path.iter().zip(word.chars()).take_while(|((last, _), c)| last == c).count();
            path.truncate(common);
            for c in word.chars().skip(common) {
                let id = all.len();
                let parent = path.last().map_or(0, |(_, id)| *id);
                path.push((c, id));
                let code = u16::try_from(u32::from(c)).ok()?;
                all.push(Self { id, parent, length: path.len(), code, cost: 0 });
            }
            // A word precedes the longer words that begin with it, so its last character was just
            // added.
            all.last_mut()?.cost = cost;
        }
        Some(all)
    }
}

/// Offers the path through the run of Katakana that begins at `start`, as one word.
fn add_katakana(start: usize, cost: u32, buffer: &mut CutBuffer) {
    let rest = buffer.codes.get(start..).unwrap_or_default();
    // One more than allowed, to recognize a longer run.
    let run = rest.iter().take(KATAKANA_RUN_MAX + 1).take_while(|code| is_katakana(**code));
    let length = run.count();
    if length <= KATAKANA_RUN_MAX {
        let run_cost = KATAKANA_COSTS.get(length).copied().unwrap_or(KATAKANA_COST_MAX);
        let path = CutPath::new(cost.saturating_add(run_cost), start);
        buffer.offer_path(start.saturating_add(length), path);
    }
}

/// Returns the words with their costs, in dictionary order. `None` if the data of `icu_segmenter`
/// has an unknown format.
fn dictionary_words() -> Option<impl Iterator<Item = (String, u8)>> {
    let name = DataMarkerAttributes::try_from_str(CHINESE_JAPANESE).ok()?;
    let id = DataIdentifierBorrowed::for_marker_attributes(name);
    let request = DataRequest { id, ..DataRequest::default() };
    let response: DataResponse<SegmenterDictionaryAutoV2> = Baked.load(request).ok()?;
    match response.payload.get_static()? {
        DictionaryBreakData::Char16Trie(trie) => {
            // A step uses 0 for a prefix that is not a word, so the minimum cost is 1. Words with a
            // cost above 255 are very rare and get 255.
            let cost = |cost: i32| u8::try_from(cost.max(1)).unwrap_or(u8::MAX);
            Some(trie.iter2().map(move |(word, value)| (word, cost(value))))
        }
        DictionaryBreakData::ZeroTrie { .. } => None,
    }
}

/// Returns the hash key of two characters.
const fn pair_key(first: u16, second: u16) -> u64 {
    (first as u64) << CHARACTER_BITS | second as u64
}

/// Returns the index at which the probe for a key starts. `length` is a power of two.
#[expect(clippy::cast_possible_truncation, reason = "the index is below the length")]
const fn home_index(key: u64, length: usize) -> usize {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    (key.wrapping_mul(GOLDEN_RATIO) >> (u64::BITS - length.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use icu_normalizer::ComposingNormalizer;

    use super::*;
    use crate::random::Random;

    fn nfc_stable_chars() -> Vec<char> {
        ('\0'..=char::MAX).filter(|c| is_nfc_stable_cjk(*c)).collect()
    }

    fn segment(text: &str) -> Vec<&str> {
        let mut buffer = CutBuffer::default();
        Lexicon::get().unwrap().segment(text, &mut buffer);
        let mut start = 0;
        let words =
            buffer.word_ends(text).map(|end| text.get(std::mem::replace(&mut start, end)..end));
        words.map(Option::unwrap).collect()
    }

    fn is_katakana(c: char) -> bool {
        u16::try_from(u32::from(c)).is_ok_and(super::is_katakana)
    }

    /// Returns the cost of a word, computed from the dictionary itself.
    fn cost(words: &HashMap<String, u8>, text: &[char], start: usize, end: usize) -> Option<u32> {
        let word: String = text[start..end].iter().collect();
        let in_words = words.get(&word).map(|cost| u32::from(*cost));
        let unknown = (end - start == 1 && in_words.is_none()).then_some(255);
        let is_run = text[start..end].iter().all(|c| is_katakana(*c))
            && !text[..start].last().is_some_and(|c| is_katakana(*c))
            && !text[end..].first().is_some_and(|c| is_katakana(*c))
            && end - start <= KATAKANA_RUN_MAX;
        let run_cost = KATAKANA_COSTS.get(end - start).copied().unwrap_or(KATAKANA_COST_MAX);
        [in_words, unknown, is_run.then_some(run_cost)].into_iter().flatten().min()
    }

    #[test]
    fn nfc_stable_characters_are_in_normal_form() {
        let composer = ComposingNormalizer::new_nfc();
        let all: String = nfc_stable_chars().into_iter().collect();
        assert!(composer.is_normalized(&all));
        assert!(nfc_stable_chars().into_iter().all(|c| c.len_utf8() == 3));
    }

    #[test]
    fn frequent_words_take_precedence_over_long_ones() {
        assert_eq!(segment("学生在学校"), ["学生", "在", "学校"]);
        assert_eq!(segment("自定义"), ["自", "定义"]);
        assert_eq!(segment("継続します"), ["継続", "し", "ます"]);
        assert_eq!(segment("東京は日本の首都です"), ["東京", "は", "日本", "の", "首都", "です"]);
        // A run of Katakana that is not in the dictionary is a word unless it is too long.
        assert_eq!(segment("ヌルポガ"), ["ヌルポガ"]);
        assert_eq!(segment("ｶﾌｪで"), ["ｶﾌｪ", "で"]);
        assert!(segment(&"ヌ".repeat(100)).len() > 1);
        // Characters that are in no dictionary.
        assert_eq!(segment("\u{20000}\u{20001}水"), ["\u{20000}", "\u{20001}", "水"]);
        assert!(segment("").is_empty());
    }

    #[test]
    fn the_segmentation_has_minimal_cost() {
        let words: HashMap<String, u8> = dictionary_words().unwrap().collect();
        assert!(words.len() > 100_000);
        let mut parts: Vec<&String> = words.keys().collect();
        parts.sort();
        let chars = nfc_stable_chars();
        let mut random = Random::new(11);
        for _ in 0..5_000 {
            let mut text = Vec::new();
            for _ in 0..=random.below(6) {
                let word: Vec<char> = parts[random.below(parts.len())].chars().collect();
                match random.below(4) {
                    0 => text.push(chars[random.below(chars.len())]),
                    1 => text.extend(&word[..random.below(word.len())]),
                    2 => text.extend(&word[random.below(word.len())..]),
                    _ => text.extend(word),
                }
            }
            // Minimum cost to each position, computed word by word.
            let mut least = vec![0];
            for end in 1..=text.len() {
                let start = end.saturating_sub(20);
                let costs = (start..end)
                    .filter_map(|start| Some(least[start] + cost(&words, &text, start, end)?));
                least.push(costs.min().unwrap());
            }
            let all: String = text.iter().collect();
            let mut start = 0;
            let mut sum = 0;
            for word in segment(&all) {
                let end = start + word.chars().count();
                sum += cost(&words, &text, start, end).unwrap();
                start = end;
            }
            assert_eq!(start, text.len(), "{all}");
            assert_eq!(sum, least[text.len()], "{all}");
        }
    }
}
