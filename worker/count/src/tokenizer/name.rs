//! Names of tags and attributes.

use super::text_before;

/// Maximum length of the stored part of a name, in bytes. All known names are shorter.
const NAME_BYTES_MAX: usize = 256;

/// A name in lower case, truncated to [`NAME_BYTES_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct Name {
    text: String,
    is_truncated: bool,
    pub(super) has_capitals: bool,
}

impl Name {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.is_truncated = false;
        self.has_capitals = false;
    }

    pub(super) fn push(&mut self, text: &str) {
        self.push_part(NamePart { text, has_capitals: true });
    }

    #[inline]
    pub(super) fn push_part(&mut self, part: NamePart<'_>) {
        let start = self.text.len();
        // Almost all names fit.
        if !self.is_truncated && part.text.len() <= NAME_BYTES_MAX.saturating_sub(start) {
            self.text.push_str(part.text);
        } else {
            self.push_truncated(part.text);
        }
        if part.has_capitals
            && let Some(added) = self.text.get_mut(start..)
        {
            self.has_capitals |= added.bytes().any(|byte| byte.is_ascii_uppercase());
            added.make_ascii_lowercase();
        }
    }

    #[cold]
    fn push_truncated(&mut self, text: &str) {
        // A truncated name stays truncated. If one byte is free, `é` does not fit, but an `a` after
        // it would, and the name would depend on the chunks.
        let free_bytes = NAME_BYTES_MAX.saturating_sub(self.text.len());
        let space = if self.is_truncated { 0 } else { free_bytes };
        let length = text.floor_char_boundary(space);
        self.is_truncated |= length < text.len();
        self.text.push_str(text_before(text, length));
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// A name or a part of it, as written.
#[derive(Clone, Copy)]
pub(super) struct NamePart<'t> {
    pub(super) text: &'t str,
    has_capitals: bool,
}

impl<'t> NamePart<'t> {
    /// Returns the text before the first byte of the classes `ends`, which are ASCII.
    #[inline]
    pub(super) fn first(text: &'t str, ends: u8) -> Self {
        let mut length = 0_usize;
        // Union of the classes of all bytes, which shows whether there is a capital letter.
        let mut all = 0;
        for byte in text.bytes() {
            let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(0);
            if class & ends != 0 {
                break;
            }
            all |= class;
            length = length.saturating_add(1);
        }
        Self { text: text_before(text, length), has_capitals: all & CAPITAL != 0 }
    }
}

pub(super) const ENDS_TAG_NAME: u8 = 1;
pub(super) const ENDS_ATTRIBUTE_NAME: u8 = 2;
const CAPITAL: u8 = 4;

/// Classes of bytes in names, as bits.
#[expect(clippy::indexing_slicing, reason = "an index out of bounds does not compile")]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut rest: &[u8] = b"\t\n\x0c\r />";
    while let [byte, tail @ ..] = rest {
        classes[*byte as usize] = ENDS_TAG_NAME;
        rest = tail;
    }
    classes[b'=' as usize] = ENDS_ATTRIBUTE_NAME;
    let mut byte = b'A';
    while byte <= b'Z' {
        classes[byte as usize] = CAPITAL;
        byte += 1;
    }
    classes
};

/// Returns whether a byte is white space in the syntax of HTML.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')
}
