//! Text for terminals: control characters, widths, numbers and sizes.

use std::fmt::Write as _;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Replacement for control characters.
const REPLACEMENT: char = '\u{fffd}';
/// Mark of truncated text.
const ELLIPSIS: char = '…';

/// Replaces the characters that a terminal interprets: control characters, line breaks, and
/// overrides of the text direction. Letters of all directions are kept.
pub(crate) fn replace_control_chars(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { REPLACEMENT } else { c }).collect()
}

/// Returns whether a terminal interprets the character instead of showing it.
pub(crate) fn is_control(c: char) -> bool {
    let separates_lines = matches!(c, '\u{2028}' | '\u{2029}');
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || separates_lines || turns
}

/// Returns the width of a text in columns.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// Truncates a text to a number of columns.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut width_so_far = 0;
    for c in text.chars() {
        width_so_far += c.width().unwrap_or(0);
        if width_so_far >= columns {
            break;
        }
        cut.push(c);
    }
    cut.push(ELLIPSIS);
    cut
}

/// Formats a number with commas between thousands.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a size in decimal units, rounded down, for example `1.9 kB`.
pub(crate) fn size(bytes: u64) -> String {
    let mut unit = 1;
    for name in ["B", "kB", "MB", "GB", "TB"] {
        if bytes / unit < 1000 || name == "TB" {
            let tenth = (bytes % unit).saturating_mul(10) / unit;
            let mut text = (bytes / unit).to_string();
            if unit > 1 && bytes / unit < 10 {
                let _ = write!(text, ".{tenth}");
            }
            return format!("{text} {name}");
        }
        unit *= 1000;
    }
    String::new()
}

/// Formats a count with a noun, for example `1 job` or `2 jobs`.
pub(crate) fn pluralize(count: usize, what: &str) -> String {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_shown() {
        for (text, shown) in [
            ("mill", "mill"),
            ("\u{1b}[31mred\u{7}", "\u{fffd}[31mred\u{fffd}"),
            ("\u{9b}31m\u{7f}", "\u{fffd}31m\u{fffd}"),
            ("a\nb\r\tc\0", "a\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}"),
            ("a\u{202e}txt.exe\u{2066}", "a\u{fffd}txt.exe\u{fffd}"),
            ("שלום עולם", "שלום עולם"),
            ("مرحبا\u{200c}", "مرحبا\u{200c}"),
            ("日本語 👩‍👩‍👧", "日本語 👩‍👩‍👧"),
        ] {
            assert_eq!(replace_control_chars(text), shown, "{text:?}");
        }
    }

    #[test]
    fn texts_are_cut_by_columns() {
        for (text, columns, expected) in [
            ("windmill", 8, "windmill"),
            ("windmill", 7, "windmi…"),
            ("図書館", 6, "図書館"),
            ("図書館", 5, "図書…"),
            ("図書館", 4, "図…"),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
        ] {
            assert_eq!(cut(text, columns), expected);
            assert!(width(&cut(text, columns)) <= columns);
        }
    }

    #[test]
    fn numbers_and_sizes_are_easy_to_read() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), text);
        }
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1999, "1.9 kB"),
            (12_345, "12 kB"),
            (3_904_127, "3.9 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(
            (pluralize(1, "job"), pluralize(1000, "job")),
            ("1 job".into(), "1,000 jobs".into())
        );
    }
}
