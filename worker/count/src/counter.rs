//! Counts text that arrives in chunks of any size: by all rules, and into a histogram.

use std::collections::BTreeMap;

use wordmill_common::{
    explanation::Explanation,
    histogram::{Histogram, Totals},
    options::{Hyphen, Language, RuleName, Scope},
};

pub(super) use super::explain::DropReason;
use super::{
    Options, ascii,
    char_class::KindTable,
    explain::Recorder,
    rules::Sums,
    segment::Segmenter,
    stretch::Stretch,
    whitespace_rules::WhitespaceRules,
    word_sink::{Listing, WordSink},
};

/// Text is buffered up to this size and then counted at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// The part of a page that a text belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Region {
    /// The main content; all of a plain text.
    #[default]
    Main,
    /// Navigation, headers, footers and asides.
    Boilerplate,
}

/// Whether the token at the end of a text may continue in the next one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TextEnd {
    Final,
    InsideToken,
}

/// The words of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextCount {
    /// The sums, by the rule and of the scope of the options.
    pub totals: Totals,
    /// The words of that scope by every rule, including words that the options leave out.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// The words of the whole, `page`, and of the main content, `main`, by the rule of the options.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// Every listed word, with its count.
    pub histogram: Histogram,
    /// The examples that the rules count differently, if the options ask for them.
    pub explanation: Option<Explanation>,
}

/// Counts the text of one document.
///
/// The result depends on the text and its boundaries alone, not on the chunks of text.
pub(super) struct Counter {
    rule: RuleName,
    scope: Scope,
    language: Option<String>,
    kinds: KindTable,
    buffer: String,
    /// Whether the buffer starts inside a token.
    is_in_token: bool,
    /// Whether ASCII, too, has to be counted by the careful way.
    is_careful: bool,
    segmenter: Segmenter,
    whitespace_rules: WhitespaceRules,
    words: WordSink,
    recorder: Option<Recorder>,
    region: Region,
    /// Sums that are not yet part of `page` and `main`, without the current token.
    pending_sums: Sums,
    page: Sums,
    main: Sums,
}

impl Counter {
    pub(super) fn new(options: &Options) -> Self {
        let job_options = &options.job_options;
        Self {
            rule: job_options.rule,
            scope: job_options.scope,
            language: job_options.language.as_ref().map(Language::primary),
            kinds: KindTable::get(),
            buffer: String::with_capacity(BUFFER_BYTES),
            is_in_token: false,
            is_careful: job_options.hyphen == Hyphen::Join || job_options.explain,
            segmenter: Segmenter::new(),
            whitespace_rules: WhitespaceRules::default(),
            words: WordSink::new(job_options, options.unique_words_max),
            recorder: job_options.explain.then(Recorder::new),
            region: Region::default(),
            pending_sums: Sums::default(),
            page: Sums::default(),
            main: Sums::default(),
        }
    }

    /// Adds a chunk of plain text, in which every character counts.
    pub(super) fn add_plain(&mut self, text: &str) {
        self.set_is_page(false);
        self.append(text);
    }

    /// Adds a chunk of text of a page, in which white space only separates.
    ///
    /// A run of white space, together with the boundaries beside it, counts as one character, and
    /// as none at the start and the end of the page. NUL is dropped, as in browsers.
    pub(super) fn add_flowing(&mut self, text: &str) {
        for part in text.split('\0') {
            self.add_flowing_without_nul(part);
        }
    }

    /// As [`Self::add_flowing`], for text without NUL.
    #[inline]
    pub(super) fn add_flowing_without_nul(&mut self, text: &str) {
        self.set_is_page(true);
        self.append(text);
    }

    /// Separates the text before from the text after: no word spans both.
    pub(super) fn separate(&mut self) {
        if !self.words.is_page {
            self.flush();
        } else if !self.buffer.ends_with('\n') {
            if self.buffer.len() >= BUFFER_BYTES {
                self.drain();
            }
            self.buffer.push('\n');
        }
    }

    /// Sets the part of the page that the following text belongs to. No word spans two parts.
    pub(super) fn set_region(&mut self, region: Region) {
        if self.region == region {
            self.separate();
            return;
        }
        self.flush();
        self.region = region;
        self.words.listing = match (self.scope, region) {
            (Scope::Main, Region::Boilerplate) => Listing::None,
            (Scope::Main, Region::Main) | (Scope::Page, _) => Listing::of(self.rule),
        };
    }

    /// Discards the main content so far: it starts here.
    pub(super) fn restart_main(&mut self) {
        self.flush();
        self.set_region(Region::Main);
        self.main = Sums::default();
        if self.scope == Scope::Main {
            self.words.clear();
            if let Some(recorder) = &mut self.recorder {
                recorder.clear();
            }
        }
    }

    /// Records that `bytes` of text were left out.
    pub(super) fn record_dropped(&mut self, reason: DropReason, bytes: u64) {
        if let Some(recorder) = &mut self.recorder {
            recorder.record_dropped(reason, bytes);
        }
    }

    /// Sets the language that the document declares; the options take precedence.
    pub(super) fn set_declared_language(&mut self, tag: &str) {
        if self.language.is_none() {
            let language = Language::try_from(tag.trim().to_owned()).ok();
            self.language = language.as_ref().map(Language::primary);
        }
    }

    /// Returns whether there were more distinct words than the options allow.
    pub(super) const fn is_full(&self) -> bool {
        self.words.is_full()
    }

    /// Ends the text and returns the count; `None` if there were more distinct words than the
    /// options allow.
    pub(super) fn finish(mut self) -> Option<TextCount> {
        self.flush();
        let sums = self.sums_of_scope();
        let language = self.language.as_deref();
        let by_scope = [("page", &self.page), ("main", &self.main)].into_iter();
        let by_scope =
            by_scope.map(|(scope, sums)| (scope.to_owned(), sums.words(self.rule, language)));
        let totals_by_scope = by_scope.collect();
        let histogram = self.words.into_histogram()?;
        let words = match self.rule {
            RuleName::Gmx => sums.words(RuleName::Gmx, language),
            RuleName::Unicode | RuleName::Whitespace | RuleName::Office => {
                histogram.total().saturating_add(sums.overlong)
            }
        };
        let totals = Totals {
            words,
            unique_words: u64::try_from(histogram.len()).unwrap_or(u64::MAX),
            characters: sums.all_characters(),
            characters_no_spaces: sums.characters_no_spaces,
            overlong_words: sums.overlong,
        };
        let totals_by_rule = sums.by_rule(language);
        let recorder = self.recorder;
        let explanation = recorder.map(|recorder| recorder.finish(language, sums.has_kana));
        Some(TextCount { totals, totals_by_rule, totals_by_scope, histogram, explanation })
    }

    /// Returns the sums of the scope that the options select.
    const fn sums_of_scope(&self) -> Sums {
        match self.scope {
            Scope::Page => self.page,
            Scope::Main => self.main,
        }
    }

    fn set_is_page(&mut self, is_page: bool) {
        if self.words.is_page != is_page {
            self.flush();
            self.words.is_page = is_page;
        }
    }

    /// Appends text to the buffer. If the next character does not fit, the text up to the last
    /// white space is counted first, so the chunks of counted text depend on the text alone.
    fn append(&mut self, text: &str) {
        let mut rest = text;
        loop {
            let free_bytes = BUFFER_BYTES.saturating_sub(self.buffer.len());
            if rest.len() <= free_bytes {
                self.buffer.push_str(rest);
                return;
            }
            let (head, tail) = rest.split_at(rest.floor_char_boundary(free_bytes));
            self.buffer.push_str(head);
            rest = tail;
            self.drain();
        }
    }

    /// Counts the buffered text up to the last white space.
    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        match buffer.rfind(is_space).filter(|cut| *cut > 0) {
            Some(cut) => {
                self.count(buffer.get(..cut).unwrap_or_default());
                buffer.drain(..cut);
            }
            // One token fills the buffer.
            None => {
                self.count_carefully(&buffer, 0, TextEnd::InsideToken);
                buffer.clear();
            }
        }
        self.buffer = buffer;
    }

    /// Counts the buffered text to its end, and adds the sums to those of the page and its parts.
    fn flush(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.count(&buffer);
        buffer.clear();
        self.buffer = buffer;
        let mut sums = std::mem::take(&mut self.words.sums);
        sums.add(&std::mem::take(&mut self.pending_sums));
        self.page.add(&sums);
        if self.region == Region::Main {
            self.main.add(&sums);
        }
    }

    /// Counts text that ends with a token.
    fn count(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut position = 0;
        if self.is_careful || self.is_in_token {
            position = self.count_carefully(text, 0, TextEnd::Final);
        }
        while position < bytes.len() {
            position = ascii::count(bytes, position, &mut self.words);
            if position < bytes.len() {
                position = self.count_carefully(text, position, TextEnd::Final);
            }
        }
    }

    /// Counts text by all rules, character by character, from `start` to white space after which
    /// the fast way can continue, or to the end. Returns the position after it.
    fn count_carefully(&mut self, text: &str, start: usize, end: TextEnd) -> usize {
        let mut position = start;
        while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
            let stretch = Stretch::first(rest, self.kinds);
            if stretch.text.starts_with(is_space) {
                self.end_token(rest);
                position = position.saturating_add(stretch.text.len());
                if !self.words.is_page {
                    self.words.sums.add_space();
                }
                if !self.is_careful && is_ascii_ahead(text.as_bytes(), position) {
                    return position;
                }
                continue;
            }
            if !self.is_in_token {
                self.begin_token(text, position);
            }
            position = position.saturating_add(stretch.text.len());
            self.words.sums.add_characters(&stretch);
            self.segmenter.push(&stretch, &mut self.words);
            self.whitespace_rules.push(&stretch, &mut self.words);
        }
        if end == TextEnd::Final {
            self.end_token("");
        }
        position
    }

    fn begin_token(&mut self, text: &str, start: usize) {
        self.is_in_token = true;
        if let Some(recorder) = &mut self.recorder {
            // The sums so far are moved, so that `words` has the sums of this token alone.
            let sums = std::mem::take(&mut self.words.sums);
            self.pending_sums.add(&sums);
            recorder.begin_token(text, start);
        }
        if self.words.is_page {
            self.words.sums.add_token();
        }
    }

    fn end_token(&mut self, after: &str) {
        self.segmenter.separate(&mut self.words);
        self.whitespace_rules.end(&mut self.words);
        if !std::mem::take(&mut self.is_in_token) {
            return;
        }
        if let Some(recorder) = &mut self.recorder
            && self.words.listing != Listing::None
        {
            recorder.end_token(&self.words.sums, after);
        }
    }
}

/// Returns whether a character is ASCII white space, which ends a word by every rule.
fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

/// Returns whether the next characters can be counted by the fast way.
fn is_ascii_ahead(bytes: &[u8], position: usize) -> bool {
    let ahead = bytes.get(position..).and_then(|rest| rest.first_chunk::<8>());
    ahead.is_some_and(|ahead| ahead.is_ascii())
}

#[cfg(test)]
mod tests;
