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
const UNKNOWN_COST: u8 = u8::MAX;

/// What a row of Katakana costs as one word, by its number of characters: most words from other
/// languages have three to five. These are the numbers of ICU.
const KATAKANA_COSTS: [u32; 9] = [8192, 984, 408, 240, 204, 252, 300, 372, 480];

/// What a longer row of Katakana costs.
const KATAKANA_COST_MAX: u32 = 8192;

/// A row of more Katakana than this is not taken for one word.
const KATAKANA_MAX: usize = 19;

/// The bits of a step that hold a cost; those above hold where to go on.
const COST_BITS: u32 = 8;

/// The bits of an entry that hold a step; those above say by which characters it is taken.
const STEP_BITS: u32 = 32;
const CHARACTER_BITS: u32 = 16;

/// Marks the last of the steps that go on from one place.
const IS_LAST: u64 = 1 << (STEP_BITS + CHARACTER_BITS);

/// What is added to the cost of a way that does not end with a word, so that no other is cheaper.
const NEVER: u32 = 1 << 30;

/// Tells whether a text of such characters is in normal form, whatever stands beside what: the
/// common Han characters, Hiragana and Katakana.
pub(super) const fn is_plain(c: char) -> bool {
    matches!(c,
        '々' | '〇' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30fe}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Tells whether a character can be part of a row of Katakana.
const fn is_katakana(code: u16) -> bool {
    matches!(code, 0x30a1..=0x30fa | 0x30fc..=0x30fe | 0xff66..=0xff9f)
}

/// What the first characters of a word lead to.
#[derive(Clone, Copy, Default)]
struct Step(u32);

impl Step {
    /// Where no word goes on.
    const NONE: Self = Self(0);

    /// Returns what the word that ends here costs, if one does.
    #[inline]
    const fn cost(self) -> u32 {
        match self.0 & ((1 << COST_BITS) - 1) {
            0 => NEVER,
            cost => cost,
        }
    }

    /// Returns the place of the next steps; 0 if there are none.
    #[inline]
    const fn next(self) -> u32 {
        self.0 >> COST_BITS
    }

    #[expect(clippy::cast_possible_truncation, reason = "the step is in the lower bits")]
    const fn of(entry: u64) -> Self {
        Self(entry as u32)
    }
}

/// The words, as steps from character to character, laid out for few looks into memory: most of the
/// time goes into waiting for it.
pub(super) struct Lexicon {
    /// What each character costs as a word.
    singles: Vec<u8>,
    /// The steps by two characters: open addressing, of which at least half is free (0).
    pairs: Vec<u64>,
    /// The steps by one more character. Those from one place stand side by side; there are usually
    /// one or two, so that one look finds them.
    others: Vec<u64>,
}

/// A way to cut a text up to some place: its cost, and in the lower half where its last word begins.
///
/// The smaller is the cheaper one, and of two that cost the same the one with the longer last word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way(u64);

impl Way {
    const UNKNOWN: Self = Self(u64::MAX);

    #[inline]
    const fn new(cost: u32, start: usize) -> Self {
        // No run has so many characters that its start would not fit.
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

/// Where a text is cut; kept from text to text for its memory.
#[derive(Default)]
pub(super) struct Cut {
    /// The characters; 0 for one beyond those that words of the dictionary consist of.
    codes: Vec<u16>,
    /// The step by each character and the one after it.
    pairs: Vec<Step>,
    /// The cheapest way up to each character.
    ways: Vec<Way>,
    /// The characters of each word.
    lengths: Vec<usize>,
}

impl Cut {
    /// Returns where the words of `text`, which is what was cut, end.
    pub(super) fn ends<'c>(&'c self, text: &'c str) -> impl Iterator<Item = usize> + 'c {
        // The usual case: every character has three bytes.
        let is_even = self.codes.iter().all(|code| *code >= 0x800);
        let mut rest = text;
        self.lengths.iter().map(move |length| {
            let bytes = if is_even {
                length.saturating_mul(3)
            } else {
                rest.char_indices().nth(*length).map_or(rest.len(), |(at, _)| at)
            };
            rest = rest.get(bytes..).unwrap_or_default();
            text.len().saturating_sub(rest.len())
        })
    }

    fn begin(&mut self, text: &str) {
        self.codes.clear();
        self.codes.extend(text.chars().map(|c| u16::try_from(u32::from(c)).unwrap_or(0)));
        self.ways.clear();
        self.ways.resize(self.codes.len().saturating_add(1), Way::UNKNOWN);
        self.reach(0, Way::new(0, 0));
    }

    /// Takes a way to `end` unless one as cheap is known.
    #[inline]
    fn reach(&mut self, end: usize, way: Way) {
        if let Some(known) = self.ways.get_mut(end) {
            *known = way.min(*known);
        }
    }

    /// Follows the cheapest way back from the end.
    fn finish(&mut self) {
        self.lengths.clear();
        let mut end = self.codes.len();
        while let Some(way) = self.ways.get(end).filter(|_| end > 0) {
            self.lengths.push(end.saturating_sub(way.start()));
            end = way.start();
        }
        self.lengths.reverse();
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
        cut.begin(text);
        self.find_pairs(cut);
        let mut is_in_katakana = false;
        let mut start = 0;
        while let Some((&code, &pair)) = cut.codes.get(start).zip(cut.pairs.get(start)) {
            let cost = cut.ways.get(start).map_or(0, |way| way.cost());
            let single = self.singles.get(usize::from(code)).copied().unwrap_or(UNKNOWN_COST);
            let next = start.saturating_add(1);
            cut.reach(next, Way::new(cost.saturating_add(u32::from(single)), start));
            self.add_words(start, cost, pair, cut);
            let was_in_katakana = std::mem::replace(&mut is_in_katakana, is_katakana(code));
            if is_in_katakana && !was_in_katakana {
                add_katakana(start, cost, cut);
            }
            start = next;
        }
        cut.finish();
    }

    /// Looks up what begins with any two characters.
    ///
    /// Apart from weighing, so that the machine can wait for many of these looks at once.
    fn find_pairs(&self, cut: &mut Cut) {
        let pairs = cut.codes.iter().zip(cut.codes.iter().skip(1));
        cut.pairs.clear();
        cut.pairs.extend(pairs.map(|(first, second)| self.pair(*first, *second)));
        cut.pairs.push(Step::NONE);
    }

    /// Takes a step by two characters.
    #[inline]
    fn pair(&self, first: u16, second: u16) -> Step {
        let key = key_of(first, second);
        let mut place = place_of(key, self.pairs.len());
        while let Some(&entry) = self.pairs.get(place) {
            if entry >> STEP_BITS == key || entry == 0 {
                return Step::of(entry);
            }
            place = place.wrapping_add(1) & self.pairs.len().wrapping_sub(1);
        }
        Step::NONE
    }

    /// Adds the words of two characters and more that begin at a place.
    #[inline]
    fn add_words(&self, start: usize, cost: u32, pair: Step, cut: &mut Cut) {
        let mut step = pair;
        let mut end = start.saturating_add(2);
        cut.reach(end, Way::new(cost.saturating_add(step.cost()), start));
        while step.next() != 0
            && let Some(&code) = cut.codes.get(end)
            && let Some(found) = self.other(step.next(), code)
        {
            step = found;
            end = end.saturating_add(1);
            cut.reach(end, Way::new(cost.saturating_add(step.cost()), start));
        }
    }

    /// Takes a step from a place by one more character.
    #[inline]
    fn other(&self, place: u32, code: u16) -> Option<Step> {
        let steps = self.others.get(usize::try_from(place).ok()?..)?;
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

    /// Lays out words with their costs, which come in such an order that those with a common
    /// beginning stand together. `None` if there are too many.
    fn of(words: impl Iterator<Item = (String, u8)>) -> Option<Self> {
        let beginnings = Beginning::all_of(words)?;
        let mut longer: Vec<&Beginning> = beginnings.iter().filter(|b| b.length > 2).collect();
        longer.sort_by_key(|beginning| beginning.parent);
        // Place 0 is where nothing goes on.
        let places = 1..1_u32 << (STEP_BITS - COST_BITS);
        if longer.len() > places.len() {
            return None;
        }
        let mut next: Vec<u32> = vec![0; beginnings.len()];
        // From behind, so that of those side by side the first one stays.
        for (place, beginning) in places.zip(&longer).rev() {
            *next.get_mut(beginning.parent)? = place;
        }
        let entry = |key: u64, beginning: &Beginning| {
            let next = u64::from(next.get(beginning.id).copied().unwrap_or(0));
            key << STEP_BITS | next << COST_BITS | u64::from(beginning.cost)
        };

        let mut others = vec![0];
        for siblings in longer.chunk_by(|left, right| left.parent == right.parent) {
            others.extend(siblings.iter().map(|sibling| entry(sibling.code.into(), sibling)));
            *others.last_mut()? |= IS_LAST;
        }
        let mut singles = vec![UNKNOWN_COST; 1 << CHARACTER_BITS];
        for single in beginnings.iter().filter(|b| b.length == 1 && b.cost > 0) {
            *singles.get_mut(usize::from(single.code))? = single.cost;
        }
        let two: Vec<&Beginning> = beginnings.iter().filter(|b| b.length == 2).collect();
        let mut pairs = vec![0; two.len().saturating_mul(2).next_power_of_two()];
        for pair in two {
            let key = key_of(beginnings.get(pair.parent)?.code, pair.code);
            let mut place = place_of(key, pairs.len());
            while pairs.get(place).is_some_and(|entry| *entry != 0) {
                place = place.wrapping_add(1) & pairs.len().wrapping_sub(1);
            }
            *pairs.get_mut(place)? = entry(key, pair);
        }
        Some(Self { singles, pairs, others })
    }
}

/// Characters that one word or more begins with.
#[derive(Default)]
struct Beginning {
    id: usize,
    /// The same without the last character.
    parent: usize,
    length: usize,
    /// The last character.
    code: u16,
    /// What they cost as a word; 0 if they are none.
    cost: u8,
}

impl Beginning {
    /// Returns all beginnings of words, by their numbers; the first is empty.
    fn all_of(words: impl Iterator<Item = (String, u8)>) -> Option<Vec<Self>> {
        let mut all = vec![Self::default()];
        // Those of the word before.
        let mut path: Vec<(char, usize)> = Vec::new();
        for (word, cost) in words {
            let common = path.iter().zip(word.chars()).take_while(|((had, _), c)| had == c).count();
            path.truncate(common);
            for c in word.chars().skip(common) {
                let (id, parent) = (all.len(), path.last().map_or(0, |(_, id)| *id));
                path.push((c, id));
                let code = u16::try_from(u32::from(c)).ok()?;
                all.push(Self { id, parent, length: path.len(), code, cost: 0 });
            }
            all.last_mut()?.cost = cost;
        }
        Some(all)
    }
}

/// Adds the row of Katakana that begins at a place, as a word.
fn add_katakana(start: usize, cost: u32, cut: &mut Cut) {
    let row = cut.codes.get(start..).unwrap_or_default();
    let row = row.iter().take(KATAKANA_MAX + 1).take_while(|code| is_katakana(**code));
    let length = row.count();
    if length <= KATAKANA_MAX {
        let more = KATAKANA_COSTS.get(length).copied().unwrap_or(KATAKANA_COST_MAX);
        cut.reach(start.saturating_add(length), Way::new(cost.saturating_add(more), start));
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

/// Returns a number for two characters.
const fn key_of(first: u16, second: u16) -> u64 {
    (first as u64) << CHARACTER_BITS | second as u64
}

/// Returns one of so many places, a power of two, to look a number up in.
#[expect(clippy::cast_possible_truncation, reason = "the number is below that of the places")]
const fn place_of(key: u64, places: usize) -> usize {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    (key.wrapping_mul(SPREAD) >> (u64::BITS - places.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use icu_normalizer::ComposingNormalizer;

    use super::*;
    use crate::random::Random;

    fn plain() -> Vec<char> {
        ('\0'..=char::MAX).filter(|c| is_plain(*c)).collect()
    }

    fn cut(text: &str) -> Vec<&str> {
        let mut cut = Cut::default();
        Lexicon::get().unwrap().cut(text, &mut cut);
        let mut start = 0;
        let words = cut.ends(text).map(|end| text.get(std::mem::replace(&mut start, end)..end));
        words.map(Option::unwrap).collect()
    }

    fn is_katakana(c: char) -> bool {
        u16::try_from(u32::from(c)).is_ok_and(super::is_katakana)
    }

    /// What a word costs, by the dictionary itself.
    fn cost(words: &HashMap<String, u8>, text: &[char], start: usize, end: usize) -> Option<u32> {
        let word: String = text[start..end].iter().collect();
        let in_words = words.get(&word).map(|cost| u32::from(*cost));
        let unknown = (end - start == 1 && in_words.is_none()).then_some(255);
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
