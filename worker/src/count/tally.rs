//! Counts what the extractors find: characters here, words through the segmenter.

use wordmill_common::histogram::{Histogram, Totals};

use super::{Options, segment::Segmenter, table::Table};

/// Sums up the text of one document.
pub(super) struct Tally {
    segmenter: Segmenter,
    table: Table,
    characters: u64,
    characters_no_spaces: u64,
    separated: bool,
}

impl Tally {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            segmenter: Segmenter::new(),
            table: Table::new(options.case, options.unique_words_max),
            characters: 0,
            characters_no_spaces: 0,
            separated: false,
        }
    }

    /// Adds plain text, in which every character counts.
    pub(super) fn add_plain(&mut self, text: &str) {
        for c in text.chars() {
            self.add_character(c);
            self.segmenter.push(c, &mut self.table);
        }
    }

    /// Adds text of a page, in which white space only separates.
    ///
    /// Any run of it, together with the boundaries beside it, counts as one character, and as none
    /// at the start and the end of the page. NUL is dropped, as browsers do.
    pub(super) fn add_flowing(&mut self, text: &str) {
        for c in text.chars().filter(|&c| c != '\0') {
            if c.is_ascii_whitespace() {
                self.separated = true;
            } else {
                if self.separated && self.characters > 0 {
                    self.add_character(' ');
                }
                self.separated = false;
                self.add_character(c);
            }
            self.segmenter.push(c, &mut self.table);
        }
    }

    /// Separates the text before from the text after: no word spans this place.
    pub(super) fn boundary(&mut self) {
        self.separated = true;
        self.segmenter.boundary(&mut self.table);
    }

    /// Returns whether there were more different words than the options allow.
    pub(super) const fn is_full(&self) -> bool {
        self.table.is_full()
    }

    /// Ends the text; the last word is counted now.
    pub(super) fn end(&mut self) {
        self.segmenter.boundary(&mut self.table);
    }

    /// Returns what was counted.
    pub(super) fn finish(self) -> (Totals, Histogram) {
        let words = self.table.words();
        let overlong_words = self.table.overlong_words();
        let histogram = self.table.into_histogram();
        let totals = Totals {
            words,
            unique_words: u64::try_from(histogram.len()).unwrap_or(u64::MAX),
            characters: self.characters,
            characters_no_spaces: self.characters_no_spaces,
            overlong_words,
        };
        (totals, histogram)
    }

    fn add_character(&mut self, c: char) {
        self.characters = self.characters.saturating_add(1);
        if !c.is_whitespace() {
            self.characters_no_spaces = self.characters_no_spaces.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn characters(tally: Tally) -> (u64, u64) {
        let (totals, _) = tally.finish();
        (totals.characters, totals.characters_no_spaces)
    }

    #[test]
    fn plain_text_counts_every_character() {
        let mut tally = Tally::new(&Options::default());
        tally.add_plain(" a\r\n\u{a0}é\t");
        assert_eq!(characters(tally), (7, 2));
    }

    #[test]
    fn white_space_of_a_page_counts_once_between_text() {
        let mut tally = Tally::new(&Options::default());
        tally.boundary();
        tally.add_flowing("\n  a \n");
        tally.boundary();
        tally.add_flowing("\t b\u{a0}");
        tally.add_flowing("c\0 ");
        tally.boundary();
        assert_eq!(characters(tally), (5, 3));
    }
}
