//! Unicode word boundaries (UAX #29), one stretch of like characters at a time.
//!
//! The rules look at most one segment ahead, so that text may arrive in any chunks and a segment of
//! any length needs the same memory. Runs of scripts with a dictionary go to [`Run`].

use super::{
    char_class::{Class, WritingSystem},
    dictionary::DictionaryRun,
    stretch::{Segment, Stretch},
    word_sink::WordSink,
};

impl Segment {
    fn finish(&mut self, words: &mut WordSink) {
        if self.bytes > 0 {
            words.add_segment(self);
            self.clear();
        }
    }
}

/// Splits text into segments and hands them on.
pub(super) struct Segmenter {
    segment: Segment,
    /// The class of the segment's last character, marks aside; `Newline` at the start of text.
    last_class: Class,
    /// A character that may be inside a word, with its marks, until the next character decides: in
    /// `don't` the quote joins, in `dogs' ` it does not.
    middle: Segment,
    middle_class: Option<Class>,
    is_after_joiner: bool,
    run: DictionaryRun,
    run_writing: Option<WritingSystem>,
}

impl Segmenter {
    pub(super) fn new() -> Self {
        Self {
            segment: Segment::default(),
            last_class: Class::Newline,
            middle: Segment::default(),
            middle_class: None,
            is_after_joiner: false,
            run: DictionaryRun::new(),
            run_writing: None,
        }
    }

    /// Adds the next stretch of the text.
    pub(super) fn push(&mut self, stretch: &Stretch<'_>, words: &mut WordSink) {
        let class = stretch.kind.class;
        if let Some(writing) = self.run_writing {
            if class.is_extending() || class.writing() == Some(writing) {
                self.run.push(stretch, writing, words);
                return;
            }
            self.end_segment(words);
        }
        if let Some(writing) = class.writing() {
            self.end_segment(words);
            self.run_writing = Some(writing);
            self.run.push(stretch, writing, words);
            return;
        }
        self.push_to_segment(stretch, words);
        self.is_after_joiner = class == Class::Joiner;
    }

    /// Ends the text, or a part of it that no word continues.
    pub(super) fn separate(&mut self, words: &mut WordSink) {
        self.end_segment(words);
        words.separate();
    }

    /// Ends the open segment; the next one follows immediately.
    fn end_segment(&mut self, words: &mut WordSink) {
        if let Some(writing) = self.run_writing.take() {
            self.run.finish(writing, words);
        }
        self.split_before_middle(words);
        self.segment.finish(words);
        self.last_class = Class::Newline;
        self.is_after_joiner = false;
    }

    fn push_to_segment(&mut self, stretch: &Stretch<'_>, words: &mut WordSink) {
        let class = stretch.kind.class;
        if class.is_extending() && self.last_class != Class::Newline {
            let target = match self.middle_class {
                Some(_) => &mut self.middle,
                None => &mut self.segment,
            };
            target.push(stretch);
            return;
        }
        if let Some(middle) = self.middle_class {
            if self.last_class.completes(middle, class) {
                self.segment.append(&mut self.middle);
                self.middle_class = None;
                self.segment.push(stretch);
                self.last_class = class;
                return;
            }
            self.split_before_middle(words);
        }
        let is_joined_pictograph = self.is_after_joiner && stretch.kind.is_pictograph();
        if self.last_class.joins(class) || is_joined_pictograph {
            self.segment.push(stretch);
            self.last_class = match (self.last_class, class) {
                (Class::HebrewLetter, Class::SingleQuote) => Class::HebrewQuote,
                // A flag consists of two, so a third one begins another flag (WB15, WB16).
                (_, Class::Regional) => Class::Other,
                (_, class) => class,
            };
        } else if self.last_class.can_join(class) {
            self.middle.push(stretch);
            self.middle_class = Some(class);
        } else {
            self.segment.finish(words);
            self.segment.push(stretch);
            self.last_class = class;
        }
    }

    /// Ends the segment before the open middle character, which begins a segment of its own.
    fn split_before_middle(&mut self, words: &mut WordSink) {
        if self.middle_class.take().is_some() {
            self.segment.finish(words);
            self.segment.append(&mut self.middle);
            self.last_class = Class::Other;
        }
    }
}

#[cfg(test)]
mod tests;
