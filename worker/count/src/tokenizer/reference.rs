//! Character references: `&eacute;`, `&#233;`, `&#xe9;`.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use entities::ENTITIES;
use memchr::memchr;

use super::{Content, Sink, Tag, text_after, text_before};

/// Maximum length of a name, with its semicolon: `CounterClockwiseContourIntegral;`.
const NAME_BYTES_MAX: usize = 32;

/// Maximum length of a name that needs no semicolon, for example `frac12`.
const NAME_WITHOUT_SEMICOLON_BYTES_MAX: usize = 6;

/// All names of the HTML standard, without the ampersand, and their characters.
static CHARACTERS_BY_NAME: LazyLock<HashMap<&str, &str>> = LazyLock::new(|| {
    let names = ENTITIES.iter();
    names.filter_map(|entry| Some((entry.entity.strip_prefix('&')?, entry.characters))).collect()
});

#[derive(Clone, Copy, Debug, Default)]
enum ReferenceState {
    /// After `&`.
    #[default]
    Start,
    /// After `&` and a letter or digit.
    Name,
    /// After `&#`.
    Number,
    /// After `&#x` or `&#X`, which is stored to become text if no digit follows.
    Hexadecimal(&'static str),
    Digits {
        radix: u32,
    },
}

/// Reads one character reference, after its ampersand.
#[derive(Default)]
pub(super) struct Reference {
    state: ReferenceState,
    /// The name so far, as written.
    name: String,
    /// The number so far.
    code: u32,
}

impl Reference {
    /// Begins a reference.
    pub(super) fn start(&mut self) {
        self.state = ReferenceState::Start;
        self.name.clear();
        self.code = 0;
    }

    /// Reads the next chunk of the reference. When the reference is complete, adds its characters,
    /// or its text if it is not valid, and returns the text after it. Otherwise returns `None`.
    pub(super) fn push<'t>(&mut self, text: &'t str, sink: &mut impl Sink) -> Option<&'t str> {
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            match self.state {
                ReferenceState::Start if byte == b'#' => {
                    self.state = ReferenceState::Number;
                    rest = text_after(rest, 1);
                }
                ReferenceState::Start if byte.is_ascii_alphanumeric() => {
                    self.state = ReferenceState::Name;
                }
                ReferenceState::Name => {
                    let space = NAME_BYTES_MAX.saturating_sub(self.name.len());
                    let letters = rest.bytes().take(space).take_while(u8::is_ascii_alphanumeric);
                    let length = letters.count();
                    self.name.push_str(text_before(rest, length));
                    rest = text_after(rest, length);
                    let next = rest.as_bytes().first();
                    // A name at the end of the chunk may continue: `&am` and `p;`.
                    let is_complete = next.is_some() || self.name.len() >= NAME_BYTES_MAX;
                    if next == Some(&b';') && self.name.len() < NAME_BYTES_MAX {
                        self.name.push(';');
                        rest = text_after(rest, 1);
                    }
                    if is_complete {
                        self.add_named(sink);
                        return Some(rest);
                    }
                }
                ReferenceState::Number if matches!(byte, b'x' | b'X') => {
                    self.state =
                        ReferenceState::Hexadecimal(if byte == b'x' { "&#x" } else { "&#X" });
                    rest = text_after(rest, 1);
                }
                ReferenceState::Number if byte.is_ascii_digit() => {
                    self.state = ReferenceState::Digits { radix: 10 }
                }
                ReferenceState::Hexadecimal(_) if byte.is_ascii_hexdigit() => {
                    self.state = ReferenceState::Digits { radix: 16 };
                }
                ReferenceState::Digits { radix } => {
                    if let Some(digit) = char::from(byte).to_digit(radix) {
                        // Saturate: values above U+10FFFF are invalid anyway.
                        self.code = self.code.saturating_mul(radix).saturating_add(digit);
                        rest = text_after(rest, 1);
                    } else {
                        self.add_numbered(sink);
                        return Some(text_after(rest, usize::from(byte == b';')));
                    }
                }
                ReferenceState::Start | ReferenceState::Number | ReferenceState::Hexadecimal(_) => {
                    self.end(sink);
                    return Some(rest);
                }
            }
        }
        None
    }

    /// Ends the page inside the reference.
    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        match self.state {
            ReferenceState::Start => sink.add_text("&"),
            ReferenceState::Name => self.add_named(sink),
            ReferenceState::Number => sink.add_text("&#"),
            ReferenceState::Hexadecimal(prefix) => sink.add_text(prefix),
            ReferenceState::Digits { .. } => self.add_numbered(sink),
        }
    }

    /// Adds the characters of the longest known name, and the letters after it: `&notit;` becomes
    /// `¬it;`.
    fn add_named(&self, sink: &mut impl Sink) {
        let name = self.name.as_str();
        // Try the whole name, then the prefixes that may lack a semicolon, from long to short.
        let prefixes = (1..=NAME_WITHOUT_SEMICOLON_BYTES_MAX.min(name.len())).rev();
        let lengths = std::iter::once(name.len()).chain(prefixes);
        for length in lengths {
            if let Some(characters) = CHARACTERS_BY_NAME.get(text_before(name, length)) {
                sink.add_text(characters);
                sink.add_text(text_after(name, length));
                return;
            }
        }
        sink.add_text("&");
        sink.add_text(name);
    }

    fn add_numbered(&self, sink: &mut impl Sink) {
        let c = decode_code_point(self.code);
        sink.add_text(c.encode_utf8(&mut [0; 4]));
    }
}

/// Resolves the character references of an attribute value.
///
/// A name without a semicolon is text if a letter, a digit or `=` follows it, as in
/// `href="?a=b&copy=1"`.
pub(crate) fn resolve_in_attribute(value: &str) -> Cow<'_, str> {
    if memchr(b'&', value.as_bytes()).is_none() {
        return Cow::Borrowed(value);
    }
    let mut resolved = ResolvedText(String::with_capacity(value.len()));
    let mut rest = value;
    while let Some(start) = memchr(b'&', rest.as_bytes()) {
        resolved.add_text(text_before(rest, start));
        rest = text_after(rest, start.saturating_add(1));
        if is_text_in_attribute(rest) {
            resolved.add_text("&");
            continue;
        }
        let mut reference = Reference::default();
        rest = reference.push(rest, &mut resolved).unwrap_or_else(|| {
            reference.end(&mut resolved);
            ""
        });
    }
    resolved.add_text(rest);
    Cow::Owned(resolved.0)
}

/// Returns whether the ampersand before `rest` is text in an attribute value.
fn is_text_in_attribute(rest: &str) -> bool {
    let length = rest.bytes().take(NAME_BYTES_MAX).take_while(u8::is_ascii_alphanumeric).count();
    if length == 0 {
        return false;
    }
    let is_known = |length| CHARACTERS_BY_NAME.contains_key(text_before(rest, length));
    match rest.as_bytes().get(length) {
        Some(b';') => !is_known(length.saturating_add(1)),
        Some(b'=') => true,
        _ => !is_known(length),
    }
}

/// Text of an attribute value with its references resolved.
struct ResolvedText(String);

impl Sink for ResolvedText {
    fn add_text(&mut self, text: &str) {
        self.0.push_str(text);
    }

    // An attribute value contains no tags.
    fn start_tag(&mut self, _: &Tag) -> Content {
        Content::Markup
    }

    fn end_tag(&mut self, _: &Tag) {}

    fn has_cdata(&self) -> bool {
        false
    }
}

/// Returns the character for a code point. Invalid code points become U+FFFD. C1 controls are
/// decoded as windows-1252: `&#128;` is `€`.
fn decode_code_point(code: u32) -> char {
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
    fn entity_name_lengths_match_the_constants() {
        assert_eq!(CHARACTERS_BY_NAME.len(), 2231);
        let without_semicolon = CHARACTERS_BY_NAME.keys().filter(|name| !name.ends_with(';'));
        assert_eq!(
            without_semicolon.map(|name| name.len()).max(),
            Some(NAME_WITHOUT_SEMICOLON_BYTES_MAX)
        );
        assert_eq!(CHARACTERS_BY_NAME.keys().map(|name| name.len()).max(), Some(NAME_BYTES_MAX));
    }

    #[test]
    fn references_in_attributes_are_resolved() {
        for (value, resolved) in [
            ("display:none", "display:none"),
            ("display&#58;none", "display:none"),
            ("display&#x3A;none", "display:none"),
            ("display&colon;none", "display:none"),
            ("&quot;&#39;&amp;amp;", "\"'&amp;"),
            ("?a=b&copy=1&copy;&copy &copyx &amp", "?a=b&copy=1©© &copyx &"),
            ("&notit; &notin; &no &", "&notit; ∉ &no &"),
            ("&#", "&#"),
            ("é&eacute;", "éé"),
        ] {
            assert_eq!(resolve_in_attribute(value), resolved, "{value}");
        }
    }

    #[test]
    fn numeric_references_are_decoded() {
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
            assert_eq!(decode_code_point(code), c, "{code:x}");
        }
    }
}
