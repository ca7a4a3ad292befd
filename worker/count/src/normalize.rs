//! Converts words to the normal form in which they are counted, for example lower case.

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_locale_core::LanguageIdentifier;
use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_properties::{
    CodePointSetData, CodePointSetDataBorrowed, props::DefaultIgnorableCodePoint,
};
use wordmill_common::options::{Apostrophe, Case, Hyphen, Normalize, Options};

use super::cjk_segmenter::is_nfc_stable_cjk;

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// The three characters around an annotation. They are the only invisible characters in words that
/// Unicode does not classify as ignorable.
const INTERLINEAR_ANNOTATION_START: char = '\u{fff9}';
const INTERLINEAR_ANNOTATION_END: char = '\u{fffb}';

/// Normalizes words according to the options.
pub(super) struct Normalizer {
    case: Case,
    apostrophe: Apostrophe,
    hyphen: Hyphen,
    /// Whether [`Normalizer::write_simple`] may be used.
    can_map_simply: bool,
    case_mapper: CaseMapperBorrowed<'static>,
    composer: ComposingNormalizerBorrowed<'static>,
    ignorable: CodePointSetDataBorrowed<'static>,
}

impl Normalizer {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            case: options.case,
            apostrophe: options.apostrophe,
            hyphen: options.hyphen,
            can_map_simply: options.normalize == Normalize::Nfc && options.case != Case::Fold,
            case_mapper: CaseMapper::new(),
            composer: match options.normalize {
                Normalize::Nfc => ComposingNormalizer::new_nfc(),
                Normalize::Nfkc => ComposingNormalizer::new_nfkc(),
            },
            ignorable: CodePointSetData::new::<DefaultIgnorableCodePoint>(),
        }
    }

    /// Returns whether ASCII letters are counted in lower case.
    pub(super) fn is_lowercasing(&self) -> bool {
        self.case != Case::Keep
    }

    /// Writes the normal form of `word` to `normal_form`, replacing its content.
    ///
    /// Composes the word and maps its case. Replaces every apostrophe with `'`. Removes invisible
    /// characters, except two kinds inside the word: joiners, which are part of the spelling in
    /// Persian and in Indian scripts, and spaces, for example U+202F in `10 000`. A word without
    /// visible characters stays unchanged.
    pub(super) fn write(&self, word: &str, normal_form: &mut String) {
        normal_form.clear();
        if word.is_ascii() {
            normal_form.push_str(word);
            if self.is_lowercasing() {
                normal_form.make_ascii_lowercase();
            }
            return;
        }
        if self.can_map_simply && self.write_simple(word, normal_form) {
            return;
        }
        normal_form.clear();
        // Joiners and spaces that are written only between visible characters. A segment can start
        // with a space if a joiner connects a pictograph to it, and end with U+202F, which French
        // has before `?`, because it connects letters in UAX #29.
        let mut inner = String::new();
        for c in self.composer.normalize(word).chars() {
            match c {
                ZERO_WIDTH_JOINER | ZERO_WIDTH_NON_JOINER => inner.push(c),
                c if c.is_whitespace() => inner.push(c),
                INTERLINEAR_ANNOTATION_START..=INTERLINEAR_ANNOTATION_END => {}
                c if self.ignorable.contains(c) => {}
                c => {
                    if !normal_form.is_empty() {
                        normal_form.push_str(&inner);
                    }
                    normal_form.push(c);
                    inner.clear();
                }
            }
        }
        self.map_case(normal_form);
        if normal_form.contains(|c| self.unify(c) != c) {
            *normal_form = normal_form.chars().map(|c| self.unify(c)).collect();
        }
        if normal_form.is_empty() {
            normal_form.push_str(word);
        }
    }

    /// Writes the normal form of a word of simple characters, which do not affect each other.
    /// Returns `false` if the word has other characters. The content of `normal_form` is then
    /// unspecified.
    fn write_simple(&self, word: &str, normal_form: &mut String) -> bool {
        for c in word.chars() {
            match c {
                '\0'..='\x7f' if self.is_lowercasing() => normal_form.push(c.to_ascii_lowercase()),
                '\0'..='\x7f' => normal_form.push(c),
                '\u{2019}' => normal_form.push(self.unify(c)),
                c if is_simple_letter(c) && self.is_lowercasing() => push_lowercase(c, normal_form),
                c if is_simple_letter(c) => normal_form.push(c),
                _ => return false,
            }
        }
        true
    }

    /// Returns the character that replaces all variants of `c`, for example `'` for apostrophes.
    fn unify(&self, c: char) -> char {
        match c {
            '\u{2019}' | '\u{2bc}' | '\u{ff07}' if self.apostrophe == Apostrophe::Unify => '\'',
            '\u{2010}' | '\u{2011}' if self.hyphen == Hyphen::Join => '-',
            c => c,
        }
    }

    fn map_case(&self, normal_form: &mut String) {
        let mapped = match self.case {
            Case::Lower => {
                self.case_mapper.lowercase_to_string(normal_form, &LanguageIdentifier::UNKNOWN)
            }
            Case::Fold => self.case_mapper.fold_string(normal_form),
            Case::Keep => return,
        };
        // The case mapping can produce a letter and a mark that compose.
        let composed = self.composer.normalize(&mapped).into_owned();
        *normal_form = composed;
    }
}

/// Appends a simple letter in lower case. Most letters need no table look-up.
fn push_lowercase(c: char, normal_form: &mut String) {
    match c {
        // Small Cyrillic letters, and letters without case: Hebrew, Arabic, Kana, Han and Hangul.
        '\u{430}'..='\u{45f}' | '\u{5d0}'..='\u{64a}' | '\u{3041}'..='\u{d7a3}' => {
            normal_form.push(c);
        }
        // Capital Cyrillic letters.
        '\u{410}'..='\u{42f}' => {
            normal_form.extend(char::from_u32(u32::from(c).wrapping_add(0x20)));
        }
        _ => normal_form.extend(c.to_lowercase()),
    }
}

/// Returns whether a letter is composed, does not compose with its neighbors, and has a single
/// character as its lower case in every context. This is the case for most letters of the large
/// alphabets.
const fn is_simple_letter(c: char) -> bool {
    matches!(c,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{12f}' | '\u{131}'..='\u{17e}'
        | '\u{388}'..='\u{3a1}' | '\u{3a4}'..='\u{3ce}'
        | '\u{400}'..='\u{481}' | '\u{48a}'..='\u{52f}'
        | '\u{5d0}'..='\u{5ea}' | '\u{621}'..='\u{64a}'
        | '\u{ac00}'..='\u{d7a3}')
        || is_nfc_stable_cjk(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn normalize_with(options: &Options, word: &str) -> String {
        let mut normal_form = "earlier content".to_owned();
        Normalizer::new(options).write(word, &mut normal_form);
        normal_form
    }

    fn normalize(case: Case, word: &str) -> String {
        normalize_with(&Options { case, ..Options::default() }, word)
    }

    #[test]
    fn case_is_lowered_folded_or_kept() {
        assert_eq!(normalize(Case::Lower, "STRAßE"), "straße");
        assert_eq!(normalize(Case::Fold, "STRAßE"), "strasse");
        assert_eq!(normalize(Case::Keep, "STRAßE"), "STRAßE");
        assert_eq!(normalize(Case::Keep, "Mill"), "Mill");
    }

    #[test]
    fn final_sigma_is_chosen_by_context() {
        assert_eq!(normalize(Case::Lower, "ΟΔΟΣ"), "οδος");
        assert_eq!(normalize(Case::Lower, "ΣΟΦΟΣ"), "σοφος");
        assert_eq!(normalize(Case::Fold, "οδος"), "οδοσ");
    }

    #[test]
    fn apostrophes_are_unified_unless_kept() {
        for word in ["o'brien", "O\u{2019}Brien", "O\u{2bc}Brien", "O\u{ff07}Brien"] {
            assert_eq!(normalize(Case::Lower, word), "o'brien");
        }
        let keeping = Options { apostrophe: Apostrophe::Keep, ..Options::default() };
        assert_eq!(normalize_with(&keeping, "O\u{2019}Brien"), "o\u{2019}brien");
    }

    #[test]
    fn joiners_are_kept_only_inside_words() {
        assert_eq!(normalize(Case::Lower, "می\u{200c}خواهم"), "می\u{200c}خواهم");
        assert_eq!(normalize(Case::Lower, "می\u{200c}"), "می");
        assert_eq!(normalize(Case::Lower, "\u{200d}می"), "می");
        assert_eq!(normalize(Case::Lower, "co\u{ad}op\u{fe0f}"), "coop");
    }

    #[test]
    fn spaces_are_kept_only_inside_words() {
        let nfkc = Options { normalize: Normalize::Nfkc, ..Options::default() };
        for options in [Options::default(), nfkc] {
            assert_eq!(normalize_with(&options, "Pourquoi\u{202f}"), "pourquoi");
            assert_eq!(normalize_with(&options, "\u{202f}la\u{202f}\u{200d}\u{202f}"), "la");
        }
        assert_eq!(normalize(Case::Lower, "10\u{202f}000\u{202f}"), "10\u{202f}000");
    }

    #[test]
    fn no_character_leaves_something_invisible_at_the_edge_of_a_word() {
        let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
        let is_invisible = |c: char| {
            c.is_whitespace() || ignorable.contains(c) || "\u{fff9}\u{fffa}\u{fffb}".contains(c)
        };
        for normalize in [Normalize::Nfc, Normalize::Nfkc] {
            let options = Options { normalize, ..Options::default() };
            let normalizer = Normalizer::new(&options);
            let mut normal_form = String::new();
            for c in ('\u{80}'..='\u{1ffff}').chain('\u{e0000}'..='\u{e0fff}') {
                for word in [format!("a{c}"), format!("{c}a"), format!("{c}\u{200d}a{c}\u{202f}")] {
                    normalizer.write(&word, &mut normal_form);
                    assert!(!normal_form.starts_with(is_invisible), "{word:?} {normal_form:?}");
                    assert!(!normal_form.ends_with(is_invisible), "{word:?} {normal_form:?}");
                }
            }
        }
    }

    #[test]
    fn normal_forms_are_composed_after_case_mapping() {
        assert_eq!(normalize(Case::Lower, "CAFE\u{301}"), "café");
        assert_eq!(normalize(Case::Lower, "\u{2126}"), "ω");
    }

    #[test]
    fn nfkc_replaces_variants() {
        let plain = Options { normalize: Normalize::Nfkc, ..Options::default() };
        assert_eq!(normalize_with(&plain, "ﬁne"), "fine");
        assert_eq!(normalize_with(&plain, "ＡＢＣ"), "abc");
        assert_eq!(normalize(Case::Lower, "ﬁne"), "ﬁne");
    }

    #[test]
    fn hyphens_in_joined_words_are_unified() {
        let joined = Options { hyphen: Hyphen::Join, ..Options::default() };
        assert_eq!(normalize_with(&joined, "mother\u{2010}in\u{2011}law"), "mother-in-law");
    }

    #[test]
    fn invisible_characters_alone_are_listed_as_written() {
        assert_eq!(normalize(Case::Lower, "\u{200b}"), "\u{200b}");
    }

    #[test]
    fn the_simple_mapping_matches_the_general_one() {
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
            let simple = Normalizer::new(&Options { case, ..Options::default() });
            let general = Normalizer {
                can_map_simply: false,
                ..Normalizer::new(&Options { case, ..Options::default() })
            };
            let mut actual = String::new();
            let mut expected = String::new();
            for word in &words {
                assert!(word.is_ascii() || simple.write_simple(word, &mut String::new()), "{word}");
                simple.write(word, &mut actual);
                general.write(word, &mut expected);
                assert_eq!(actual, expected, "{word}");
            }
        }
    }

    /// The word table relies on this: it may normalize a normal form again.
    #[test]
    fn normalization_is_idempotent() {
        for normalize in [Normalize::Nfc, Normalize::Nfkc] {
            for case in [Case::Lower, Case::Fold, Case::Keep] {
                let options = Options { case, normalize, ..Options::default() };
                let normalizer = Normalizer::new(&options);
                let mut once = String::new();
                let mut twice = String::new();
                for c in '\u{80}'..='\u{1ffff}' {
                    normalizer.write(&format!("a{c}a"), &mut once);
                    normalizer.write(&once, &mut twice);
                    assert_eq!(once, twice, "{c:?} {options:?}");
                }
            }
        }
    }
}
