//! Character references: `&eacute;`, `&#233;`, `&#xe9;`.

use std::{collections::HashMap, sync::LazyLock};

use entities::ENTITIES;

use super::{Sink, after, before};

/// The longest name, with its semicolon: `CounterClockwiseContourIntegral;`.
const NAME_BYTES_MAX: usize = 32;

/// The longest name that needs no semicolon, such as `frac12`.
const BARE_NAME_BYTES_MAX: usize = 6;

/// Every name of the HTML standard, without the ampersand, and what it stands for.
static NAMES: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let names = ENTITIES.iter();
    names.filter_map(|entry| Some((entry.entity.strip_prefix('&')?, entry.characters))).collect()
});

#[derive(Clone, Copy, Debug, Default)]
enum At {
    /// After `&`.
    #[default]
    Start,
    Name,
    /// After `&#`.
    Number,
    /// After `&#x`, or `&#X`.
    Hexadecimal(&'static str),
    Digits {
        radix: u32,
    },
}

/// Reads one reference from behind its ampersand.
#[derive(Default)]
pub(super) struct Reference {
    at: At,
    /// The name so far, as written.
    name: String,
    code: u32,
}

impl Reference {
    /// Begins a reference.
    pub(super) fn start(&mut self) {
        self.at = At::Start;
        self.name.clear();
        self.code = 0;
    }

    /// Reads on and adds what the reference stands for, or its own text if that is nothing.
    /// Returns what follows, or `None` if it is not complete.
    pub(super) fn push<'t>(&mut self, text: &'t str, sink: &mut impl Sink) -> Option<&'t str> {
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            match self.at {
                At::Start if byte == b'#' => {
                    self.at = At::Number;
                    rest = after(rest, 1);
                }
                At::Start if byte.is_ascii_alphanumeric() => self.at = At::Name,
                At::Name => {
                    let space = NAME_BYTES_MAX.saturating_sub(self.name.len());
                    let letters = rest.bytes().take(space).take_while(u8::is_ascii_alphanumeric);
                    let length = letters.count();
                    self.name.push_str(before(rest, length));
                    rest = after(rest, length);
                    let next = rest.as_bytes().first();
                    let is_complete = next.is_some() || self.name.len() >= NAME_BYTES_MAX;
                    if next == Some(&b';') && self.name.len() < NAME_BYTES_MAX {
                        self.name.push(';');
                        rest = after(rest, 1);
                    }
                    if is_complete {
                        self.add_named(sink);
                        return Some(rest);
                    }
                }
                At::Number if matches!(byte, b'x' | b'X') => {
                    self.at = At::Hexadecimal(if byte == b'x' { "&#x" } else { "&#X" });
                    rest = after(rest, 1);
                }
                At::Number if byte.is_ascii_digit() => self.at = At::Digits { radix: 10 },
                At::Hexadecimal(_) if byte.is_ascii_hexdigit() => {
                    self.at = At::Digits { radix: 16 };
                }
                At::Digits { radix } => {
                    if let Some(digit) = char::from(byte).to_digit(radix) {
                        self.code = self.code.saturating_mul(radix).saturating_add(digit);
                        rest = after(rest, 1);
                    } else {
                        self.add_numbered(sink);
                        return Some(after(rest, usize::from(byte == b';')));
                    }
                }
                At::Start | At::Number | At::Hexadecimal(_) => {
                    self.end(sink);
                    return Some(rest);
                }
            }
        }
        None
    }

    /// Ends the page within the reference.
    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        match self.at {
            At::Start => sink.text("&"),
            At::Name => self.add_named(sink),
            At::Number => sink.text("&#"),
            At::Hexadecimal(written) => sink.text(written),
            At::Digits { .. } => self.add_numbered(sink),
        }
    }

    /// Adds what the longest known name stands for, and the letters behind it.
    fn add_named(&self, sink: &mut impl Sink) {
        let name = self.name.as_str();
        let bare = (1..=BARE_NAME_BYTES_MAX.min(name.len())).rev();
        let lengths = std::iter::once(name.len()).chain(bare);
        for length in lengths {
            if let Some(characters) = NAMES.get(before(name, length)) {
                sink.text(characters);
                sink.text(after(name, length));
                return;
            }
        }
        sink.text("&");
        sink.text(name);
    }

    fn add_numbered(&self, sink: &mut impl Sink) {
        let c = character(self.code);
        sink.text(c.encode_utf8(&mut [0; 4]));
    }
}

/// Returns the character with a number; what is none becomes U+FFFD, and the numbers of C1 controls
/// mean windows-1252.
fn character(code: u32) -> char {
    const C1: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    let c1 = code.checked_sub(0x80).and_then(|index| C1.get(usize::try_from(index).ok()?));
    match (code, c1) {
        (0, _) => char::REPLACEMENT_CHARACTER,
        (_, Some(c)) => *c,
        _ => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_long_as_expected() {
        assert_eq!(NAMES.len(), 2231);
        let bare = NAMES.keys().filter(|name| !name.ends_with(';'));
        assert_eq!(bare.map(|name| name.len()).max(), Some(BARE_NAME_BYTES_MAX));
        assert_eq!(NAMES.keys().map(|name| name.len()).max(), Some(NAME_BYTES_MAX));
    }

    #[test]
    fn numbers_stand_for_characters() {
        for (code, c) in [
            (0, '\u{fffd}'),
            (0x41, 'A'),
            (0x80, '€'),
            (0x9f, 'Ÿ'),
            (0xa0, '\u{a0}'),
            (0xd800, '\u{fffd}'),
            (0xdfff, '\u{fffd}'),
            (0x10_ffff, '\u{10ffff}'),
            (0x11_0000, '\u{fffd}'),
            (u32::MAX, '\u{fffd}'),
        ] {
            assert_eq!(character(code), c, "{code:x}");
        }
    }
}
