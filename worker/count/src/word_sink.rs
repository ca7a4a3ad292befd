//! What the rules make of the text: one pass counts by all of them and lists the words of one.

use std::collections::HashSet;

use wordmill_common::{
    histogram::Histogram,
    options::{Hyphen, Numbers, Options, RuleName},
};

use super::{
    char_class::{Class, Writing},
    normalize::KeyMaker,
    rules::{CharacterCounts, Sums},
    stretch::{Segment, Stretch, WORD_BYTES_MAX},
    word_table::Table,
};

/// Whose words are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// Those between Unicode's boundaries.
    Segments,
    /// What is between white space.
    Spaced,
    /// The same, with some characters alone.
    Office,
    /// None: what is read now is only counted.
    Nothing,
}

impl Listing {
    pub(super) const fn of(rule: RuleName) -> Self {
        match rule {
            // A volume is a number; it is made of the same words.
            RuleName::Unicode | RuleName::Gmx => Self::Segments,
            RuleName::Whitespace => Self::Spaced,
            RuleName::Office => Self::Office,
        }
    }
}

/// Collects words.
pub(super) struct Words {
    /// What was counted since somebody took it.
    pub(super) sums: Sums,
    pub(super) listing: Listing,
    /// Whether white space only separates, as in a page.
    pub(super) is_page: bool,
    table: Table,
    join: Option<Join>,
    filter: Filter,
}

/// Words that hyphens may make one.
#[derive(Default)]
struct Join {
    open: Segment,
    has_hyphen: bool,
    hyphen: String,
}

/// Which words of the table are left out.
struct Filter {
    skips_numbers: bool,
    min_len: usize,
    stop_words: HashSet<String>,
}

impl Filter {
    fn new(options: &Options) -> Self {
        let key_maker = KeyMaker::new(options);
        let mut key = String::new();
        let stop_words = options.stop_words.iter().map(|word| {
            key_maker.write(word, &mut key);
            key.clone()
        });
        Self {
            skips_numbers: options.numbers == Numbers::Skip,
            min_len: usize::try_from(u32::from(options.min_len)).unwrap_or(usize::MAX),
            stop_words: stop_words.collect(),
        }
    }

    fn keeps_all(&self) -> bool {
        !self.skips_numbers && self.min_len <= 1 && self.stop_words.is_empty()
    }

    fn keeps(&self, word: &str) -> bool {
        let is_number =
            || word.chars().any(char::is_numeric) && !word.chars().any(char::is_alphabetic);
        let is_short = || self.min_len > 1 && word.chars().count() < self.min_len;
        let is_left_out = is_short() || self.stop_words.contains(word);
        !(is_left_out || (self.skips_numbers && is_number()))
    }
}

impl Words {
    pub(super) fn new(options: &Options, unique_words_max: usize) -> Self {
        Self {
            sums: Sums::default(),
            listing: Listing::of(options.rule),
            is_page: true,
            table: Table::new(KeyMaker::new(options), unique_words_max),
            join: (options.hyphen == Hyphen::Join).then(Join::default),
            filter: Filter::new(options),
        }
    }

    /// Returns where ASCII words go.
    pub(super) const fn table(&mut self) -> &mut Table {
        &mut self.table
    }

    /// Returns whether there were more different words than the options allow.
    pub(super) const fn is_full(&self) -> bool {
        self.table.is_full()
    }

    /// Adds what is between two of Unicode's boundaries.
    pub(super) fn add_segment(&mut self, segment: &Segment) {
        if segment.is_word {
            self.sums.unicode = self.sums.unicode.saturating_add(1);
            if segment.has_hangul {
                self.sums.hangul.add(segment.characters, 1);
            }
        }
        if self.join.is_some() {
            self.join(segment);
        } else if segment.is_word {
            self.list(Listing::Segments, &segment.text, segment.bytes);
        }
    }

    /// Adds letters of a script that is written without spaces, before they are cut.
    pub(super) fn add_letters(&mut self, writing: Writing, stretch: &Stretch<'_>) {
        let class = stretch.kind.class;
        self.sums.has_kana |= class == Class::Kana;
        match self.divided(writing) {
            // Thai writes vowels as marks, and a volume counts them.
            Some(divided) if writing == Writing::Thai || !class.extends() => {
                divided.add(stretch.characters, 0);
            }
            Some(_) | None => {}
        }
    }

    /// Adds a word that was cut out of a run of letters.
    pub(super) fn add_cut(&mut self, word: &str, writing: Writing) {
        self.sums.unicode = self.sums.unicode.saturating_add(1);
        if let Some(divided) = self.divided(writing) {
            divided.add(0, 1);
        }
        if self.join.is_some() {
            let text = word.to_owned();
            let bytes = word.len();
            self.join(&Segment { text, bytes, is_word: true, ..Segment::default() });
        } else {
            self.list(Listing::Segments, word, word.len());
        }
    }

    /// Ends the words before: a hyphen joins nothing across this place.
    pub(super) fn separate(&mut self) {
        if let Some(mut join) = self.join.take() {
            self.list_open(&mut join);
            self.join = Some(join);
        }
    }

    /// Takes back every word that was listed.
    pub(super) fn forget(&mut self) {
        self.table.clear();
        self.sums = Sums::default();
    }

    /// Returns the words that were listed; `None` if there were more than the options allow.
    pub(super) fn into_histogram(self) -> Option<Histogram> {
        let mut histogram = self.table.into_histogram()?;
        if !self.filter.keeps_all() {
            histogram.retain(|word| self.filter.keeps(word));
        }
        Some(histogram)
    }

    /// Lists a word, unless those of another rule are listed.
    pub(super) fn list(&mut self, listing: Listing, text: &str, bytes: usize) {
        if self.listing != listing {
            return;
        }
        if bytes > WORD_BYTES_MAX {
            self.sums.overlong = self.sums.overlong.saturating_add(1);
        } else {
            self.table.add(text);
        }
    }

    fn divided(&mut self, writing: Writing) -> Option<&mut CharacterCounts> {
        match writing {
            Writing::ChineseJapanese => Some(&mut self.sums.han_kana),
            Writing::Thai => Some(&mut self.sums.thai),
            Writing::Khmer | Writing::Lao | Writing::Myanmar => None,
        }
    }

    fn join(&mut self, segment: &Segment) {
        let Some(mut join) = self.join.take() else { return };
        let is_hyphen = matches!(segment.text.as_str(), "-" | "\u{2010}" | "\u{2011}");
        if segment.is_word {
            if join.has_hyphen {
                join.open.push_text(&join.hyphen, join.hyphen.len());
            } else {
                self.list_open(&mut join);
            }
            join.open.push_text(&segment.text, segment.bytes);
            join.has_hyphen = false;
        } else if is_hyphen && join.open.bytes > 0 && !join.has_hyphen {
            join.has_hyphen = true;
            join.hyphen.clone_from(&segment.text);
        } else {
            self.list_open(&mut join);
        }
        self.join = Some(join);
    }

    fn list_open(&mut self, join: &mut Join) {
        if join.open.bytes > 0 {
            self.list(Listing::Segments, &join.open.text, join.open.bytes);
            join.open.clear();
        }
        join.has_hyphen = false;
    }
}

impl Segment {
    fn push_text(&mut self, text: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= WORD_BYTES_MAX {
            self.text.push_str(text);
        }
    }
}
