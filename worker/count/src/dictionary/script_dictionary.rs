//! Dictionaries of Thai, Lao, Khmer and Burmese, and the properties of their letters.

use std::sync::LazyLock;

use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, GeneralCategoryGroup, LineBreak, Script},
};
use icu_provider::{
    DataIdentifierBorrowed, DataMarkerAttributes, DataProvider, DataRequest, DataResponse,
};
use icu_segmenter::provider::{Baked, DictionaryBreakData, SegmenterDictionaryExtendedV2};

use crate::char_class::WritingSystem;

/// Maximum number of letters of a word in the dictionaries.
pub(super) const WORD_LETTERS_MAX: usize = 40;

/// Maximum number of dictionary words that are considered at one position, the shortest first.
const CANDIDATES_MAX: usize = 20;

/// Alphabet index of a letter that occurs in no dictionary word.
const NOT_IN_DICTIONARY: u8 = u8::MAX;

/// Properties of a script that the segmentation needs. The letters are those of ICU.
struct ScriptRules {
    script: Script,
    /// Name of the dictionary in the data of `icu_segmenter`.
    dictionary_name: &'static str,
    /// A sequence of at most this many letters and marks is not split.
    undivided_letters_max: usize,
    /// Letters with which a word can begin after unknown text.
    can_begin_word: fn(char) -> bool,
    /// Letters with which unknown text cannot end, for example vowels before a consonant.
    cannot_end_word: fn(char) -> bool,
}

const THAI: ScriptRules = ScriptRules {
    script: Script::Thai,
    dictionary_name: "thaidict",
    undivided_letters_max: 4,
    can_begin_word: |c| matches!(c, '\u{e01}'..='\u{e2e}' | '\u{e40}'..='\u{e44}'),
    cannot_end_word: |c| matches!(c, '\u{e31}' | '\u{e40}'..='\u{e44}'),
};

const LAO: ScriptRules = ScriptRules {
    script: Script::Lao,
    dictionary_name: "laodict",
    undivided_letters_max: 3,
    can_begin_word: |c| matches!(c, '\u{e81}'..='\u{eae}' | '\u{ec0}'..='\u{ec4}' | 'ໜ' | 'ໝ'),
    cannot_end_word: |c| matches!(c, '\u{ec0}'..='\u{ec4}'),
};

const KHMER: ScriptRules = ScriptRules {
    script: Script::Khmer,
    dictionary_name: "khmerdict",
    undivided_letters_max: 3,
    can_begin_word: |c| matches!(c, '\u{1780}'..='\u{17b3}'),
    cannot_end_word: |c| c == '\u{17d2}',
};

const BURMESE: ScriptRules = ScriptRules {
    script: Script::Myanmar,
    dictionary_name: "burmesedict",
    undivided_letters_max: 3,
    can_begin_word: |c| matches!(c, '\u{1000}'..='\u{102a}'),
    cannot_end_word: |_| false,
};

/// A letter or mark of a run.
#[derive(Clone, Copy)]
pub(super) struct Letter {
    /// Index in the alphabet of the dictionary, or [`NOT_IN_DICTIONARY`].
    index: u8,
    flags: u8,
}

impl Letter {
    /// A mark of another script. It belongs to a word, but no dictionary word contains it.
    pub(super) const FOREIGN: Self = Self { index: NOT_IN_DICTIONARY, flags: 0 };
    pub(super) const OF_SCRIPT: u8 = 1;
    pub(super) const MARK: u8 = 2;
    /// A word can begin with the letter after unknown text.
    pub(super) const BEGINS_WORD: u8 = 4;
    /// Unknown text can end with the letter.
    pub(super) const ENDS_WORD: u8 = 8;
    /// The Thai sign `ฯ`, which abbreviates the word before it.
    pub(super) const ABBREVIATION: u8 = 16;
    /// The Thai sign `ๆ`, which repeats the word before it.
    pub(super) const REPETITION: u8 = 32;

    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn of(c: char, rules: &ScriptRules, index: Option<usize>) -> Self {
        if CodePointMapData::<LineBreak>::new().get(c) != LineBreak::ComplexContext
            || CodePointMapData::<Script>::new().get(c) != rules.script
        {
            return Self::FOREIGN;
        }
        let category = CodePointMapData::<GeneralCategory>::new().get(c);
        let flags = [
            (true, Self::OF_SCRIPT),
            (GeneralCategoryGroup::Mark.contains(category), Self::MARK),
            ((rules.can_begin_word)(c), Self::BEGINS_WORD),
            (!(rules.cannot_end_word)(c), Self::ENDS_WORD),
            (c == '\u{e2f}', Self::ABBREVIATION),
            (c == '\u{e46}', Self::REPETITION),
        ];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
        Self {
            index: index.and_then(|index| u8::try_from(index).ok()).unwrap_or(NOT_IN_DICTIONARY),
            flags: flags.fold(0, |all, (_, flag)| all | flag),
        }
    }
}

/// The dictionary of a script.
pub(super) struct ScriptDictionary {
    /// A sequence of at most this many letters and marks is not split.
    pub(super) undivided_letters_max: usize,
    data: &'static DictionaryBreakData<'static>,
    /// First code point of the script.
    first: u32,
    /// Letters and marks of the script, by their code points from `first`.
    letters: Vec<Letter>,
}

impl ScriptDictionary {
    /// Returns the dictionary of a writing system, which is loaded once per process. `None` if the
    /// writing system has no such dictionary, or if the data of `icu_segmenter` has an unknown
    /// format.
    pub(super) fn get(writing: WritingSystem) -> Option<&'static Self> {
        static THAI_DICTIONARY: LazyLock<Option<ScriptDictionary>> =
            LazyLock::new(|| ScriptDictionary::load(&THAI));
        static LAO_DICTIONARY: LazyLock<Option<ScriptDictionary>> =
            LazyLock::new(|| ScriptDictionary::load(&LAO));
        static KHMER_DICTIONARY: LazyLock<Option<ScriptDictionary>> =
            LazyLock::new(|| ScriptDictionary::load(&KHMER));
        static BURMESE_DICTIONARY: LazyLock<Option<ScriptDictionary>> =
            LazyLock::new(|| ScriptDictionary::load(&BURMESE));
        match writing {
            WritingSystem::ChineseJapanese => None,
            WritingSystem::Thai => THAI_DICTIONARY.as_ref(),
            WritingSystem::Lao => LAO_DICTIONARY.as_ref(),
            WritingSystem::Khmer => KHMER_DICTIONARY.as_ref(),
            WritingSystem::Myanmar => BURMESE_DICTIONARY.as_ref(),
        }
    }

    fn load(rules: &ScriptRules) -> Option<Self> {
        let name = DataMarkerAttributes::try_from_str(rules.dictionary_name).ok()?;
        let id = DataIdentifierBorrowed::for_marker_attributes(name);
        let request = DataRequest { id, ..DataRequest::default() };
        let response: DataResponse<SegmenterDictionaryExtendedV2> = Baked.load(request).ok()?;
        let data = response.payload.get_static()?;
        let DictionaryBreakData::ZeroTrie { alphabet, .. } = data else { return None };
        let letter_of = |c: char| Letter::of(c, rules, alphabet.position32(c.into()));
        let is_of_script = |c: &char| letter_of(*c).has(Letter::OF_SCRIPT);
        let first = ('\0'..='\u{ffff}').find(is_of_script)?;
        let last = (first..='\u{ffff}').rfind(is_of_script)?;
        Some(Self {
            undivided_letters_max: rules.undivided_letters_max,
            data,
            first: first.into(),
            letters: (first..=last).map(letter_of).collect(),
        })
    }

    /// Returns the properties of a character.
    pub(super) fn letter(&self, c: char) -> Letter {
        let index = u32::from(c).checked_sub(self.first).and_then(|index| index.try_into().ok());
        let letter = index.and_then(|index: usize| self.letters.get(index));
        letter.copied().unwrap_or(Letter::FOREIGN)
    }

    /// Finds the dictionary words with which `letters` begin.
    pub(super) fn candidates(&self, letters: &[Letter]) -> Candidates {
        let mut candidates = Candidates::NONE;
        let DictionaryBreakData::ZeroTrie { trie, .. } = self.data else { return candidates };
        let mut cursor = trie.cursor();
        for letter in letters {
            candidates.letters_read = candidates.letters_read.saturating_add(1);
            cursor.step(letter.index);
            if cursor.take_value().is_some() {
                candidates.push(candidates.letters_read);
            }
            if cursor.is_empty() {
                break;
            }
        }
        candidates
    }
}

/// The dictionary words that begin at one position.
#[derive(Clone, Copy)]
pub(super) struct Candidates {
    pub(super) count: usize,
    /// Numbers of letters of the words, in increasing order.
    lengths: [u8; CANDIDATES_MAX],
    /// Number of letters that were compared with the dictionary, including the first one with which
    /// no word continues.
    pub(super) letters_read: u8,
}

impl Candidates {
    pub(super) const NONE: Self = Self { count: 0, lengths: [0; CANDIDATES_MAX], letters_read: 0 };

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, length: u8) {
        if let Some(free) = self.lengths.get_mut(self.count) {
            *free = length;
            self.count = self.count.saturating_add(1);
        }
    }

    /// Returns the numbers of letters of the words, the longest first.
    pub(super) fn longest_first(&self) -> impl Iterator<Item = usize> {
        self.lengths.iter().take(self.count).rev().map(|length| usize::from(*length))
    }

    pub(super) fn longest(&self) -> usize {
        self.longest_first().next().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
