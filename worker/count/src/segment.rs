//! Unicode word boundaries (UAX #29), one stretch of like characters at a time.
//!
//! The rules look at most one segment ahead, so that text may arrive in any pieces and a segment
//! of any length needs the same memory. Runs of scripts with a dictionary go to [`Run`].

use super::{
    char_class::{Class, Writing},
    dictionary::Run,
    stretch::{Segment, Stretch},
    word_sink::Words,
};

impl Segment {
    fn finish(&mut self, words: &mut Words) {
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
    last: Class,
    /// A character that may be inside a word, and its marks, until it is known what follows.
    middle: Segment,
    middle_class: Option<Class>,
    after_joiner: bool,
    run: Run,
    run_writing: Option<Writing>,
}

impl Segmenter {
    pub(super) fn new() -> Self {
        Self {
            segment: Segment::default(),
            last: Class::Newline,
            middle: Segment::default(),
            middle_class: None,
            after_joiner: false,
            run: Run::new(),
            run_writing: None,
        }
    }

    /// Takes what comes next in the text.
    pub(super) fn push(&mut self, stretch: &Stretch<'_>, words: &mut Words) {
        let class = stretch.kind.class;
        if let Some(writing) = self.run_writing {
            if class.extends() || class.writing() == Some(writing) {
                self.run.push(stretch, writing, words);
                return;
            }
            self.boundary_in_text(words);
        }
        if let Some(writing) = class.writing() {
            self.boundary_in_text(words);
            self.run_writing = Some(writing);
            self.run.push(stretch, writing, words);
            return;
        }
        self.push_unless_dictionary(stretch, words);
        self.after_joiner = class == Class::Joiner;
    }

    /// Ends the text, or separates what comes from what was: no word spans this place.
    pub(super) fn boundary(&mut self, words: &mut Words) {
        self.boundary_in_text(words);
        words.separate();
    }

    /// Ends the open segment; what comes next stands immediately beside it.
    fn boundary_in_text(&mut self, words: &mut Words) {
        if let Some(writing) = self.run_writing.take() {
            self.run.finish(writing, words);
        }
        self.give_up_middle(words);
        self.segment.finish(words);
        self.last = Class::Newline;
        self.after_joiner = false;
    }

    fn push_unless_dictionary(&mut self, stretch: &Stretch<'_>, words: &mut Words) {
        let class = stretch.kind.class;
        if class.extends() && self.last != Class::Newline {
            let open = match self.middle_class {
                Some(_) => &mut self.middle,
                None => &mut self.segment,
            };
            open.push(stretch);
            return;
        }
        if let Some(middle) = self.middle_class {
            if self.last.completes(middle, class) {
                self.segment.append(&mut self.middle);
                self.middle_class = None;
                self.segment.push(stretch);
                self.last = class;
                return;
            }
            self.give_up_middle(words);
        }
        let is_joined_pictograph = self.after_joiner && stretch.kind.is_pictograph();
        if self.last.joins(class) || is_joined_pictograph {
            self.segment.push(stretch);
            self.last = match (self.last, class) {
                (Class::HebrewLetter, Class::SingleQuote) => Class::HebrewQuote,
                // A flag is complete with two.
                (_, Class::Regional) => Class::Other,
                (_, class) => class,
            };
        } else if self.last.may_join(class) {
            self.middle.push(stretch);
            self.middle_class = Some(class);
        } else {
            self.segment.finish(words);
            self.segment.push(stretch);
            self.last = class;
        }
    }

    /// Puts the boundary before the open middle character, which starts a segment of its own.
    fn give_up_middle(&mut self, words: &mut Words) {
        if self.middle_class.take().is_some() {
            self.segment.finish(words);
            self.segment.append(&mut self.middle);
            self.last = Class::Other;
        }
    }
}

#[cfg(test)]
mod tests;
