//! The dictionary of Chinese and Japanese, laid out so that a step from character to character is
//! one look.
//!
//! `icu_segmenter` keeps it as a compact trie that is searched by halves at each character, and goes
//! along with a second iterator over grapheme clusters. That was nine tenths of the time that such
//! text took. Here are the same words in a hash table, made once in a process in which such text
//! is met, and the same way to choose among them; a test holds both side by side.

use std::sync::LazyLock;

use icu_provider::{
    DataIdentifierBorrowed, DataMarkerAttributes, DataProvider, DataRequest, DataResponse,
};
use icu_segmenter::provider::{Baked, DictionaryBreakData, SegmenterDictionaryAutoV2};

/// The name of the dictionary among the data of `icu_segmenter`.
const CHINESE_JAPANESE: &str = "cjdict";

/// What a step can reach. The bits above those hold the place, which is a number for each beginning
/// of a word, 0 for the empty one.
const IS_WORD: u32 = 1;
const HAS_MORE: u32 = 2;
const FLAGS_BITS: u32 = 2;

/// The bits of an entry that hold a step; those above say from which place and by which character.
const STEP_BITS: u32 = 24;
const CHARACTER_BITS: u32 = 16;

/// Tells whether a character can be looked up here: the common Han characters, Hiragana and
/// Katakana, each of which is a grapheme cluster, and in normal form, whatever it stands beside.
pub(super) const fn is_plain(c: char) -> bool {
    is_katakana(c)
        || matches!(c,
            '々' | '〇' | '\u{3041}'..='\u{3096}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}')
}

/// Tells whether a character is plain and makes one word with its like (WB13).
const fn is_katakana(c: char) -> bool {
    matches!(c, '\u{30a1}'..='\u{30fa}' | '\u{30fc}'..='\u{30fe}')
}

/// The steps from the beginnings of words to longer ones.
pub(super) struct Lexicon {
    /// Open addressing by place and character; 0 is free, and at least half are.
    entries: Vec<u64>,
}

impl Lexicon {
    /// Returns the dictionary, which is made once in a process; `None` if `icu_segmenter` does not
    /// have it in the form that is known here.
    pub(super) fn get() -> Option<&'static Self> {
        static LEXICON: LazyLock<Option<Lexicon>> = LazyLock::new(|| Lexicon::of(words()?));
        LEXICON.as_ref()
    }

    /// Returns where the words of a text of plain characters end.
    pub(super) fn ends<'t>(&'t self, text: &'t str) -> impl Iterator<Item = usize> + 't {
        let mut at = 0_usize;
        std::iter::from_fn(move || {
            let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
            at = at.saturating_add(self.first_word(rest));
            Some(at)
        })
    }

    /// Returns the length of the first word in bytes: the longest that the dictionary has.
    ///
    /// If it has none, what was looked at is taken for one. That is more than a character where a
    /// longer word begins alike.
    fn first_word(&self, text: &str) -> usize {
        let is_in_katakana = text.starts_with(is_katakana);
        if is_in_katakana {
            return text.find(|c| !is_katakana(c)).unwrap_or(text.len());
        }
        let (mut word, mut looked_at, mut place) = (0, 0_usize, 0);
        for c in text.chars() {
            if is_katakana(c) {
                break;
            }
            looked_at = looked_at.saturating_add(c.len_utf8());
            let step = self.step(place, c);
            if step & IS_WORD != 0 {
                word = looked_at;
            }
            if step & HAS_MORE == 0 {
                break;
            }
            place = step >> FLAGS_BITS;
        }
        if word > 0 { word } else { looked_at }
    }

    /// Takes a step from a place; 0 leads nowhere.
    fn step(&self, place: u32, c: char) -> u32 {
        let way = way(place, c);
        let mut index = index(way, self.entries.len());
        while let Some(&entry) = self.entries.get(index) {
            if entry >> STEP_BITS == way || entry == 0 {
                return step_of(entry);
            }
            index = index.wrapping_add(1) & self.entries.len().wrapping_sub(1);
        }
        0
    }

    /// Lays out words, which come in such an order that those with a common beginning stand
    /// together. `None` if there are too many.
    ///
    /// Of a word with characters that are not looked up here, it is remembered that its beginning
    /// has more.
    fn of(words: impl Iterator<Item = String>) -> Option<Self> {
        let mut steps: Vec<(u64, u32)> = Vec::new();
        // The word before, as the steps that led to it.
        let mut path: Vec<(char, usize)> = Vec::new();
        for word in words {
            let common = path.iter().zip(word.chars()).take_while(|((had, _), c)| had == c).count();
            path.truncate(common);
            let mut rest = word.chars().skip(common).peekable();
            while let Some(c) = rest.next() {
                let parent = path.last().and_then(|(_, index)| steps.get_mut(*index));
                let place = parent.map_or(0, |(_, step)| {
                    *step |= HAS_MORE;
                    *step >> FLAGS_BITS
                });
                if !is_plain(c) || is_katakana(c) {
                    break;
                }
                path.push((c, steps.len()));
                let reached = u32::try_from(steps.len()).ok()?.checked_add(1)?;
                let flags = if rest.peek().is_none() { IS_WORD } else { 0 };
                steps.push((way(place, c), reached.checked_shl(FLAGS_BITS)? | flags));
            }
        }
        if steps.len() >= 1 << (STEP_BITS - FLAGS_BITS) {
            return None;
        }
        let mut entries = vec![0; steps.len().saturating_mul(2).next_power_of_two()];
        for (way, step) in steps {
            let mut index = index(way, entries.len());
            while entries.get(index).is_some_and(|entry| *entry != 0) {
                index = index.wrapping_add(1) & entries.len().wrapping_sub(1);
            }
            *entries.get_mut(index)? = way << STEP_BITS | u64::from(step);
        }
        Some(Self { entries })
    }
}

/// Returns the words of the dictionary, in its order.
fn words() -> Option<impl Iterator<Item = String>> {
    let name = DataMarkerAttributes::try_from_str(CHINESE_JAPANESE).ok()?;
    let id = DataIdentifierBorrowed::for_marker_attributes(name);
    let request = DataRequest { id, ..DataRequest::default() };
    let found: DataResponse<SegmenterDictionaryAutoV2> = Baked.load(request).ok()?;
    match found.payload.get_static()? {
        DictionaryBreakData::Char16Trie(trie) => Some(trie.iter2().map(|(word, _)| word)),
        DictionaryBreakData::ZeroTrie { .. } => None,
    }
}

/// Returns a number for a step from a place by a character, which is plain.
fn way(place: u32, c: char) -> u64 {
    u64::from(place) << CHARACTER_BITS | u64::from(u32::from(c))
}

#[expect(clippy::cast_possible_truncation, reason = "the step is in the lower bits")]
const fn step_of(entry: u64) -> u32 {
    entry as u32 & ((1 << STEP_BITS) - 1)
}

/// Returns where the search for an entry begins among so many, a power of two.
#[expect(clippy::cast_possible_truncation, reason = "the number is below that of the entries")]
const fn index(way: u64, entries: usize) -> usize {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    (way.wrapping_mul(SPREAD) >> (u64::BITS - entries.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use icu_normalizer::ComposingNormalizer;
    use icu_segmenter::{
        GraphemeClusterSegmenter, WordSegmenter, options::WordBreakInvariantOptions,
    };

    use super::*;
    use crate::count::random::Random;

    fn plain() -> Vec<char> {
        ('\0'..=char::MAX).filter(|c| is_plain(*c)).collect()
    }

    fn assert_cut_alike(text: &str) {
        let segmenter = WordSegmenter::new_dictionary(WordBreakInvariantOptions::default());
        let expected: Vec<_> = segmenter.segment_str(text).filter(|end| *end > 0).collect();
        let found: Vec<_> = Lexicon::get().unwrap().ends(text).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn plain_characters_stand_for_themselves() {
        let composer = ComposingNormalizer::new_nfc();
        let clusters = GraphemeClusterSegmenter::new();
        let all: String = plain().into_iter().collect();
        assert!(composer.is_normalized(&all));
        assert_eq!(clusters.segment_str(&all).count(), all.chars().count() + 1);
        for c in plain() {
            assert_eq!(c.len_utf8(), 3, "{c}");
            assert_cut_alike(&format!("水{c}カ{c}の{c}{c}"));
        }
    }

    #[test]
    fn texts_are_cut_as_icu_cuts_them() {
        // As much of the dictionary as there is, so that beginnings of long words come up.
        let words: Vec<String> = words().unwrap().collect();
        assert!(words.len() > 100_000);
        let plain = plain();
        let mut random = Random::new(11);
        for _ in 0..30_000 {
            let mut text = String::new();
            for _ in 0..random.below(12) + 1 {
                let word = &words[random.below(words.len())];
                let letters = word.chars().filter(|c| is_plain(*c));
                let length = word.chars().count();
                match random.below(4) {
                    0 => text.push(plain[random.below(plain.len())]),
                    1 => text.extend(letters.take(random.below(length) + 1)),
                    2 => text.extend(letters.skip(random.below(length))),
                    _ => text.extend(letters),
                }
            }
            if !text.is_empty() {
                assert_cut_alike(&text);
            }
        }
    }

    #[test]
    fn every_word_and_its_beginnings_are_cut_as_icu_cuts_them() {
        for word in words().unwrap() {
            let letters: String = word.chars().filter(|c| is_plain(*c)).collect();
            assert_cut_alike(&letters);
            let mut beginning = letters;
            beginning.pop();
            beginning.push('々');
            assert_cut_alike(&beginning);
        }
    }
}
