//! Recognizes UTF-16 without a byte order mark.

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use icu_properties::{CodePointMapData, props::GeneralCategory};
use memchr::memchr;

/// Maximum share of code units that do not occur in text: 1 in this number. Texts for one program
/// may have private characters.
const STRAY_UNITS_RATIO: usize = 100;

/// Minimum share of ASCII characters, 1 code unit in this number, or of bytes that are neither NUL
/// nor printable ASCII characters, 1 byte in [`OTHER_BYTES_RATIO`].
const ASCII_UNITS_RATIO: usize = 4;
const OTHER_BYTES_RATIO: usize = 10;

/// Returns the encoding in which `head` starts with an XML declaration, if that is UTF-16.
///
/// The HTML standard (prescan) and XML 1.0 (appendix F) allow this without a byte order mark.
pub(crate) fn find_declared_utf_16(head: &[u8]) -> Option<&'static Encoding> {
    match head {
        [b'<', 0, b'?', 0, b'x', 0, ..] => Some(UTF_16LE),
        [0, b'<', 0, b'?', 0, b'x', ..] => Some(UTF_16BE),
        _ => None,
    }
}

/// Returns the encoding of a document that starts with `head`, if its bytes are clearly UTF-16.
///
/// Its code units have to be characters of text, and some have to be ASCII, for example spaces:
/// these have the bytes with NUL that no other charset has. Two conditions exclude other data:
///
/// - Numbers of 16 bits, such as samples of sound, have values that are control characters, private
///   or unassigned.
/// - Text in another charset with a stray NUL has pairs of letters that look like Han, for example
///   `th` like U+6874. But it has few NUL bytes, and most other bytes are ASCII.
pub(crate) fn detect_utf_16(head: &[u8]) -> Option<&'static Encoding> {
    memchr(0, head)?;
    let little = count_ascii_units(head, u16::from_le_bytes).unwrap_or_default();
    let big = count_ascii_units(head, u16::from_be_bytes).unwrap_or_default();
    // With swapped bytes, most ASCII text is valid, too: as Han, without any ASCII.
    let (ascii_units, encoding) = if little > big { (little, UTF_16LE) } else { (big, UTF_16BE) };
    let units = head.len() / 2;
    let is_other = |byte: &&u8| !matches!(byte, 0 | b'\t' | b'\n' | b'\r' | b' '..=b'~');
    let other_bytes = head.iter().filter(is_other).count();
    let is_clear = ascii_units.saturating_mul(ASCII_UNITS_RATIO) >= units
        || other_bytes.saturating_mul(OTHER_BYTES_RATIO) >= head.len();
    (ascii_units > 0 && is_clear).then_some(encoding)
}

/// Counts the ASCII characters in UTF-16, or returns `None` if too many code units do not occur in
/// text. A last half of a code unit is ignored.
fn count_ascii_units(head: &[u8], parse: fn([u8; 2]) -> u16) -> Option<usize> {
    let (pairs, _) = head.as_chunks::<2>();
    let strays_max = pairs.len() / STRAY_UNITS_RATIO;
    let mut strays: usize = 0;
    let mut ascii_units: usize = 0;
    for c in char::decode_utf16(pairs.iter().map(|pair| parse(*pair))) {
        match c {
            Ok(c) if is_text(c) => {
                ascii_units = ascii_units.saturating_add(usize::from(c.is_ascii()));
            }
            _ if strays < strays_max => strays = strays.saturating_add(1),
            _ => return None,
        }
    }
    Some(ascii_units)
}

/// Returns whether a character occurs in text.
fn is_text(c: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let is_rare = matches!(category, GeneralCategory::Unassigned | GeneralCategory::PrivateUse);
    !is_rare && (!c.is_control() || matches!(c, '\t' | '\n' | '\x0c' | '\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a text in UTF-16 with the given order of bytes.
    fn encode(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(order).collect()
    }

    #[test]
    fn text_of_any_script_is_recognized_in_both_orders() {
        for text in [
            "The mill turns by the river all day",
            "Мельница стоит у реки.\n",
            "水車は川のそばにあります。\r\nパンを焼きます。\r\n",
            "水车在河边。 面包很好。\n",
            "물레방아는 강가에 있다",
            "הטחנה ליד הנהר",
            "โรงสี อยู่ริมแม่น้ำ",
            "चक्की नदी के किनारे",
            "Ψωμί 🍞 και μύλος",
        ] {
            assert_eq!(detect_utf_16(&encode(text, u16::to_le_bytes)), Some(UTF_16LE), "{text}");
            assert_eq!(detect_utf_16(&encode(text, u16::to_be_bytes)), Some(UTF_16BE), "{text}");
        }
    }

    #[test]
    fn a_few_private_characters_do_not_matter() {
        let text = format!("{}\u{e000}", "The mill. ".repeat(20));
        assert_eq!(detect_utf_16(&encode(&text, u16::to_le_bytes)), Some(UTF_16LE));
    }

    #[test]
    fn text_in_another_charset_with_a_stray_nul_is_not_utf_16() {
        for text in [
            "a\0b and quite some text after it, more than fifty bytes".as_bytes(),
            b"stray \0\x0b",
            b"the mill by the river\0bakes fresh bread in the morning",
            b"caf\xe9 \0glise d\xe9j\xe0 pr\xe8s de la rivi\xe8re",
            "Мельница\0стоит у реки".as_bytes(),
            "水車は川の\0そばに".as_bytes(),
            b"",
            b"\0",
        ] {
            assert_eq!(detect_utf_16(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn numbers_are_not_utf_16() {
        let counters: Vec<u8> = (0..500_u16).flat_map(u16::to_le_bytes).collect();
        let wide: Vec<u8> = (0..200_u32).flat_map(|n| (n * 7919).to_le_bytes()).collect();
        let utf_32: Vec<u8> = "The mill".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        let sound: Vec<u8> = (0..500_i32)
            .map(|n| i16::try_from((n * n * 31) % 20_000 - 10_000).unwrap())
            .flat_map(i16::to_le_bytes)
            .collect();
        for (name, bytes) in
            [("counters", counters), ("wide", wide), ("UTF-32", utf_32), ("sound", sound)]
        {
            assert_eq!(detect_utf_16(&bytes), None, "{name}");
        }
    }

    #[test]
    fn only_an_xml_declaration_declares_utf_16() {
        for (text, is_declared) in
            [("<?xml version='1.0'?>", true), ("<?php", false), ("<html>", false), ("<?", false)]
        {
            let little = find_declared_utf_16(&encode(text, u16::to_le_bytes));
            let big = find_declared_utf_16(&encode(text, u16::to_be_bytes));
            assert_eq!(little, is_declared.then_some(UTF_16LE), "{text}");
            assert_eq!(big, is_declared.then_some(UTF_16BE), "{text}");
        }
    }
}
