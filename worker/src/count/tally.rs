//! Counts what the extractors find: characters here, words through the segmenter.

use std::collections::BTreeMap;

use wordmill_common::{
    histogram::{Histogram, Totals},
    options::Scope,
};

use super::{Options, segment::Segmenter, table::Table};

/// Which part of a page a text belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Region {
    /// The article; the whole of a text.
    #[default]
    Main,
    /// Navigation, headers, footers, asides: what is around the article.
    Around,
}

/// Why text of a page is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Dropped {
    /// `script`.
    Scripts,
    /// `style`.
    Styles,
    /// `template`.
    Templates,
    /// The attribute `hidden`, or `display: none` in the attribute `style`.
    Hidden,
    /// What is shown in another way, or in other circumstances: the title, form fields, replacements for media and
    /// scripts.
    Replaced,
}

/// Sums up the text of one document.
pub(super) struct Tally {
    segmenter: Segmenter,
    table: Table,
    characters: u64,
    characters_no_spaces: u64,
    separated: bool,
    scope: Scope,
    region: Region,
    /// Words of the main part, up to the last change of region.
    main_words: u64,
    /// All words before the last change of region.
    words_before: u64,
}

impl Tally {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            segmenter: Segmenter::new(),
            table: Table::new(options.case, options.unique_words_max),
            characters: 0,
            characters_no_spaces: 0,
            separated: false,
            scope: options.scope,
            region: Region::default(),
            main_words: 0,
            words_before: 0,
        }
    }

    /// Says which part of the page the text that follows belongs to. No word spans two parts.
    pub(super) fn set_region(&mut self, region: Region) {
        self.boundary();
        let words = self.all_words();
        if self.region == Region::Main {
            let words_here = words.saturating_sub(self.words_before);
            self.main_words = self.main_words.saturating_add(words_here);
        }
        self.region = region;
        self.words_before = words;
        self.table.set_lists(self.is_asked_for());
    }

    /// Says that nothing so far belongs to the main part, which begins now.
    pub(super) fn restart_main(&mut self) {
        self.set_region(Region::Main);
        self.main_words = 0;
        if self.scope == Scope::Main {
            self.table.unlist_all();
            (self.characters, self.characters_no_spaces) = (0, 0);
        }
    }

    /// Says that `bytes` of text were left out.
    #[expect(clippy::unused_self, reason = "the explanation of a count is not there yet")]
    pub(super) const fn dropped(&mut self, _why: Dropped, _bytes: u64) {}

    fn all_words(&self) -> u64 {
        self.table.words().saturating_add(self.table.unlisted_words())
    }

    fn is_asked_for(&self) -> bool {
        self.scope == Scope::Page || self.region == Region::Main
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
        let is_asked_for = self.is_asked_for();
        for c in text.chars().filter(|&c| c != '\0') {
            if !is_asked_for {
                // Only words are of interest here.
            } else if c.is_ascii_whitespace() {
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

    /// Returns how many words there are in each part.
    pub(super) fn totals_by_scope(&mut self) -> BTreeMap<String, u64> {
        self.set_region(self.region);
        let totals = [("page", self.all_words()), ("main", self.main_words)];
        totals.into_iter().map(|(scope, words)| (scope.to_owned(), words)).collect()
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
