//! From a word as it is written to the form it is listed under.

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_locale_core::LanguageIdentifier;
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_properties::{
    CodePointSetData, CodePointSetDataBorrowed, props::DefaultIgnorableCodePoint,
};
use wordmill_common::options::{Apostrophe, Case, Hyphen, Normalize, Options};

use super::cjk_segmenter::is_plain;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// Makes keys; holds the Unicode tables that it needs.
pub(super) struct KeyMaker {
    case: Case,
    apostrophe: Apostrophe,
    hyphen: Hyphen,
    /// Whether simple characters may be mapped one by one.
    is_simple: bool,
    case_mapper: CaseMapperBorrowed<'static>,
    composer: ComposingNormalizerBorrowed<'static>,
    ignorable: CodePointSetDataBorrowed<'static>,
}

impl KeyMaker {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            case: options.case,
            apostrophe: options.apostrophe,
            hyphen: options.hyphen,
            is_simple: options.normalize == Normalize::Nfc && options.case != Case::Fold,
            case_mapper: CaseMapper::new(),
            composer: match options.normalize {
                Normalize::Nfc => ComposingNormalizer::new_nfc(),
                Normalize::Nfkc => ComposingNormalizer::new_nfkc(),
            },
            ignorable: CodePointSetData::new::<DefaultIgnorableCodePoint>(),
        }
    }

    /// Tells whether ASCII letters are listed in lower case.
    pub(super) fn lowers(&self) -> bool {
        self.case != Case::Keep
    }

    /// Writes the key of `word` into `key`, replacing what was there.
    ///
    /// Composes, makes every apostrophe `'`, drops invisible characters except joiners
    /// inside the word, which are spelling in Persian and in Indian scripts, and maps the case.
    /// What has nothing visible in it is listed as it is written.
    pub(super) fn write(&self, word: &str, key: &mut String) {
        key.clear();
        if word.is_ascii() {
            key.push_str(word);
            if self.lowers() {
                key.make_ascii_lowercase();
            }
            return;
        }
        if self.is_simple && self.write_simple(word, key) {
            return;
        }
        key.clear();
        let mut joiners = String::new();
        for c in self.composer.normalize(word).chars() {
            match c {
                ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER => {
                    joiners.push(c);
                    continue;
                }
                c if self.ignorable.contains(c) => continue,
                // A space may open a segment, when a joiner ties a pictograph to it.
                c if key.is_empty() && c.is_whitespace() => {}
                c => {
                    if !key.is_empty() {
                        key.push_str(&joiners);
                    }
                    key.push(c);
                }
            }
            joiners.clear();
        }
        self.map_case(key);
        if key.contains(|c| self.unified(c) != c) {
            *key = key.chars().map(|c| self.unified(c)).collect();
        }
        if key.is_empty() {
            key.push_str(word);
        }
    }

    /// Writes the key of a word whose characters have nothing to do with each other; returns
    /// `false`, and may leave something, if it has others.
    fn write_simple(&self, word: &str, key: &mut String) -> bool {
        for c in word.chars() {
            match c {
                '\0'..='\x7f' if self.lowers() => key.push(c.to_ascii_lowercase()),
                '\0'..='\x7f' => key.push(c),
                '\u{2019}' => key.push(self.unified(c)),
                c if is_simple_letter(c) && self.lowers() => push_lower(c, key),
                c if is_simple_letter(c) => key.push(c),
                _ => return false,
            }
        }
        true
    }

    /// Returns the sign that stands for all of its kind.
    fn unified(&self, c: char) -> char {
        match c {
            '\u{2019}' | '\u{2bc}' | '\u{ff07}' if self.apostrophe == Apostrophe::Unify => '\'',
            '\u{2010}' | '\u{2011}' if self.hyphen == Hyphen::Join => '-',
            c => c,
        }
    }

    fn map_case(&self, key: &mut String) {
        let mapped = match self.case {
            Case::Lower => self.case_mapper.lowercase_to_string(key, &LanguageIdentifier::UNKNOWN),
            Case::Fold => self.case_mapper.fold_string(key),
            Case::Keep => return,
        };
        // Mapping can leave a letter and a mark that compose.
        let composed = self.composer.normalize(&mapped).into_owned();
        *key = composed;
    }
}

/// Appends a simple letter in lower case; for most it is known without a look into tables.
fn push_lower(c: char, key: &mut String) {
    match c {
        '\u{430}'..='\u{45f}' | '\u{5d0}'..='\u{64a}' | '\u{3041}'..='\u{d7a3}' => key.push(c),
        '\u{410}'..='\u{42f}' => key.extend(char::from_u32(u32::from(c).wrapping_add(0x20))),
        _ => key.extend(c.to_lowercase()),
    }
}

/// Tells whether a letter is composed, composes with no letter before or after it, and has a lower
/// case that is one character and the same everywhere: most letters of the large alphabets.
const fn is_simple_letter(c: char) -> bool {
    matches!(c,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{12f}' | '\u{131}'..='\u{17e}'
        | '\u{388}'..='\u{3a1}' | '\u{3a4}'..='\u{3ce}'
        | '\u{400}'..='\u{481}' | '\u{48a}'..='\u{52f}'
        | '\u{5d0}'..='\u{5ea}' | '\u{621}'..='\u{64a}'
        | '\u{ac00}'..='\u{d7a3}')
        || is_plain(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn key_by(options: &Options, word: &str) -> String {
        let mut key = "left over".to_owned();
        KeyMaker::new(options).write(word, &mut key);
        key
    }

    fn key(case: Case, word: &str) -> String {
        key_by(&Options { case, ..Options::default() }, word)
    }

    #[test]
    fn case_is_lowered_folded_or_kept() {
        assert_eq!(key(Case::Lower, "STRAßE"), "straße");
        assert_eq!(key(Case::Fold, "STRAßE"), "strasse");
        assert_eq!(key(Case::Keep, "STRAßE"), "STRAßE");
        assert_eq!(key(Case::Keep, "Mill"), "Mill");
    }

    #[test]
    fn final_sigma_is_chosen_by_context() {
        assert_eq!(key(Case::Lower, "ΟΔΟΣ"), "οδος");
        assert_eq!(key(Case::Lower, "ΣΟΦΟΣ"), "σοφος");
        assert_eq!(key(Case::Fold, "οδος"), "οδοσ");
    }

    #[test]
    fn every_apostrophe_is_the_same_unless_kept() {
        for word in ["o'brien", "O\u{2019}Brien", "O\u{2bc}Brien", "O\u{ff07}Brien"] {
            assert_eq!(key(Case::Lower, word), "o'brien");
        }
        let kept = Options { apostrophe: Apostrophe::Keep, ..Options::default() };
        assert_eq!(key_by(&kept, "O\u{2019}Brien"), "o\u{2019}brien");
    }

    #[test]
    fn joiners_stay_inside_words_only() {
        assert_eq!(key(Case::Lower, "می\u{200c}خواهم"), "می\u{200c}خواهم");
        assert_eq!(key(Case::Lower, "می\u{200c}"), "می");
        assert_eq!(key(Case::Lower, "\u{200d}می"), "می");
        assert_eq!(key(Case::Lower, "co\u{ad}op\u{fe0f}"), "coop");
    }

    #[test]
    fn keys_are_composed_after_case_mapping() {
        assert_eq!(key(Case::Lower, "CAFE\u{301}"), "café");
        assert_eq!(key(Case::Lower, "\u{2126}"), "ω");
    }

    #[test]
    fn variants_become_plain_letters_on_request() {
        let plain = Options { normalize: Normalize::Nfkc, ..Options::default() };
        assert_eq!(key_by(&plain, "ﬁne"), "fine");
        assert_eq!(key_by(&plain, "ＡＢＣ"), "abc");
        assert_eq!(key(Case::Lower, "ﬁne"), "ﬁne");
    }

    #[test]
    fn hyphens_within_joined_words_are_the_same() {
        let joined = Options { hyphen: Hyphen::Join, ..Options::default() };
        assert_eq!(key_by(&joined, "mother\u{2010}in\u{2011}law"), "mother-in-law");
    }

    #[test]
    fn the_invisible_is_listed_as_written() {
        assert_eq!(key(Case::Lower, "\u{200b}"), "\u{200b}");
    }

    #[test]
    fn simple_characters_are_mapped_as_all_others_are() {
        let letters = ('\0'..=char::MAX).filter(|c| is_simple_letter(*c) || "a’'Z".contains(*c));
        let letters: Vec<char> = letters.collect();
        let mut random = Random::new(7);
        let mut random_word = || -> String {
            (0..random.below(12) + 1).map(|_| letters[random.below(letters.len())]).collect()
        };
        let mut words: Vec<String> = (0..100_000).map(|_| random_word()).collect();
        words.extend(
            letters.iter().flat_map(|c| [c.to_string(), format!("a{c}a"), format!("{c}я")]),
        );
        for case in [Case::Lower, Case::Keep] {
            let simple = KeyMaker::new(&Options { case, ..Options::default() });
            let careful = KeyMaker {
                is_simple: false,
                ..KeyMaker::new(&Options { case, ..Options::default() })
            };
            let (mut found, mut expected) = (String::new(), String::new());
            for word in &words {
                assert!(word.is_ascii() || simple.write_simple(word, &mut String::new()), "{word}");
                simple.write(word, &mut found);
                careful.write(word, &mut expected);
                assert_eq!(found, expected, "{word}");
            }
        }
    }

    /// The table relies on it: what has a key may be given one again.
    #[test]
    fn the_key_of_a_key_is_itself() {
        for normalize in [Normalize::Nfc, Normalize::Nfkc] {
            for case in [Case::Lower, Case::Fold, Case::Keep] {
                let options = Options { case, normalize, ..Options::default() };
                let maker = KeyMaker::new(&options);
                let (mut once, mut twice) = (String::new(), String::new());
                for c in '\u{80}'..='\u{1ffff}' {
                    maker.write(&format!("a{c}a"), &mut once);
                    maker.write(&once, &mut twice);
                    assert_eq!(once, twice, "{c:?} {options:?}");
                }
            }
        }
    }
}
