//! Counts what the extractors find: text comes in in any pieces, and sums and words come out.

use std::collections::BTreeMap;

use wordmill_common::{
    explanation::Explanation,
    histogram::{Histogram, Totals},
    options::{Hyphen, Language, RuleName, Scope},
};

pub(super) use super::explain::DropReason;
use super::{
    Options, ascii,
    char_class::Kinds,
    explain::Recorder,
    rules::Sums,
    segment::Segmenter,
    stretch::Stretch,
    whitespace_rules::Spacing,
    word_sink::{Listing, Words},
};

/// Text is collected up to this size and then counted at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// Which part of a page a text belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Region {
    /// The article; the whole of a text.
    #[default]
    Main,
    /// Navigation, headers, footers, asides: what is around the article.
    Around,
}

/// Whether the text that comes may go on where the text before ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Piece,
    Open,
}

/// The words of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct TextCount {
    /// The sums, by the rule asked for and of the part asked for.
    pub totals: Totals,
    /// The words of that part by every rule, without regard to options that leave words out.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// The words of the whole, `page`, and of the article, `main`, by the rule asked for.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// Every word that is kept, with its count.
    pub histogram: Histogram,
    /// What the rules count differently, if the options ask for it.
    pub explanation: Option<Explanation>,
}

/// Sums up the text of one document.
///
/// What comes out depends on the text and its boundaries alone, not on the pieces it came in.
pub(super) struct Counter {
    rule: RuleName,
    scope: Scope,
    language: Option<String>,
    kinds: Kinds,
    buffer: String,
    /// Whether the piece at the front of the buffer began before it.
    is_open: bool,
    /// Whether ASCII has to go the careful way, too.
    is_careful: bool,
    segmenter: Segmenter,
    spacing: Spacing,
    words: Words,
    recorder: Option<Recorder>,
    region: Region,
    /// Counted since the last booking, before the open piece.
    unbooked: Sums,
    page: Sums,
    main: Sums,
}

impl Counter {
    pub(super) fn new(options: &Options) -> Self {
        let asked = &options.asked;
        Self {
            rule: asked.rule,
            scope: asked.scope,
            language: asked.language.as_ref().map(Language::primary),
            kinds: Kinds::get(),
            buffer: String::with_capacity(BUFFER_BYTES),
            is_open: false,
            is_careful: asked.hyphen == Hyphen::Join || asked.explain,
            segmenter: Segmenter::new(),
            spacing: Spacing::default(),
            words: Words::new(asked, options.unique_words_max),
            recorder: asked.explain.then(Recorder::new),
            region: Region::default(),
            unbooked: Sums::default(),
            page: Sums::default(),
            main: Sums::default(),
        }
    }

    /// Adds plain text, in which every character counts.
    pub(super) fn add_plain(&mut self, text: &str) {
        self.flow_as(false);
        self.fill(text);
    }

    /// Adds text of a page, in which white space only separates.
    ///
    /// Any run of it, together with the boundaries beside it, counts as one character, and as none
    /// at the start and the end of the page. NUL is dropped, as browsers do.
    pub(super) fn add_flowing(&mut self, text: &str) {
        for part in text.split('\0') {
            self.add_flowing_without_nul(part);
        }
    }

    /// As [`Self::add_flowing`], for text in which there is no NUL.
    #[inline]
    pub(super) fn add_flowing_without_nul(&mut self, text: &str) {
        self.flow_as(true);
        self.fill(text);
    }

    /// Separates the text before from the text after: no word spans this place.
    pub(super) fn boundary(&mut self) {
        if !self.words.is_page {
            self.flush();
        } else if !self.buffer.ends_with('\n') {
            if self.buffer.len() >= BUFFER_BYTES {
                self.drain();
            }
            self.buffer.push('\n');
        }
    }

    /// Says which part of the page the text that follows belongs to. No word spans two parts.
    pub(super) fn set_region(&mut self, region: Region) {
        if self.region == region {
            self.boundary();
            return;
        }
        self.flush();
        self.region = region;
        self.words.listing = match (self.scope, region) {
            (Scope::Main, Region::Around) => Listing::Nothing,
            (Scope::Main, Region::Main) | (Scope::Page, _) => Listing::of(self.rule),
        };
    }

    /// Says that nothing so far belongs to the main part, which begins now.
    pub(super) fn restart_main(&mut self) {
        self.flush();
        self.set_region(Region::Main);
        self.main = Sums::default();
        if self.scope == Scope::Main {
            self.words.forget();
            if let Some(recorder) = &mut self.recorder {
                recorder.forget();
            }
        }
    }

    /// Says that `bytes` of text were left out.
    pub(super) fn dropped(&mut self, why: DropReason, bytes: u64) {
        if let Some(recorder) = &mut self.recorder {
            recorder.drop(why, bytes);
        }
    }

    /// Says which language the document is in, as it declares it; the options go first.
    pub(super) fn declare_language(&mut self, tag: &str) {
        if self.language.is_none() {
            let language = Language::try_from(tag.trim().to_owned()).ok();
            self.language = language.as_ref().map(Language::primary);
        }
    }

    /// Returns whether there were more different words than the options allow.
    pub(super) const fn is_full(&self) -> bool {
        self.words.is_full()
    }

    /// Ends the text and returns what was counted; `None` if there were more different words than
    /// the options allow.
    pub(super) fn finish(mut self) -> Option<TextCount> {
        self.flush();
        let (sums, language) = (self.counted(), self.language.as_deref());
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

    /// Returns the sums of what the options ask for.
    const fn counted(&self) -> Sums {
        match self.scope {
            Scope::Page => self.page,
            Scope::Main => self.main,
        }
    }

    fn flow_as(&mut self, is_page: bool) {
        if self.words.is_page != is_page {
            self.flush();
            self.words.is_page = is_page;
        }
    }

    /// Appends text to the buffer; whenever the next character does not fit, the text is counted up
    /// to the last white space. Where that is depends on the text alone.
    fn fill(&mut self, text: &str) {
        let mut rest = text;
        loop {
            let room = BUFFER_BYTES.saturating_sub(self.buffer.len());
            if rest.len() <= room {
                self.buffer.push_str(rest);
                return;
            }
            let (now, later) = rest.split_at(rest.floor_char_boundary(room));
            self.buffer.push_str(now);
            rest = later;
            self.drain();
        }
    }

    fn drain(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        match buffer.rfind(is_space).filter(|cut| *cut > 0) {
            Some(cut) => {
                self.count(buffer.get(..cut).unwrap_or_default());
                buffer.drain(..cut);
            }
            // One piece fills the buffer.
            None => {
                self.read(&buffer, 0, End::Open);
                buffer.clear();
            }
        }
        self.buffer = buffer;
    }

    /// Counts what the buffer holds, up to its end, and books it.
    fn flush(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.count(&buffer);
        buffer.clear();
        self.buffer = buffer;
        let mut sums = std::mem::take(&mut self.words.sums);
        sums.add(&std::mem::take(&mut self.unbooked));
        self.page.add(&sums);
        if self.region == Region::Main {
            self.main.add(&sums);
        }
    }

    /// Counts text that ends where a piece ends.
    fn count(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        if self.is_careful || self.is_open {
            at = self.read(text, 0, End::Piece);
        }
        while at < bytes.len() {
            at = ascii::count(bytes, at, &mut self.words);
            if at < bytes.len() {
                at = self.read(text, at, End::Piece);
            }
        }
    }

    /// Reads text with all the rules, from the start of a piece (or within it, if it is open) to
    /// white space behind which the fast way can go on, or to the end. Returns where that is.
    fn read(&mut self, text: &str, start: usize, end: End) -> usize {
        let mut at = start;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let stretch = Stretch::first(rest, self.kinds);
            if stretch.text.starts_with(is_space) {
                self.end_piece(rest);
                at = at.saturating_add(stretch.text.len());
                if !self.words.is_page {
                    self.words.sums.add_space();
                }
                if !self.is_careful && is_ascii_ahead(text.as_bytes(), at) {
                    return at;
                }
                continue;
            }
            if !self.is_open {
                self.begin_piece(text, at);
            }
            at = at.saturating_add(stretch.text.len());
            self.words.sums.add_characters(&stretch);
            self.segmenter.push(&stretch, &mut self.words);
            self.spacing.push(&stretch, &mut self.words);
        }
        if end == End::Piece {
            self.end_piece("");
        }
        at
    }

    fn begin_piece(&mut self, text: &str, at: usize) {
        self.is_open = true;
        if let Some(recorder) = &mut self.recorder {
            // What was counted before is put aside, to see what this piece adds.
            let sums = std::mem::take(&mut self.words.sums);
            self.unbooked.add(&sums);
            recorder.begin(text, at);
        }
        if self.words.is_page {
            self.words.sums.add_piece();
        }
    }

    fn end_piece(&mut self, after: &str) {
        self.segmenter.boundary(&mut self.words);
        self.spacing.end(&mut self.words);
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        if let Some(recorder) = &mut self.recorder
            && self.words.listing != Listing::Nothing
        {
            recorder.end(&self.words.sums, after);
        }
    }
}

/// Returns whether a character is ASCII white space, which ends whatever is open in every rule.
fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ')
}

/// Tells whether the next characters can be read the fast way.
fn is_ascii_ahead(bytes: &[u8], at: usize) -> bool {
    let ahead = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    ahead.is_some_and(|ahead| ahead.is_ascii())
}

#[cfg(test)]
mod tests;
