//! Unicode word boundaries (UAX #29), one stretch of like characters at a time.
//!
//! The rules look at most one segment ahead, so that text may arrive in any pieces and a segment
//! of any length needs the same memory. Runs of scripts with a dictionary go to [`Run`].

use super::{
    class::{Class, Kind, Kinds},
    dictionary::{Run, Writing},
    words::{WORD_BYTES_MAX, Words},
};

/// Like characters are taken together up to about this length.
const STRETCH_BYTES_MAX: usize = 1024;

/// Like characters that stand together, where the rules treat them as one; else one character.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'t> {
    pub(super) text: &'t str,
    /// How many characters it has.
    pub(super) characters: u64,
    /// What each of them is.
    pub(super) kind: Kind,
}

impl<'t> Stretch<'t> {
    /// Takes the first stretch of `text`, which is not empty.
    #[inline]
    pub(super) fn first(text: &'t str, kinds: Kinds) -> Self {
        let mut rest = text.chars();
        let kind = kinds.of(rest.next().unwrap_or_default());
        let mut characters = 1_u64;
        let mut end = text.len().saturating_sub(rest.as_str().len());
        if kind.stretches() {
            while let Some(c) = rest.next() {
                if kinds.of(c) != kind || end >= STRETCH_BYTES_MAX {
                    break;
                }
                characters = characters.saturating_add(1);
                end = text.len().saturating_sub(rest.as_str().len());
            }
        }
        Self { text: text.get(..end).unwrap_or(text), characters, kind }
    }
}

/// Text between two boundaries: its length, and as much of it as a word may have.
#[derive(Default)]
pub(super) struct Segment {
    pub(super) text: String,
    pub(super) bytes: usize,
    /// Characters without marks, and Hangul by syllables.
    pub(super) characters: u64,
    pub(super) has_hangul: bool,
    pub(super) is_word: bool,
}

impl Segment {
    pub(super) fn push(&mut self, stretch: &Stretch<'_>) {
        let kind = stretch.kind;
        self.bytes = self.bytes.saturating_add(stretch.text.len());
        if self.bytes <= WORD_BYTES_MAX {
            self.text.push_str(stretch.text);
        }
        if !kind.class.extends() && !kind.is_syllable_tail() {
            self.characters = self.characters.saturating_add(stretch.characters);
        }
        self.has_hangul |= kind.class == Class::Hangul;
        self.is_word |= kind.makes_a_word();
    }

    fn append(&mut self, tail: &mut Self) {
        self.bytes = self.bytes.saturating_add(tail.bytes);
        if self.bytes <= WORD_BYTES_MAX {
            self.text.push_str(&tail.text);
        }
        self.characters = self.characters.saturating_add(tail.characters);
        self.has_hangul |= tail.has_hangul;
        self.is_word |= tail.is_word;
        tail.clear();
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.bytes = 0;
        self.characters = 0;
        self.has_hangul = false;
        self.is_word = false;
    }

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
