//! Finds the word boundaries of Unicode (UAX #29), one stretch of similar characters at a time.
//!
//! The rules look ahead only past one character and its marks ([`Segmenter::middle`]). Text may
//! therefore arrive in chunks of any size, and a segment of any length takes constant memory. Runs
//! of scripts with a dictionary go to [`DictionaryRun`].

use super::{
    char_class::{Class, WritingSystem},
    dictionary::DictionaryRun,
    stretch::{Segment, Stretch},
    word_sink::WordSink,
};

impl Segment {
    /// Adds the segment to `words` unless it is empty, and clears it.
    fn finish(&mut self, words: &mut WordSink) {
        if self.bytes > 0 {
            words.add_segment(self);
            self.clear();
        }
    }
}

/// Splits text into segments and passes them to a [`WordSink`].
pub(super) struct Segmenter {
    /// The open segment.
    segment: Segment,
    /// Class of the last character of the segment, except marks. [`Class::Newline`] if the segment
    /// is empty.
    last_class: Class,
    /// A character that may be inside a word, with its marks, until the next character decides: the
    /// quote in `don't` is part of the word, the one in `dogs' ` is not.
    middle: Segment,
    /// Class of that character; `None` without one.
    middle_class: Option<Class>,
    /// Whether the last character is a zero width joiner.
    is_after_joiner: bool,
    run: DictionaryRun,
    /// Writing system of the open run; `None` outside of runs.
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
        let class = stretch.properties.class;
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

    /// Ends the text, or a part of it. No word continues in the following text.
    pub(super) fn separate(&mut self, words: &mut WordSink) {
        self.end_segment(words);
        words.separate();
    }

    /// Ends the open segment. The next one follows immediately, so a hyphen can still join words.
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
        let class = stretch.properties.class;
        // A mark belongs to the character before it (WB4), except at the start and after a newline
        // (WB3a).
        if class.is_extending() && self.last_class != Class::Newline {
            let target = match self.middle_class {
                Some(_) => &mut self.middle,
                None => &mut self.segment,
            };
            target.push(stretch);
            return;
        }
        // This character decides whether there is a boundary before the open middle character.
        if let Some(middle) = self.middle_class {
            if self.last_class.allows_middle(middle, class) {
                self.segment.append(&mut self.middle);
                self.middle_class = None;
                self.segment.push(stretch);
                self.last_class = class;
                return;
            }
            self.split_before_middle(words);
        }
        // No boundary between a joiner and a pictograph (WB3c).
        let is_joined_pictograph = self.is_after_joiner && stretch.properties.is_pictograph();
        if self.last_class.joins(class) || is_joined_pictograph {
            self.segment.push(stretch);
            self.last_class = match (self.last_class, class) {
                (Class::HebrewLetter, Class::SingleQuote) => Class::HebrewQuote,
                // A flag consists of two regional indicators, so a third one begins another flag
                // (WB15, WB16).
                (_, Class::Regional) => Class::Other,
                (_, class) => class,
            };
        } else if self.last_class.can_join(class) {
            // The next character decides.
            self.middle.push(stretch);
            self.middle_class = Some(class);
        } else {
            self.segment.finish(words);
            self.segment.push(stretch);
            self.last_class = class;
        }
    }

    /// Ends the segment before the open middle character, which begins the next segment.
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
