//! Unicode word boundaries (UAX #29), one character at a time.
//!
//! The rules look at most one segment ahead, so that text may arrive in any pieces and a segment
//! of any length needs the same memory. Runs of scripts with a dictionary go to [`Run`].

use icu_properties::{
    CodePointMapData, CodePointMapDataBorrowed, CodePointSetData, CodePointSetDataBorrowed,
    props::{ExtendedPictographic, GeneralCategory, Script, WordBreak},
};

use super::{
    dictionary::{Run, Writing},
    table::{Table, WORD_BYTES_MAX},
};

const ZERO_WIDTH_JOINER: char = '\u{200d}';

/// What the boundary rules distinguish.
///
/// Spaces need no class of their own: they are never part of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Letter,
    HebrewLetter,
    /// A Hebrew letter with a single quote after it, which belongs to the word (rule 7a).
    HebrewQuote,
    Numeric,
    /// Connectors such as `_`, which join words and are joined by them.
    ExtendNumLet,
    MidLetter,
    MidNum,
    MidNumLet,
    SingleQuote,
    DoubleQuote,
    /// Marks, format characters and joiners, which belong to the character before them (WB4).
    Extend,
    Newline,
    /// Half of a flag (WB15, WB16).
    Regional,
    Dictionary(Writing),
    Other,
}

impl Class {
    const fn is_letter(self) -> bool {
        matches!(self, Self::Letter | Self::HebrewLetter)
    }

    const fn is_word_part(self) -> bool {
        self.is_letter() || matches!(self, Self::Numeric | Self::ExtendNumLet)
    }

    /// Returns whether there is no boundary before `next` (WB5, 7a, 8 to 10, 13a to 16).
    const fn joins(self, next: Self) -> bool {
        (self.is_word_part() && next.is_word_part())
            || (matches!(self, Self::HebrewLetter) && matches!(next, Self::SingleQuote))
            || (matches!(self, Self::HebrewQuote) && next.is_letter())
            || (matches!(self, Self::Regional) && matches!(next, Self::Regional))
    }

    /// Returns whether `middle` may stay in the word, depending on what follows (WB6, 7b, 12).
    const fn may_join(self, middle: Self) -> bool {
        let in_word = matches!(middle, Self::MidLetter | Self::MidNumLet | Self::SingleQuote);
        let in_number = matches!(middle, Self::MidNum | Self::MidNumLet | Self::SingleQuote);
        (in_word && self.is_letter())
            || (in_number && matches!(self, Self::Numeric))
            || (matches!(middle, Self::DoubleQuote) && matches!(self, Self::HebrewLetter))
    }

    /// Returns whether `next` keeps `middle`, which [`Self::may_join`] allowed (WB7, 7c, 11).
    const fn completes(self, middle: Self, next: Self) -> bool {
        match (self, middle) {
            (_, Self::DoubleQuote) => matches!(next, Self::HebrewLetter),
            (Self::Numeric, _) => matches!(next, Self::Numeric),
            _ => next.is_letter(),
        }
    }
}

/// Text between two boundaries: its length, and as much of it as a word may have.
#[derive(Default)]
struct Segment {
    text: String,
    bytes: usize,
    is_word: bool,
}

impl Segment {
    fn push(&mut self, c: char, table: &Table) {
        self.bytes = self.bytes.saturating_add(c.len_utf8());
        if self.bytes <= WORD_BYTES_MAX {
            self.text.push(c);
        }
        self.is_word = self.is_word || table.makes_a_word(c);
    }

    fn append(&mut self, tail: &mut Self) {
        self.bytes = self.bytes.saturating_add(tail.bytes);
        if self.bytes <= WORD_BYTES_MAX {
            self.text.push_str(&tail.text);
        }
        self.is_word |= tail.is_word;
        tail.clear();
    }

    fn clear(&mut self) {
        self.text.clear();
        self.bytes = 0;
        self.is_word = false;
    }

    fn finish(&mut self, table: &mut Table) {
        if self.is_word {
            table.add_word(&self.text, self.bytes);
        }
        self.clear();
    }
}

/// Splits a stream of characters into segments and hands the words to a table.
pub(super) struct Segmenter {
    segment: Segment,
    /// The class of the segment's last character, marks aside; `Newline` at the start of text.
    last: Class,
    /// A character that may be inside a word, and its marks, until it is known what follows.
    middle: Segment,
    middle_class: Option<Class>,
    after_joiner: bool,
    run: Run,
    run_writing: Option<Writing>,
    word_break: CodePointMapDataBorrowed<'static, WordBreak>,
    category: CodePointMapDataBorrowed<'static, GeneralCategory>,
    script: CodePointMapDataBorrowed<'static, Script>,
    pictographic: CodePointSetDataBorrowed<'static>,
}

impl Segmenter {
    pub(super) fn new() -> Self {
        Self {
            segment: Segment::default(),
            last: Class::Newline,
            middle: Segment::default(),
            middle_class: None,
            after_joiner: false,
            run: Run::new(),
            run_writing: None,
            word_break: CodePointMapData::new(),
            category: CodePointMapData::new(),
            script: CodePointMapData::new(),
            pictographic: CodePointSetData::new::<ExtendedPictographic>(),
        }
    }

    /// Takes the next character of the text.
    pub(super) fn push(&mut self, c: char, table: &mut Table) {
        let class = self.class_of(c);
        if let Some(writing) = self.run_writing {
            if class == Class::Extend || class == Class::Dictionary(writing) {
                self.run.push(c, table);
                return;
            }
            self.boundary(table);
        }
        if let Class::Dictionary(writing) = class {
            self.boundary(table);
            self.run_writing = Some(writing);
            self.run.push(c, table);
            return;
        }
        self.push_unless_dictionary(c, class, table);
        self.after_joiner = c == ZERO_WIDTH_JOINER;
    }

    /// Ends the text, or separates what comes from what was: no word spans this place.
    pub(super) fn boundary(&mut self, table: &mut Table) {
        if self.run_writing.take().is_some() {
            self.run.finish(table);
        }
        self.give_up_middle(table);
        self.segment.finish(table);
        self.last = Class::Newline;
        self.after_joiner = false;
    }

    fn push_unless_dictionary(&mut self, c: char, class: Class, table: &mut Table) {
        if class == Class::Extend && self.last != Class::Newline {
            let open = match self.middle_class {
                Some(_) => &mut self.middle,
                None => &mut self.segment,
            };
            open.push(c, table);
            return;
        }
        if let Some(middle) = self.middle_class {
            if self.last.completes(middle, class) {
                self.segment.append(&mut self.middle);
                self.middle_class = None;
                self.segment.push(c, table);
                self.last = class;
                return;
            }
            self.give_up_middle(table);
        }
        let is_joined_pictograph = self.after_joiner && self.pictographic.contains(c);
        if self.last.joins(class) || is_joined_pictograph {
            self.segment.push(c, table);
            self.last = match (self.last, class) {
                (Class::HebrewLetter, Class::SingleQuote) => Class::HebrewQuote,
                // A flag is complete with two.
                (_, Class::Regional) => Class::Other,
                (_, class) => class,
            };
        } else if self.last.may_join(class) {
            self.middle.push(c, table);
            self.middle_class = Some(class);
        } else {
            self.segment.finish(table);
            self.segment.push(c, table);
            self.last = class;
        }
    }

    /// Puts the boundary before the open middle character, which starts a segment of its own.
    fn give_up_middle(&mut self, table: &mut Table) {
        if self.middle_class.take().is_some() {
            self.segment.finish(table);
            self.segment.append(&mut self.middle);
            self.last = Class::Other;
        }
    }

    fn class_of(&self, c: char) -> Class {
        if c.is_ascii() {
            return class_of_ascii(c);
        }
        match self.word_break.get(c) {
            WordBreak::ALetter => Class::Letter,
            WordBreak::HebrewLetter => Class::HebrewLetter,
            WordBreak::Numeric => Class::Numeric,
            WordBreak::ExtendNumLet => Class::ExtendNumLet,
            WordBreak::MidLetter => Class::MidLetter,
            WordBreak::MidNum => Class::MidNum,
            WordBreak::MidNumLet => Class::MidNumLet,
            WordBreak::SingleQuote => Class::SingleQuote,
            WordBreak::DoubleQuote => Class::DoubleQuote,
            WordBreak::Extend | WordBreak::Format | WordBreak::ZWJ => Class::Extend,
            WordBreak::CR | WordBreak::LF | WordBreak::Newline => Class::Newline,
            WordBreak::RegionalIndicator => Class::Regional,
            WordBreak::Katakana => Class::Dictionary(Writing::ChineseJapanese),
            _ => self.class_of_unruled(c),
        }
    }

    /// Finds the dictionary of a letter for which UAX #29 has no rule.
    fn class_of_unruled(&self, c: char) -> Class {
        let is_letter = matches!(
            self.category.get(c),
            GeneralCategory::OtherLetter
                | GeneralCategory::ModifierLetter
                | GeneralCategory::LetterNumber
        );
        let writing = Writing::of(self.script.get(c)).filter(|_| is_letter);
        writing.map_or(Class::Other, Class::Dictionary)
    }
}

const fn class_of_ascii(c: char) -> Class {
    match c {
        'a'..='z' | 'A'..='Z' => Class::Letter,
        '0'..='9' => Class::Numeric,
        '_' => Class::ExtendNumLet,
        ':' => Class::MidLetter,
        ',' | ';' => Class::MidNum,
        '.' => Class::MidNumLet,
        '\'' => Class::SingleQuote,
        '"' => Class::DoubleQuote,
        '\n' | '\r' | '\u{b}' | '\u{c}' => Class::Newline,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use icu_segmenter::{WordSegmenter, options::WordBreakInvariantOptions};
    use wordmill_common::histogram::Histogram;

    use super::*;
    use crate::count::{key::Case, random::Random};

    fn words_of(text: &str) -> Histogram {
        let mut segmenter = Segmenter::new();
        let mut table = Table::new(Case::Keep, 1_000_000);
        for c in text.chars() {
            segmenter.push(c, &mut table);
        }
        segmenter.boundary(&mut table);
        table.into_histogram()
    }

    /// The same words from another implementation of the same rules.
    fn words_of_reference(text: &str) -> Histogram {
        let reference =
            WordSegmenter::new_for_non_complex_scripts(WordBreakInvariantOptions::default());
        let ends: Vec<_> = reference.segment_str(text).collect();
        let mut table = Table::new(Case::Keep, 1_000_000);
        for pair in ends.windows(2) {
            table.add(text.get(pair[0]..pair[1]).unwrap());
        }
        table.into_histogram()
    }

    /// At least one character for each class, those that cause trouble more than once.
    const ALPHABET: &[char] = &[
        'a',
        'B',
        'é',
        'ß',
        'я',
        'Σ',
        '1',
        '5',
        '٣',
        '_',
        '\u{203f}',
        ':',
        '\u{b7}',
        ',',
        ';',
        '\u{66c}',
        '.',
        '\u{2019}',
        '\u{2018}',
        '\'',
        '"',
        'ש',
        'ה',
        '\u{301}',
        '\u{5b0}',
        '\u{ad}',
        '\u{200d}',
        '\u{200c}',
        '\u{2060}',
        '\u{feff}',
        '\u{200b}',
        '\n',
        '\r',
        '\u{2028}',
        ' ',
        '\u{a0}',
        '\u{3000}',
        '-',
        '—',
        '☃',
        '❤',
        '©',
        'ℹ',
        '🇩',
        '🇪',
        '👩',
        '\u{1f3fd}',
        '\u{fffd}',
        '½',
        '²',
        '\u{2163}',
        'ｶ',
        '한',
        'ㄅ',
        'न',
        '\u{940}',
        '\u{94d}',
        'ა',
    ];

    #[test]
    fn random_text_agrees_with_icu() {
        let plain: Vec<char> = ALPHABET.iter().copied().filter(|&c| c != 'ｶ').collect();
        let mut random = Random::new(29);
        for _ in 0..40_000 {
            let length = 1 + random.below(12);
            let text: String = (0..length).map(|_| plain[random.below(plain.len())]).collect();
            assert_eq!(words_of(&text), words_of_reference(&text), "{text:?}");
        }
    }

    #[test]
    fn ascii_classes_agree_with_the_unicode_data() {
        let segmenter = Segmenter::new();
        for c in '\0'..='\x7f' {
            let class = match segmenter.word_break.get(c) {
                WordBreak::ALetter => Class::Letter,
                WordBreak::Numeric => Class::Numeric,
                WordBreak::ExtendNumLet => Class::ExtendNumLet,
                WordBreak::MidLetter => Class::MidLetter,
                WordBreak::MidNum => Class::MidNum,
                WordBreak::MidNumLet => Class::MidNumLet,
                WordBreak::SingleQuote => Class::SingleQuote,
                WordBreak::DoubleQuote => Class::DoubleQuote,
                WordBreak::CR | WordBreak::LF | WordBreak::Newline => Class::Newline,
                _ => Class::Other,
            };
            assert_eq!(class_of_ascii(c), class, "{c:?}");
        }
    }

    #[test]
    fn scripts_without_spaces_go_to_their_dictionary() {
        let found = words_of("我喜欢吃苹果。ภาษาไทย កម្ពុជា ລາວ abc東京 カフェ１２");
        for word in ["喜欢", "苹果", "ภาษา", "ไทย", "ລາວ", "abc", "東京", "カフェ", "１２"]
        {
            assert!(found.iter().any(|(w, _)| w == word), "{word} in {found:?}");
        }
    }

    #[test]
    fn a_boundary_separates() {
        let mut segmenter = Segmenter::new();
        let mut table = Table::new(Case::Lower, 10);
        for half in ["mill", "stone", "don'", "t", "東", "京"] {
            for c in half.chars() {
                segmenter.push(c, &mut table);
            }
            segmenter.boundary(&mut table);
        }
        assert_eq!(table.words(), 6);
        assert_eq!(table.into_histogram().len(), 6);
    }

    #[test]
    fn endless_segments_need_no_memory() {
        for c in ['a', '\u{301}', '_', '❤'] {
            let mut segmenter = Segmenter::new();
            let mut table = Table::new(Case::Lower, 10);
            for start in ['a', '\''] {
                segmenter.push(start, &mut table);
            }
            for _ in 0..100_000 {
                segmenter.push(c, &mut table);
            }
            assert!(segmenter.segment.text.capacity() <= 2 * WORD_BYTES_MAX);
            assert!(segmenter.middle.text.capacity() <= 2 * WORD_BYTES_MAX);
        }
    }
}
