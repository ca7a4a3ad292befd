//! Units of text that the rules count: stretches of similar characters, and segments between two
//! word boundaries.

use super::char_class::{CharProperties, CharTable, Class};

/// Maximum length of a listed word, in bytes of UTF-8. Longer words are counted but not listed.
pub(super) const WORD_BYTES_MAX: usize = 256;

/// Length at which a stretch ends, in bytes.
const STRETCH_BYTES_MAX: usize = 1024;

/// Adjacent characters of equal properties that the rules treat like one character, or a single
/// character.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'t> {
    pub(super) text: &'t str,
    /// Number of characters.
    pub(super) characters: u64,
    /// Properties of each character.
    pub(super) properties: CharProperties,
}

impl<'t> Stretch<'t> {
    /// Returns the first stretch of `text`, which must not be empty.
    #[inline]
    pub(super) fn first(text: &'t str, char_table: CharTable) -> Self {
        let mut rest = text.chars();
        let properties = char_table.of(rest.next().unwrap_or_default());
        let mut characters = 1_u64;
        let mut end = text.len().saturating_sub(rest.as_str().len());
        if properties.can_stretch() {
            while let Some(c) = rest.next() {
                if char_table.of(c) != properties || end >= STRETCH_BYTES_MAX {
                    break;
                }
                characters = characters.saturating_add(1);
                end = text.len().saturating_sub(rest.as_str().len());
            }
        }
        Self { text: text.get(..end).unwrap_or(text), characters, properties }
    }
}

/// Text between two word boundaries.
#[derive(Default)]
pub(super) struct Segment {
    /// Start of the text. Incomplete if `bytes` exceeds [`WORD_BYTES_MAX`].
    pub(super) text: String,
    /// Length of the complete text.
    pub(super) bytes: usize,
    /// Number of characters except marks. A Hangul syllable is counted once, even if it is
    /// decomposed.
    pub(super) characters: u64,
    pub(super) has_hangul: bool,
    /// Whether the segment contains a letter or digit.
    pub(super) is_word: bool,
}

impl Segment {
    pub(super) fn push(&mut self, stretch: &Stretch<'_>) {
        let properties = stretch.properties;
        self.bytes = self.bytes.saturating_add(stretch.text.len());
        if self.bytes <= WORD_BYTES_MAX {
            self.text.push_str(stretch.text);
        }
        if !properties.class.is_extending() && !properties.is_syllable_tail() {
            self.characters = self.characters.saturating_add(stretch.characters);
        }
        self.has_hangul |= properties.class == Class::Hangul;
        self.is_word |= properties.is_word_character();
    }

    /// Moves the content of `tail` to the end of this segment.
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
