//! Words of scripts that are written without spaces, found with dictionaries.

use icu_normalizer::{ComposingNormalizer, ComposingNormalizerBorrowed};
use icu_properties::{
    CodePointSetData, CodePointSetDataBorrowed,
    props::{DefaultIgnorableCodePoint, Script},
};
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed, options::WordBreakInvariantOptions};

use super::table::Table;

/// A longer run is taken in pieces, so that unspaced text of any length needs this much memory.
const RUN_BYTES_MAX: usize = 16 * 1024;

/// Words that end this near to the end of a piece wait for the next one.
///
/// The segmenter takes the longest dictionary word at each place, so what follows matters as
/// far as that word may reach: no dictionary has one of this length.
const LOOK_AHEAD_BYTES: usize = 1024;

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

impl Writing {
    pub(super) fn of(script: Script) -> Option<Self> {
        match script {
            Script::Han | Script::Hiragana | Script::Katakana => Some(Self::ChineseJapanese),
            Script::Khmer => Some(Self::Khmer),
            Script::Lao => Some(Self::Lao),
            Script::Myanmar => Some(Self::Myanmar),
            Script::Thai => Some(Self::Thai),
            _ => None,
        }
    }
}

/// An unbroken run of letters of one writing system.
pub(super) struct Run {
    text: String,
    segmenter: WordSegmenterBorrowed<'static>,
    composer: ComposingNormalizerBorrowed<'static>,
    ignorable: CodePointSetDataBorrowed<'static>,
}

impl Run {
    pub(super) fn new() -> Self {
        Self {
            text: String::new(),
            segmenter: WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()),
            composer: ComposingNormalizer::new_nfc(),
            ignorable: CodePointSetData::new::<DefaultIgnorableCodePoint>(),
        }
    }

    /// Appends a letter, or a mark on the letter before.
    ///
    /// Invisible characters are left out, because the dictionaries do not know them.
    pub(super) fn push(&mut self, c: char, table: &mut Table) {
        if self.ignorable.contains(c) {
            return;
        }
        self.text.push(c);
        if self.text.len() >= RUN_BYTES_MAX {
            self.compose();
            let decided = self.text.len().saturating_sub(LOOK_AHEAD_BYTES);
            let end = self.take_words(decided, table);
            self.text.drain(..end);
        }
    }

    /// Ends the run: adds what is left of it to the table.
    pub(super) fn finish(&mut self, table: &mut Table) {
        self.compose();
        self.take_words(self.text.len(), table);
        self.text.clear();
    }

    fn compose(&mut self) {
        if !self.composer.is_normalized(&self.text) {
            self.text = self.composer.normalize(&self.text).into_owned();
        }
    }

    /// Adds the words that end at or before `decided` and returns where the last of them ends.
    ///
    /// If there is none, the whole text is one word, so that the run cannot grow.
    fn take_words(&self, decided: usize, table: &mut Table) -> usize {
        let mut start = 0;
        for end in self.segmenter.segment_str(&self.text) {
            if end > decided {
                break;
            }
            if let Some(word) = self.text.get(start..end) {
                table.add(word);
            }
            start = end;
        }
        if start == 0 && !self.text.is_empty() {
            table.add(&self.text);
            start = self.text.len();
        }
        start
    }
}

#[cfg(test)]
mod tests {
    use wordmill_common::histogram::Histogram;

    use super::*;
    use crate::count::key::Case;

    fn words_of(text: &str) -> Histogram {
        let mut run = Run::new();
        let mut table = Table::new(Case::Lower, 1_000_000);
        for c in text.chars() {
            run.push(c, &mut table);
        }
        run.finish(&mut table);
        table.into_histogram()
    }

    fn words_at_once(text: &str) -> Histogram {
        let segmenter = WordSegmenter::new_dictionary(WordBreakInvariantOptions::default());
        let ends: Vec<_> = segmenter.segment_str(text).collect();
        ends.windows(2).map(|pair| (text.get(pair[0]..pair[1]).unwrap(), 1)).collect()
    }

    #[test]
    fn pieces_give_the_words_of_the_whole() {
        let chinese = "我喜欢吃苹果和新鲜的面包河水推动磨坊";
        let thai = "ภาษาไทยง่ายนิดเดียวน้ำในแม่น้ำ";
        let japanese = "私は東京に住んでいますコーヒーを飲むエディター";
        for text in [chinese, thai, japanese] {
            for times in [1, 150, 999, 2500] {
                let long = text.repeat(times);
                assert_eq!(words_of(&long), words_at_once(&long));
            }
        }
    }

    #[test]
    fn one_letter_for_ever_stays_small() {
        let mut run = Run::new();
        let mut table = Table::new(Case::Lower, 10);
        for _ in 0..1_000_000 {
            run.push('水', &mut table);
            assert!(run.text.len() <= RUN_BYTES_MAX);
        }
        run.finish(&mut table);
        assert_eq!(table.words(), 1_000_000);
    }

    #[test]
    fn decomposed_and_marked_letters_are_found() {
        assert_eq!(words_of("か\u{3099}くせい"), words_of("がくせい"));
        assert_eq!(words_of("葛\u{e0100}城"), words_of("葛城"));
        assert_eq!(words_of("\u{2060}"), Histogram::default());
    }
}
