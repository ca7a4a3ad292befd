//! What the counter has to know of a character, in one look.

use std::sync::LazyLock;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        DefaultIgnorableCodePoint, ExtendedPictographic, GeneralCategory, GeneralCategoryGroup,
        HangulSyllableType, Script, WhiteSpace, WordBreak,
    },
};

use super::cjk_segmenter;

/// Writing systems that have a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// Han, Hiragana and Katakana, which Japanese mixes within one word.
    ChineseJapanese,
    Khmer,
    Lao,
    Myanmar,
    Thai,
}

/// How many code points the table covers: the Basic Multilingual Plane.
const TABLE_LEN: usize = 0x1_0000;

/// What the boundary rules distinguish.
///
/// Spaces need no class of their own: they are never part of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Letter,
    HebrewLetter,
    /// A Hebrew letter with a single quote after it, which belongs to the word (rule 7a). No
    /// character has this class by itself.
    HebrewQuote,
    /// A letter for the boundary rules, and a language for the rule `gmx`.
    Hangul,
    Numeric,
    /// Connectors such as `_`, which join words and are joined by them.
    ExtendNumLet,
    MidLetter,
    MidNum,
    MidNumLet,
    SingleQuote,
    DoubleQuote,
    /// Marks and format characters, which belong to the character before them (WB4).
    Extend,
    /// Extends, and joins what follows if that is a pictograph (`WB3c`).
    Joiner,
    Newline,
    /// Half of a flag (WB15, WB16).
    Regional,
    Han,
    /// Hiragana and Katakana.
    Kana,
    Khmer,
    Lao,
    Myanmar,
    Thai,
    Other,
}

impl Class {
    /// Returns the dictionary that cuts runs of such letters.
    pub(super) const fn writing(self) -> Option<Writing> {
        match self {
            Self::Han | Self::Kana => Some(Writing::ChineseJapanese),
            Self::Khmer => Some(Writing::Khmer),
            Self::Lao => Some(Writing::Lao),
            Self::Myanmar => Some(Writing::Myanmar),
            Self::Thai => Some(Writing::Thai),
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

    pub(super) const fn extends(self) -> bool {
        matches!(self, Self::Extend | Self::Joiner)
    }

    /// Returns whether there is no boundary before `next` (WB5, 7a, 8 to 10, 13a to 16).
    pub(super) const fn joins(self, next: Self) -> bool {
        (self.is_word_part() && next.is_word_part())
            || (matches!(self, Self::HebrewLetter) && matches!(next, Self::SingleQuote))
            || (matches!(self, Self::HebrewQuote) && next.is_letter())
            || (matches!(self, Self::Regional) && matches!(next, Self::Regional))
    }

    /// Returns whether `middle` may stay in the word, depending on what follows (WB6, 7b, 12).
    pub(super) const fn may_join(self, middle: Self) -> bool {
        let in_word = matches!(middle, Self::MidLetter | Self::MidNumLet | Self::SingleQuote);
        let in_number = matches!(middle, Self::MidNum | Self::MidNumLet | Self::SingleQuote);
        (in_word && self.is_letter())
            || (in_number && matches!(self, Self::Numeric))
            || (matches!(middle, Self::DoubleQuote) && matches!(self, Self::HebrewLetter))
    }

    /// Returns whether `next` keeps `middle`, which [`Self::may_join`] allowed (WB7, 7c, 11).
    pub(super) const fn completes(self, middle: Self, next: Self) -> bool {
        match (self, middle) {
            (_, Self::DoubleQuote) => matches!(next, Self::HebrewLetter),
            (Self::Numeric, _) => matches!(next, Self::Numeric),
            _ => next.is_letter(),
        }
    }
}

/// A class and what else matters of a character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) class: Class,
    marks: u8,
}

impl Kind {
    const NONE: Self = Self { class: Class::Other, marks: 0 };
    const MAKES_A_WORD: u8 = 1;
    const SPACE: u8 = 2;
    const IGNORABLE: u8 = 4;
    const PICTOGRAPH: u8 = 8;
    const SYLLABLE_TAIL: u8 = 16;
    const PLAIN: u8 = 32;

    /// Returns whether a segment with such a character in it is a word: letters, decimal digits,
    /// letter numbers.
    ///
    /// Excepted are letters that cannot be seen (Hangul fillers) and the letter apostrophe, which
    /// is listed as an apostrophe and is no word alone.
    pub(super) const fn makes_a_word(self) -> bool {
        self.marks & Self::MAKES_A_WORD != 0
    }

    /// Returns whether it is white space.
    pub(super) const fn is_space(self) -> bool {
        self.marks & Self::SPACE != 0
    }

    /// Returns whether it cannot be seen.
    pub(super) const fn is_ignorable(self) -> bool {
        self.marks & Self::IGNORABLE != 0
    }

    pub(super) const fn is_pictograph(self) -> bool {
        self.marks & Self::PICTOGRAPH != 0
    }

    /// Returns whether it goes on with a Hangul syllable that was begun before.
    pub(super) const fn is_syllable_tail(self) -> bool {
        self.marks & Self::SYLLABLE_TAIL != 0
    }

    /// Returns whether the lexicon can look it up.
    pub(super) const fn is_plain(self) -> bool {
        self.marks & Self::PLAIN != 0
    }

    /// Returns whether the rules treat a stretch of such characters as they treat one.
    pub(super) const fn stretches(self) -> bool {
        match self.class {
            Class::Letter
            | Class::HebrewLetter
            | Class::Hangul
            | Class::Numeric
            | Class::ExtendNumLet
            | Class::Extend
            | Class::Han
            | Class::Kana
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

    /// Looks a character up in the Unicode data.
    fn find(c: char) -> Self {
        let class = class_of(c);
        let category = CodePointMapData::<GeneralCategory>::new().get(c);
        let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
        let is_letter = GeneralCategoryGroup::Letter.contains(category)
            || matches!(category, GeneralCategory::DecimalNumber | GeneralCategory::LetterNumber);
        let syllable = CodePointMapData::<HangulSyllableType>::new().get(c);
        let is_tail =
            matches!(syllable, HangulSyllableType::VowelJamo | HangulSyllableType::TrailingJamo);
        let is_pictograph = CodePointSetData::new::<ExtendedPictographic>().contains(c);
        let marks = [
            (is_letter && c != '\u{2bc}' && !is_ignorable, Self::MAKES_A_WORD),
            (CodePointSetData::new::<WhiteSpace>().contains(c), Self::SPACE),
            (is_ignorable, Self::IGNORABLE),
            (is_pictograph, Self::PICTOGRAPH),
            (is_tail, Self::SYLLABLE_TAIL),
            (cjk_segmenter::is_plain(c), Self::PLAIN),
        ];
        let marks = marks.into_iter().filter(|(is_set, _)| *is_set);
        Self { class, marks: marks.fold(0, |all, (_, mark)| all | mark) }
    }
}

/// The kinds of all characters.
#[derive(Clone, Copy)]
pub(super) struct Kinds(&'static [Kind; TABLE_LEN]);

impl Kinds {
    /// Returns the table, which is made once in a process.
    pub(super) fn get() -> Self {
        static TABLE: LazyLock<Box<[Kind; TABLE_LEN]>> = LazyLock::new(|| {
            let mut table = Box::new([Kind::NONE; TABLE_LEN]);
            for (c, kind) in ('\0'..='\u{ffff}').map(|c| (u32::from(c), Kind::find(c))) {
                if let Some(place) = usize::try_from(c).ok().and_then(|c| table.get_mut(c)) {
                    *place = kind;
                }
            }
            table
        });
        Self(&TABLE)
    }

    /// Returns the kind of a character.
    #[inline]
    pub(super) fn of(self, c: char) -> Kind {
        match u16::try_from(u32::from(c)) {
            Ok(c) => self.0.get(usize::from(c)).copied().unwrap_or(Kind::NONE),
            Err(_) => Kind::find(c),
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
        WordBreak::Katakana => Class::Kana,
        _ => class_of_unruled(c),
    }
}

/// Finds the dictionary of a letter for which UAX #29 has no rule.
fn class_of_unruled(c: char) -> Class {
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
        Script::Khmer => Class::Khmer,
        Script::Lao => Class::Lao,
        Script::Myanmar => Class::Myanmar,
        Script::Thai => Class::Thai,
        _ => Class::Other,
    }
}

/// UAX #29 takes some signs that repeat a Han character for letters of an alphabet.
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
    fn the_table_says_what_the_data_say() {
        let kinds = Kinds::get();
        for c in ['a', '5', '_', 'é', 'я', 'ש', '水', 'カ', 'ー', '한', 'ไ', '\u{301}', '\u{200d}']
        {
            assert_eq!(kinds.of(c), Kind::find(c), "{c:?}");
        }
        assert_eq!(kinds.of('水').class, Class::Han);
        assert_eq!(kinds.of('𠀀').class, Class::Han);
        assert_eq!(kinds.of('ー').class, Class::Kana);
        assert_eq!(kinds.of('々').class, Class::Han);
        assert_eq!(kinds.of('한').class, Class::Hangul);
        assert!(kinds.of('\u{1161}').is_syllable_tail());
        assert!(kinds.of('\u{3000}').is_space() && kinds.of('\u{a0}').is_space());
        assert!(!kinds.of('\u{200b}').is_space());
    }

    #[test]
    fn letters_and_digits_make_a_word() {
        let kinds = Kinds::get();
        for c in ['a', '5', '\u{2163}', '水', '٣', '한', '𝒜'] {
            assert!(kinds.of(c).makes_a_word(), "{c:?}");
        }
        for c in [' ', '_', '½', '²', '\u{301}', '❤', '\u{fe0f}', '\u{3164}', '\u{2bc}'] {
            assert!(!kinds.of(c).makes_a_word(), "{c:?}");
        }
    }
}
