//! Parts of text that the rules count: stretches of like characters, and segments between two
//! boundaries.

use super::char_class::{Class, Kind, KindTable};

/// The longest word that is listed, in bytes of UTF-8; longer ones are only counted.
pub(super) const WORD_BYTES_MAX: usize = 256;

/// A stretch ends at about this length.
const STRETCH_BYTES_MAX: usize = 1024;

/// Adjacent characters of one kind, if the rules treat them like one character; else one character.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'t> {
    pub(super) text: &'t str,
    /// The number of characters.
    pub(super) characters: u64,
    /// The kind of each of them.
    pub(super) kind: Kind,
}

impl<'t> Stretch<'t> {
    /// Returns the first stretch of `text`, which is not empty.
    #[inline]
    pub(super) fn first(text: &'t str, kinds: KindTable) -> Self {
        let mut rest = text.chars();
        let kind = kinds.of(rest.next().unwrap_or_default());
        let mut characters = 1_u64;
        let mut end = text.len().saturating_sub(rest.as_str().len());
        if kind.can_stretch() {
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

/// Text between two boundaries: its length, and its text up to the longest word.
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
        if !kind.class.is_extending() && !kind.is_syllable_tail() {
            self.characters = self.characters.saturating_add(stretch.characters);
        }
        self.has_hangul |= kind.class == Class::Hangul;
        self.is_word |= kind.is_word_character();
    }

    pub(super) fn append(&mut self, tail: &mut Self) {
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
}
