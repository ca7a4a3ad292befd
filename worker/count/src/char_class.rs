//! Properties of characters that the counter needs, combined in one look-up.

use std::sync::LazyLock;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        DefaultIgnorableCodePoint, ExtendedPictographic, GeneralCategory, GeneralCategoryGroup,
        HangulSyllableType, LineBreak, Script, WhiteSpace, WordBreak,
    },
};

use super::cjk_segmenter;

/// Writing systems that are segmented by a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WritingSystem {
    /// Han, Hiragana and Katakana, which Japanese mixes within one word.
    ChineseJapanese,
    Khmer,
    Lao,
    Myanmar,
    Thai,
}

/// Number of code points in the table: the Basic Multilingual Plane.
const TABLE_LEN: usize = 0x1_0000;

/// Classes of characters that the boundary rules distinguish.
///
/// Spaces are [`Class::Other`], because they are never part of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Letter,
    HebrewLetter,
    /// A Hebrew letter with a single quote after it, which belongs to the word (`WB7a`). The
    /// segmenter uses it as a state; no character has this class.
    HebrewQuote,
    /// A letter by the boundary rules. A separate class, because the rule `gmx` counts its
    /// syllables.
    Hangul,
    Numeric,
    /// Connectors such as `_`, which join letters and digits on both sides (`WB13a`, `WB13b`).
    ExtendNumLet,
    /// Signs such as `:`, which do not end a word between two letters (WB6, WB7).
    MidLetter,
    /// Signs such as `,`, which do not end a number between two digits (WB11, WB12).
    MidNum,
    /// Signs such as `.`, which have both properties.
    MidNumLet,
    SingleQuote,
    DoubleQuote,
    /// Marks and format characters, which belong to the character before them (WB4).
    Extend,
    /// The zero width joiner. Extends, and joins a pictograph that follows (`WB3c`).
    Joiner,
    Newline,
    /// Half of a flag (WB15, WB16).
    Regional,
    Han,
    /// Hiragana and Katakana.
    Kana,
    /// Signs such as `゛`, which belong to the Kana and Han around them. The dictionary does not
    /// contain them.
    KanaSign,
    Khmer,
    Lao,
    Myanmar,
    Thai,
    Other,
}

impl Class {
    /// Returns the writing system if runs of such letters are split into words by a dictionary.
    pub(super) const fn writing(self) -> Option<WritingSystem> {
        match self {
            Self::Han | Self::Kana | Self::KanaSign => Some(WritingSystem::ChineseJapanese),
            Self::Khmer => Some(WritingSystem::Khmer),
            Self::Lao => Some(WritingSystem::Lao),
            Self::Myanmar => Some(WritingSystem::Myanmar),
            Self::Thai => Some(WritingSystem::Thai),
            Self::Letter
            | Self::HebrewLetter
            | Self::HebrewQuote
            | Self::Hangul
            | Self::Numeric
            | Self::ExtendNumLet
            | Self::MidLetter
            | Self::MidNum
            | Self::MidNumLet
            | Self::SingleQuote
            | Self::DoubleQuote
            | Self::Extend
            | Self::Joiner
            | Self::Newline
            | Self::Regional
            | Self::Other => None,
        }
    }

    pub(super) const fn is_letter(self) -> bool {
        matches!(self, Self::Letter | Self::HebrewLetter | Self::Hangul)
    }

    pub(super) const fn is_word_part(self) -> bool {
        self.is_letter() || matches!(self, Self::Numeric | Self::ExtendNumLet)
    }

    pub(super) const fn is_extending(self) -> bool {
        matches!(self, Self::Extend | Self::Joiner)
    }

    /// Returns whether there is no boundary before `next` (WB5, 7a, 8 to 10, 13a to 16).
    pub(super) const fn joins(self, next: Self) -> bool {
        (self.is_word_part() && next.is_word_part())
            || (matches!(self, Self::HebrewLetter) && matches!(next, Self::SingleQuote))
            || (matches!(self, Self::HebrewQuote) && next.is_letter())
            || (matches!(self, Self::Regional) && matches!(next, Self::Regional))
    }

    /// Returns whether `middle` can be inside a word after this class (WB6, 7b, 12). The character
    /// after it decides: see [`Self::allows_middle`].
    pub(super) const fn can_join(self, middle: Self) -> bool {
        let in_word = matches!(middle, Self::MidLetter | Self::MidNumLet | Self::SingleQuote);
        let in_number = matches!(middle, Self::MidNum | Self::MidNumLet | Self::SingleQuote);
        (in_word && self.is_letter())
            || (in_number && matches!(self, Self::Numeric))
            || (matches!(middle, Self::DoubleQuote) && matches!(self, Self::HebrewLetter))
    }

    /// Returns whether there is no boundary around `middle` if `next` follows it (WB7, 7c, 11).
    /// [`Self::can_join`] must have returned `true` for it.
    pub(super) const fn allows_middle(self, middle: Self, next: Self) -> bool {
        match (self, middle) {
            (_, Self::DoubleQuote) => matches!(next, Self::HebrewLetter),
            (Self::Numeric, _) => matches!(next, Self::Numeric),
            _ => next.is_letter(),
        }
    }
}

/// Class and other properties of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CharProperties {
    pub(super) class: Class,
    flags: u8,
}

impl CharProperties {
    const NONE: Self = Self { class: Class::Other, flags: 0 };
    const WORD_CHARACTER: u8 = 1;
    const SPACE: u8 = 2;
    const IGNORABLE: u8 = 4;
    const PICTOGRAPH: u8 = 8;
    const SYLLABLE_TAIL: u8 = 16;
    const NFC_STABLE_CJK: u8 = 32;

    /// Returns whether a segment with such a character is a word: a letter, decimal digit or letter
    /// number.
    ///
    /// Exceptions: invisible letters (Hangul fillers), and the letter apostrophe U+02BC, which is
    /// listed as an apostrophe and alone is not a word.
    pub(super) const fn is_word_character(self) -> bool {
        self.flags & Self::WORD_CHARACTER != 0
    }

    /// Returns whether the character is white space.
    pub(super) const fn is_space(self) -> bool {
        self.flags & Self::SPACE != 0
    }

    /// Returns whether the character is invisible.
    pub(super) const fn is_ignorable(self) -> bool {
        self.flags & Self::IGNORABLE != 0
    }

    pub(super) const fn is_pictograph(self) -> bool {
        self.flags & Self::PICTOGRAPH != 0
    }

    /// Returns whether the character continues the Hangul syllable before it.
    pub(super) const fn is_syllable_tail(self) -> bool {
        self.flags & Self::SYLLABLE_TAIL != 0
    }

    /// Returns whether any sequence of such characters is in normal form (NFC).
    pub(super) const fn is_nfc_stable_cjk(self) -> bool {
        self.flags & Self::NFC_STABLE_CJK != 0
    }

    /// Returns whether the rules treat a stretch of such characters like one character.
    pub(super) const fn can_stretch(self) -> bool {
        match self.class {
            Class::Letter
            | Class::HebrewLetter
            | Class::Hangul
            | Class::Numeric
            | Class::ExtendNumLet
            | Class::Extend
            | Class::Han
            | Class::Kana
            | Class::KanaSign
            | Class::Khmer
            | Class::Lao
            | Class::Myanmar
            | Class::Thai => true,
            Class::HebrewQuote
            | Class::MidLetter
            | Class::MidNum
            | Class::MidNumLet
            | Class::SingleQuote
            | Class::DoubleQuote
            | Class::Joiner
            | Class::Newline
            | Class::Regional
            | Class::Other => false,
        }
    }

    /// Looks up a character in the Unicode data.
    fn look_up(c: char) -> Self {
        let class = class_of(c);
        let category = CodePointMapData::<GeneralCategory>::new().get(c);
        let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
        let is_letter = GeneralCategoryGroup::Letter.contains(category)
            || matches!(category, GeneralCategory::DecimalNumber | GeneralCategory::LetterNumber);
        let syllable = CodePointMapData::<HangulSyllableType>::new().get(c);
        let is_tail =
            matches!(syllable, HangulSyllableType::VowelJamo | HangulSyllableType::TrailingJamo);
        let is_pictograph = CodePointSetData::new::<ExtendedPictographic>().contains(c);
        let flags = [
            (is_letter && c != '\u{2bc}' && !is_ignorable, Self::WORD_CHARACTER),
            (CodePointSetData::new::<WhiteSpace>().contains(c), Self::SPACE),
            (is_ignorable, Self::IGNORABLE),
            (is_pictograph, Self::PICTOGRAPH),
            (is_tail, Self::SYLLABLE_TAIL),
            (cjk_segmenter::is_nfc_stable_cjk(c), Self::NFC_STABLE_CJK),
        ];
        let flags = flags.into_iter().filter(|(is_set, _)| *is_set);
        Self { class, flags: flags.fold(0, |all, (_, flag)| all | flag) }
    }
}

/// Properties of all characters. Those beyond the Basic Multilingual Plane are looked up each time.
#[derive(Clone, Copy)]
pub(super) struct CharTable(&'static [CharProperties; TABLE_LEN]);

impl CharTable {
    /// Returns the table, which is built once per process.
    pub(super) fn get() -> Self {
        static TABLE: LazyLock<Box<[CharProperties; TABLE_LEN]>> = LazyLock::new(|| {
            let mut table = Box::new([CharProperties::NONE; TABLE_LEN]);
            for (c, properties) in
                ('\0'..='\u{ffff}').map(|c| (u32::from(c), CharProperties::look_up(c)))
            {
                if let Some(entry) = usize::try_from(c).ok().and_then(|c| table.get_mut(c)) {
                    *entry = properties;
                }
            }
            table
        });
        Self(&TABLE)
    }

    /// Returns the properties of a character.
    #[inline]
    pub(super) fn of(self, c: char) -> CharProperties {
        match u16::try_from(u32::from(c)) {
            Ok(c) => self.0.get(usize::from(c)).copied().unwrap_or(CharProperties::NONE),
            Err(_) => CharProperties::look_up(c),
        }
    }
}

fn class_of(c: char) -> Class {
    match CodePointMapData::<WordBreak>::new().get(c) {
        WordBreak::ALetter => class_of_letter(c),
        WordBreak::HebrewLetter => Class::HebrewLetter,
        WordBreak::Numeric => Class::Numeric,
        WordBreak::ExtendNumLet => Class::ExtendNumLet,
        WordBreak::MidLetter => Class::MidLetter,
        WordBreak::MidNum => Class::MidNum,
        WordBreak::MidNumLet => Class::MidNumLet,
        WordBreak::SingleQuote => Class::SingleQuote,
        WordBreak::DoubleQuote => Class::DoubleQuote,
        WordBreak::ZWJ => Class::Joiner,
        WordBreak::Extend | WordBreak::Format => Class::Extend,
        WordBreak::CR | WordBreak::LF | WordBreak::Newline => Class::Newline,
        WordBreak::RegionalIndicator => Class::Regional,
        WordBreak::Katakana => class_of_katakana(c),
        _ => class_without_word_break(c),
    }
}

/// Returns the class of a character without a rule in UAX #29.
fn class_without_word_break(c: char) -> Class {
    match CodePointMapData::<LineBreak>::new().get(c) {
        LineBreak::ComplexContext => class_of_southeast_asian(c),
        _ => class_of_han_or_kana(c),
    }
}

/// Returns the class of a character of a script that is written without spaces in South-East Asia.
///
/// Scripts without a dictionary, such as Tai Le, have letters like an alphabet, as in ICU. By the
/// rules alone, each letter would be a word.
fn class_of_southeast_asian(c: char) -> Class {
    match CodePointMapData::<Script>::new().get(c) {
        Script::Khmer => Class::Khmer,
        Script::Lao => Class::Lao,
        Script::Myanmar => Class::Myanmar,
        Script::Thai => Class::Thai,
        _ => Class::Letter,
    }
}

/// Returns the class of a character that UAX #29 classifies as Katakana. The prolonged sound marks
/// are letters of the dictionary, although they belong to no script.
fn class_of_katakana(c: char) -> Class {
    match CodePointMapData::<Script>::new().get(c) {
        Script::Common if !matches!(c, 'ー' | 'ｰ') => Class::KanaSign,
        _ => Class::Kana,
    }
}

/// Returns the class of a letter of Han or Kana, otherwise [`Class::Other`].
fn class_of_han_or_kana(c: char) -> Class {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    if !matches!(
        category,
        GeneralCategory::OtherLetter
            | GeneralCategory::ModifierLetter
            | GeneralCategory::LetterNumber
    ) {
        return Class::Other;
    }
    match CodePointMapData::<Script>::new().get(c) {
        Script::Han => Class::Han,
        Script::Hiragana | Script::Katakana => Class::Kana,
        _ => Class::Other,
    }
}

/// Returns the class of a letter. UAX #29 also classifies some Han iteration marks, for example
/// `々`, as letters of an alphabet.
fn class_of_letter(c: char) -> Class {
    match CodePointMapData::<Script>::new().get(c) {
        Script::Hangul => Class::Hangul,
        Script::Han => Class::Han,
        _ => Class::Letter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_the_data() {
        let char_table = CharTable::get();
        for c in ['a', '5', '_', 'é', 'я', 'ש', '水', 'カ', 'ー', '한', 'ไ', '\u{301}', '\u{200d}']
        {
            assert_eq!(char_table.of(c), CharProperties::look_up(c), "{c:?}");
        }
        assert_eq!(char_table.of('水').class, Class::Han);
        assert_eq!(char_table.of('𠀀').class, Class::Han);
        assert_eq!(char_table.of('ー').class, Class::Kana);
        assert_eq!(char_table.of('々').class, Class::Han);
        assert_eq!(char_table.of('한').class, Class::Hangul);
        assert!(char_table.of('\u{1161}').is_syllable_tail());
        assert!(char_table.of('\u{3000}').is_space() && char_table.of('\u{a0}').is_space());
        assert!(!char_table.of('\u{200b}').is_space());
    }

    #[test]
    fn letters_and_digits_are_word_characters() {
        let char_table = CharTable::get();
        for c in ['a', '5', '\u{2163}', '水', '٣', '한', '𝒜'] {
            assert!(char_table.of(c).is_word_character(), "{c:?}");
        }
        for c in [' ', '_', '½', '²', '\u{301}', '❤', '\u{fe0f}', '\u{3164}', '\u{2bc}'] {
            assert!(!char_table.of(c).is_word_character(), "{c:?}");
        }
    }
}
