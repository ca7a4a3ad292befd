//! From a word as it is written to the form it is listed under.

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_locale_core::LanguageIdentifier;
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_properties::{
    CodePointSetData, CodePointSetDataBorrowed, props::DefaultIgnorableCodePoint,
};

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// How letter case is treated when words are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// Lower case as people write it, final sigma included; `Straße` and `STRASSE` stay apart.
    #[default]
    Lower,
    /// Full case folding: everything that differs by case only is one word, `ß` is `ss`.
    Fold,
    /// As written.
    Keep,
}

/// Makes keys; holds the Unicode tables that it needs.
pub(super) struct KeyMaker {
    case: Case,
    case_mapper: CaseMapperBorrowed<'static>,
    composer: ComposingNormalizerBorrowed<'static>,
    ignorable: CodePointSetDataBorrowed<'static>,
}

impl KeyMaker {
    pub(super) const fn new(case: Case) -> Self {
        Self {
            case,
            case_mapper: CaseMapper::new(),
            composer: ComposingNormalizer::new_nfc(),
            ignorable: CodePointSetData::new::<DefaultIgnorableCodePoint>(),
        }
    }

    /// Writes the key of `word` into `key`, replacing what was there.
    ///
    /// Composes (NFC), makes every apostrophe `'`, drops invisible characters except joiners
    /// inside the word, which are spelling in Persian and in Indian scripts, and maps the case.
    pub(super) fn write(&self, word: &str, key: &mut String) {
        key.clear();
        if word.is_ascii() {
            key.push_str(word);
            if self.case != Case::Keep {
                key.make_ascii_lowercase();
            }
            return;
        }
        let mut joiners = String::new();
        for c in self.composer.normalize(word).chars() {
            match c {
                '\u{2019}' | '\u{2bc}' | '\u{ff07}' => key.push('\''),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn key(case: Case, word: &str) -> String {
        let mut key = "left over".to_owned();
        KeyMaker::new(case).write(word, &mut key);
        key
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
    fn every_apostrophe_is_the_same() {
        for word in ["o'brien", "O\u{2019}Brien", "O\u{2bc}Brien", "O\u{ff07}Brien"] {
            assert_eq!(key(Case::Lower, word), "o'brien");
        }
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
}
