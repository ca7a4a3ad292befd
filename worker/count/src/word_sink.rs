//! Receives the words that the rules find. Counts the words of all rules, and lists those of one.

use std::collections::HashSet;

use wordmill_common::{
    histogram::Histogram,
    options::{Hyphen, Numbers, Options, RuleName},
};

use super::{
    char_class::{Class, WritingSystem},
    normalize::Normalizer,
    rules::{CharacterCounts, Sums},
    stretch::{Segment, Stretch, WORD_BYTES_MAX},
    word_table::WordTable,
};

/// Kind of the words that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// Segments between word boundaries of UAX #29.
    Segments,
    /// Text between white space.
    Whitespace,
    /// Text between white space, except that each Han or Kana character is a word.
    Office,
    /// No words: the current text is only counted.
    None,
}

impl Listing {
    pub(super) const fn of(rule: RuleName) -> Self {
        match rule {
            // `gmx` does not define words, so the words of `unicode` are listed.
            RuleName::Unicode | RuleName::Gmx => Self::Segments,
            RuleName::Whitespace => Self::Whitespace,
            RuleName::Office => Self::Office,
        }
    }
}

/// Receiver of words.
pub(super) struct WordSink {
    /// Sums of the words since the counter last added them to its own sums.
    pub(super) sums: Sums,
    pub(super) listing: Listing,
    /// Whether the text belongs to a page, in which white space only separates words.
    pub(super) is_page: bool,
    table: WordTable,
    join: Option<HyphenJoin>,
    filter: Filter,
}

/// The open word, which a hyphen may extend: for `well-known`, first `well`.
#[derive(Default)]
struct HyphenJoin {
    word: Segment,
    /// Whether a hyphen follows the word. It joins the word that follows immediately.
    has_hyphen: bool,
    /// That hyphen, as written.
    hyphen: String,
}

/// Options that omit words from the histogram.
struct Filter {
    skips_numbers: bool,
    min_len: usize,
    /// Stop words in normal form.
    stop_words: HashSet<String>,
}

impl Filter {
    fn new(options: &Options) -> Self {
        let normalizer = Normalizer::new(options);
        let mut key = String::new();
        let stop_words = options.stop_words.iter().map(|word| {
            normalizer.write(word, &mut key);
            key.clone()
        });
        Self {
            skips_numbers: options.numbers == Numbers::Skip,
            min_len: usize::try_from(u32::from(options.min_len)).unwrap_or(usize::MAX),
            stop_words: stop_words.collect(),
        }
    }

    fn accepts_all(&self) -> bool {
        !self.skips_numbers && self.min_len <= 1 && self.stop_words.is_empty()
    }

    fn accepts(&self, word: &str) -> bool {
        let is_number =
            || word.chars().any(char::is_numeric) && !word.chars().any(char::is_alphabetic);
        let is_short = || self.min_len > 1 && word.chars().count() < self.min_len;
        let is_excluded = is_short() || self.stop_words.contains(word);
        !(is_excluded || (self.skips_numbers && is_number()))
    }
}

impl WordSink {
    pub(super) fn new(options: &Options, unique_words_max: usize) -> Self {
        Self {
            sums: Sums::default(),
            listing: Listing::of(options.rule),
            is_page: true,
            table: WordTable::new(Normalizer::new(options), unique_words_max),
            join: (options.hyphen == Hyphen::Join).then(HyphenJoin::default),
            filter: Filter::new(options),
        }
    }

    /// Returns the table, to which the fast path for ASCII adds words directly.
    pub(super) const fn table(&mut self) -> &mut WordTable {
        &mut self.table
    }

    /// Returns whether there are more distinct words than the options allow.
    pub(super) const fn is_full(&self) -> bool {
        self.table.is_full()
    }

    /// Adds a segment between two word boundaries of UAX #29.
    pub(super) fn add_segment(&mut self, segment: &Segment) {
        if segment.is_word {
            self.sums.unicode = self.sums.unicode.saturating_add(1);
            if segment.has_hangul {
                self.sums.hangul.add(segment.characters, 1);
            }
        }
        // Hyphens are segments that are not words, so all segments are passed on.
        if self.join.is_some() {
            self.join_segment(segment);
        } else if segment.is_word {
            self.list(Listing::Segments, &segment.text, segment.bytes);
        }
    }

    /// Counts letters of a script that is written without spaces. [`Self::add_dictionary_word`]
    /// adds their words later.
    pub(super) fn add_letters(&mut self, writing: WritingSystem, stretch: &Stretch<'_>) {
        let class = stretch.properties.class;
        self.sums.has_kana |= class == Class::Kana;
        let is_letter = stretch.properties.is_word_character() && !class.is_extending();
        match self.counts_of(writing) {
            // Some Thai vowels are combining marks, and `gmx` counts them as characters.
            Some(counts) if writing == WritingSystem::Thai || is_letter => {
                counts.add(stretch.characters, 0);
            }
            Some(_) | None => {}
        }
    }

    /// Adds a word that was found in a run of letters by a dictionary. `bytes` is its length; the
    /// text may be incomplete if it is longer than [`WORD_BYTES_MAX`].
    pub(super) fn add_dictionary_word(&mut self, word: &str, bytes: usize, writing: WritingSystem) {
        self.sums.unicode = self.sums.unicode.saturating_add(1);
        if let Some(counts) = self.counts_of(writing) {
            counts.add(0, 1);
        }
        if self.join.is_some() {
            let text = word.to_owned();
            self.join_segment(&Segment { text, bytes, is_word: true, ..Segment::default() });
        } else {
            self.list(Listing::Segments, word, bytes);
        }
    }

    /// Separates the text before from the text after: no hyphen joins words across it.
    pub(super) fn separate(&mut self) {
        if let Some(mut join) = self.join.take() {
            self.list_joined(&mut join);
            self.join = Some(join);
        }
    }

    /// Discards all listed words, and the sums.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.sums = Sums::default();
    }

    /// Returns the listed words, or `None` if there are more than the options allow.
    pub(super) fn into_histogram(self) -> Option<Histogram> {
        let mut histogram = self.table.into_histogram()?;
        if !self.filter.accepts_all() {
            histogram.retain(|word| self.filter.accepts(word));
        }
        Some(histogram)
    }

    /// Lists a word if its kind is listed. `bytes` is its length; `text` may be incomplete if the
    /// word is longer than [`WORD_BYTES_MAX`].
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

    fn counts_of(&mut self, writing: WritingSystem) -> Option<&mut CharacterCounts> {
        match writing {
            WritingSystem::ChineseJapanese => Some(&mut self.sums.han_kana),
            WritingSystem::Thai => Some(&mut self.sums.thai),
            WritingSystem::Khmer | WritingSystem::Lao | WritingSystem::Myanmar => None,
        }
    }

    /// Extends the open word by a segment, or lists that word first.
    fn join_segment(&mut self, segment: &Segment) {
        let Some(mut join) = self.join.take() else { return };
        let is_hyphen = matches!(segment.text.as_str(), "-" | "\u{2010}" | "\u{2011}");
        if segment.is_word {
            // The segment continues the open word, or begins another one.
            if join.has_hyphen {
                join.word.push_text(&join.hyphen, join.hyphen.len());
            } else {
                self.list_joined(&mut join);
            }
            join.word.push_text(&segment.text, segment.bytes);
            join.has_hyphen = false;
        } else if is_hyphen && join.word.bytes > 0 && !join.has_hyphen {
            // Only a single hyphen joins: `a--b` is two words.
            join.has_hyphen = true;
            join.hyphen.clone_from(&segment.text);
        } else {
            self.list_joined(&mut join);
        }
        self.join = Some(join);
    }

    fn list_joined(&mut self, join: &mut HyphenJoin) {
        if join.word.bytes > 0 {
            self.list(Listing::Segments, &join.word.text, join.word.bytes);
            join.word.clear();
        }
        join.has_hyphen = false;
    }
}

impl Segment {
    pub(super) fn push_text(&mut self, text: &str, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= WORD_BYTES_MAX {
            self.text.push_str(text);
        }
    }
}
