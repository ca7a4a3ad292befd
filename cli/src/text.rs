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
    let overrides_direction = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || separates_lines || overrides_direction
}

/// Returns the width of text in columns of a terminal.
pub(crate) fn display_width(text: &str) -> usize {
    text.width()
}

/// Truncates text to a number of columns, which includes the ellipsis.
pub(crate) fn truncate(text: &str, columns: usize) -> String {
    if display_width(text) <= columns {
        return text.to_owned();
    }
    let mut truncated = String::new();
    let mut width_so_far = 0;
    for c in text.chars() {
        width_so_far += c.width().unwrap_or(0);
        if width_so_far >= columns {
            break;
        }
        truncated.push(c);
    }
    truncated.push(ELLIPSIS);
    truncated
}

/// Formats a number with commas between thousands.
pub(crate) fn format_number(number: u64) -> String {
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
pub(crate) fn format_size(bytes: u64) -> String {
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
pub(crate) fn pluralize(count: usize, noun: &str) -> String {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    format!("{} {noun}{}", format_number(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        for (text, expected) in [
            ("mill", "mill"),
            ("\u{1b}[31mred\u{7}", "\u{fffd}[31mred\u{fffd}"),
            ("\u{9b}31m\u{7f}", "\u{fffd}31m\u{fffd}"),
            ("a\nb\r\tc\0", "a\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}"),
            ("a\u{202e}txt.exe\u{2066}", "a\u{fffd}txt.exe\u{fffd}"),
            ("שלום עולם", "שלום עולם"),
            ("مرحبا\u{200c}", "مرحبا\u{200c}"),
            ("日本語 👩‍👩‍👧", "日本語 👩‍👩‍👧"),
        ] {
            assert_eq!(replace_control_chars(text), expected, "{text:?}");
        }
    }

    #[test]
    fn texts_are_truncated_by_display_width() {
        for (text, columns, expected) in [
            ("windmill", 8, "windmill"),
            ("windmill", 7, "windmi…"),
            ("図書館", 6, "図書館"),
            ("図書館", 5, "図書…"),
            ("図書館", 4, "図…"),
            ("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}"),
        ] {
            assert_eq!(truncate(text, columns), expected);
            assert!(display_width(&truncate(text, columns)) <= columns);
        }
    }

    #[test]
    fn numbers_sizes_and_counts_are_formatted() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(format_number(n), text);
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
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(
            (pluralize(1, "job"), pluralize(1000, "job")),
            ("1 job".into(), "1,000 jobs".into())
        );
    }
}
