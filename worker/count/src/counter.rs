//! Counts text by all rules in one pass, and lists the words of one rule.
//!
//! Text arrives in chunks of any size and is buffered. It consists of *tokens*: the text between
//! ASCII white space. No word of any rule spans two tokens, so each token can take one of two
//! paths. The fast path (`ascii`) counts tokens of ASCII, 64 bytes at a time. The slow path counts
//! all other tokens, stretch by stretch.

use wordmill_common::{
    options::{Hyphen, Language, RuleName, Scope},
    warning::{WarningCode, Warnings},
};

mod result;

pub(super) use super::omission::DropReason;
use super::{
    Options, ascii,
    char_class::CharTable,
    explain::ExplanationRecorder,
    omission::Omissions,
    rules::Sums,
    segment::Segmenter,
    stretch::Stretch,
    whitespace_rules::WhitespaceRules,
    word_sink::{Listing, WordSink},
};

/// Size of the buffer, in bytes. When it is full, its text is counted.
const BUFFER_BYTES: usize = 64 * 1024;

/// Part of a page to which text belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Region {
    /// Main content. Plain text is all main content.
    #[default]
    Main,
    /// Navigation, headers, footers and asides, and text outside of the element with the main
    /// content.
    Boilerplate,
}

/// Whether the token at the end of a text is complete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TextEnd {
    /// The token is complete.
    Final,
    /// The token may continue in the next text.
    InsideToken,
}

/// Counts the text of one document.
///
/// The result depends only on the text and its separations, not on the chunks in which the text
/// arrives.
pub(super) struct Counter {
    rule: RuleName,
    scope: Scope,
    language: Option<String>,
    char_table: CharTable,
    /// Text that is not counted yet, at most [`BUFFER_BYTES`].
    buffer: String,
    /// Whether the buffer starts inside a token, which the slow path has begun to count.
    is_in_token: bool,
    /// Whether even ASCII takes the slow path: to join hyphens, or to explain the count.
    is_slow_path_only: bool,
    segmenter: Segmenter,
    whitespace_rules: WhitespaceRules,
    words: WordSink,
    recorder: Option<ExplanationRecorder>,
    omissions: Omissions,
    warnings: Warnings,
    region: Region,
    /// Sums of complete tokens that are not yet part of `page` and `main`. Used only by explained
    /// counts, in which `words.sums` covers the current token alone.
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
            char_table: CharTable::get(),
            buffer: String::with_capacity(BUFFER_BYTES),
            is_in_token: false,
            is_slow_path_only: job_options.hyphen == Hyphen::Join || job_options.explain,
            segmenter: Segmenter::new(),
            whitespace_rules: WhitespaceRules::default(),
            words: WordSink::new(job_options, options.unique_words_max),
            recorder: job_options.explain.then(ExplanationRecorder::new),
            omissions: Omissions::default(),
            warnings: Warnings::new(),
            region: Region::default(),
            pending_sums: Sums::default(),
            page: Sums::default(),
            main: Sums::default(),
        }
    }

    /// Adds a chunk of plain text, in which every character is counted.
    pub(super) fn add_plain_text(&mut self, text: &str) {
        self.set_is_page(false);
        self.append(text);
    }

    /// Adds a chunk of text of a page, in which white space only separates words.
    ///
    /// A run of white space, together with adjacent separations, is counted as one character; at
    /// the start and at the end of the page, it is not counted. NUL is dropped, as in browsers.
    pub(super) fn add_page_text(&mut self, text: &str) {
        for part in text.split('\0') {
            self.add_page_text_without_nul(part);
        }
    }

    /// Like [`Self::add_page_text`], for text without NUL.
    #[inline]
    pub(super) fn add_page_text_without_nul(&mut self, text: &str) {
        self.set_is_page(true);
        self.append(text);
    }

    /// Separates the text before from the text after: no word spans both.
    pub(super) fn separate(&mut self) {
        // In a page, a line feed in the buffer is enough. In plain text, it would be counted as a
        // character.
        if !self.words.is_page {
            self.flush();
        } else if !self.buffer.ends_with('\n') {
            if self.buffer.len() >= BUFFER_BYTES {
                self.drain();
            }
            self.buffer.push('\n');
        }
    }

    /// Sets the region of the following text. No word spans two regions.
    pub(super) fn set_region(&mut self, region: Region) {
        if self.region == region {
            self.separate();
            return;
        }
        // The text so far belongs to the old region.
        self.flush();
        self.region = region;
        self.words.listing = match (self.scope, region) {
            (Scope::Main, Region::Boilerplate) => Listing::None,
            (Scope::Main, Region::Main) | (Scope::Page, _) => Listing::of(self.rule),
        };
    }

    /// Discards the main content so far. The main content starts again here.
    pub(super) fn restart_main(&mut self) {
        // The text so far is still part of the page.
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

    /// Discards all text so far, because it is hidden.
    pub(super) fn discard(&mut self) {
        self.flush();
        self.omissions.add_hidden_characters(self.page.characters_no_spaces);
        self.page = Sums::default();
        self.main = Sums::default();
        self.words.clear();
        if let Some(recorder) = &mut self.recorder {
            recorder.clear();
        }
    }

    /// Records a piece of text that is not counted.
    pub(super) fn record_dropped(&mut self, reason: DropReason, text: &str) {
        self.omissions.add_text(reason, text);
    }

    /// Records the number of `script` elements.
    pub(super) const fn record_scripts(&mut self, scripts: u64) {
        self.omissions.add_scripts(scripts);
    }

    /// Adds `count` occurrences of a warning. Only the first location of each code is kept.
    pub(super) fn warn(&mut self, code: WarningCode, count: u64, location: Option<&str>) {
        self.warnings.add(code, count, location);
    }

    /// Sets the language that the document declares. The options and earlier declarations take
    /// precedence.
    pub(super) fn set_declared_language(&mut self, tag: &str) {
        if self.language.is_none() {
            let language = Language::try_from(tag.trim().to_owned()).ok();
            self.language = language.as_ref().map(Language::primary);
        }
    }

    /// Returns whether there are more distinct words than the options allow.
    pub(super) const fn is_full(&self) -> bool {
        self.words.is_full()
    }

    fn set_is_page(&mut self, is_page: bool) {
        if self.words.is_page != is_page {
            self.flush();
            self.words.is_page = is_page;
        }
    }

    /// Appends text to the buffer. When a character does not fit, counts the text up to the last
    /// white space first. The positions of these cuts depend only on the text, not on its chunks.
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

    /// Counts the buffered text up to the last white space, and keeps the rest.
    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        // White space at the very start is not a cut, because it would free no space.
        match buffer.rfind(is_space).filter(|cut| *cut > 0) {
            Some(cut) => {
                self.count(buffer.get(..cut).unwrap_or_default());
                buffer.drain(..cut);
            }
            // One token fills the buffer, so a part of it is counted.
            None => {
                self.count_on_slow_path(&buffer, 0, TextEnd::InsideToken);
                buffer.clear();
            }
        }
        self.buffer = buffer;
    }

    /// Counts the buffered text to its end, and adds the sums to those of the page and of its
    /// region.
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

    /// Counts text that ends with a complete token.
    fn count(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut position = 0;
        // A token that began on the slow path must end on it, because the segmenter holds its
        // state.
        if self.is_slow_path_only || self.is_in_token {
            position = self.count_on_slow_path(text, 0, TextEnd::Final);
        }
        while position < bytes.len() {
            // The fast path stops before a token with a byte outside ASCII, or a token that is
            // longer than a block. The slow path counts that token, and returns when ASCII follows.
            position = ascii::count(bytes, position, &mut self.words);
            if position < bytes.len() {
                position = self.count_on_slow_path(text, position, TextEnd::Final);
            }
        }
    }

    /// Counts text on the slow path: by all rules, stretch by stretch, from `start`. Stops at the
    /// end, or after white space if the fast path can continue there. Returns the position.
    fn count_on_slow_path(&mut self, text: &str, start: usize, end: TextEnd) -> usize {
        let mut position = start;
        while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
            let stretch = Stretch::first(rest, self.char_table);
            // A stretch of white space is a single character.
            if stretch.text.starts_with(is_space) {
                self.end_token(rest);
                position = position.saturating_add(stretch.text.len());
                // In a page, white space is counted by tokens: see [`Sums::all_characters`].
                if !self.words.is_page {
                    self.words.sums.add_space();
                }
                // The fast path needs complete tokens. A text that ends inside one is counted here
                // to its end, because the caller then discards it.
                if end == TextEnd::Final
                    && !self.is_slow_path_only
                    && is_ascii_ahead(text.as_bytes(), position)
                {
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
            // Move the sums so far, so that `words.sums` covers this token alone.
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
        // Without a listing, the token is outside of the scope and does not need an explanation.
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

/// Returns whether the next eight bytes are ASCII. If they are, the fast path is worthwhile.
fn is_ascii_ahead(bytes: &[u8], position: usize) -> bool {
    let ahead = bytes.get(position..).and_then(|rest| rest.first_chunk::<8>());
    ahead.is_some_and(|ahead| ahead.is_ascii())
}

#[cfg(test)]
mod tests;
