//! Formats fields of CSV tables so that every reader restores the text and no spreadsheet evaluates
//! it.
//!
//! Words come from untrusted documents, and a spreadsheet evaluates a cell that begins with `=`,
//! `+`, `-` or `@` (CSV injection, <https://owasp.org/www-community/attacks/CSV_Injection>). The
//! rule, which `cli/src/csv.rs` follows, too:
//!
//! 1. A field is quoted if it contains a separator of some spreadsheet (`,`, `;` or a tab), a
//!    quotation mark or a line break, or has white space at either end. A reader that splits at `;`
//!    sees such a field as one cell only if it begins there with its quotation mark.
//! 2. An apostrophe precedes each formula: at the start of the field, and after a separator or a
//!    line break within it. Full-width and small forms of the four characters begin a formula, too.
//!    Invisible characters and characters that readers strip are ignored in front of a formula. An
//!    apostrophe also precedes a field that begins with a control character.
//!
//! Some readers split a line before they unquote its cells. Every reader treats a quotation mark
//! inside a cell as text. Example: a reader that splits at `;` sees the cell `=1+1"` in `"x;=1+1"`,
//! so `x;=1+1` is written `"x;'=1+1"`.
//!
//! The rule is reversible: remove one apostrophe at each of these places. For this reason,
//! apostrophes of the text are ignored like invisible characters: `'=1` becomes `''=1`.

/// Characters that begin a formula, full-width and small forms included.
const FORMULA_CHARS: [char; 12] =
    ['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫'];
/// Characters at which some spreadsheet starts a new cell.
const SEPARATORS: [char; 5] = [',', ';', '\t', '\r', '\n'];

/// Formats a text as one field.
pub(crate) fn quote_field(text: &str) -> String {
    let has_separator = text.contains(SEPARATORS);
    let mut guarded = String::with_capacity(text.len() + 2);
    if is_formula(text) || text.trim_start_matches('\'').starts_with(char::is_control) {
        guarded.push('\'');
    }
    if has_separator {
        for cell in text.split_inclusive(SEPARATORS) {
            // The start of the first cell is guarded already.
            if !guarded.is_empty() && guarded.ends_with(SEPARATORS) && is_formula(cell) {
                guarded.push('\'');
            }
            guarded.push_str(cell);
        }
    } else {
        guarded.push_str(text);
    }
    if has_separator || text.contains('"') || text.trim() != text {
        return format!("\"{}\"", guarded.replace('"', "\"\""));
    }
    guarded
}

/// Returns whether a spreadsheet could evaluate a cell with this beginning.
fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches(is_ignored_before_formula).starts_with(FORMULA_CHARS)
}

/// Returns whether a reader may strip or ignore a character in front of a formula: white space,
/// control characters, quotation marks and the `Default_Ignorable_Code_Point`s of Unicode (soft
/// hyphen, zero-width characters, byte order mark, direction marks, variation selectors, tags).
fn is_ignored_before_formula(c: char) -> bool {
    let is_ignorable = matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fff8}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    );
    let is_stripped = c.is_whitespace() || c.is_control() || matches!(c, '"' | '\'');
    !SEPARATORS.contains(&c) && (is_stripped || is_ignorable)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts, and the CSV fields expected for them.
    const FIELDS: [(&str, &str); 27] = [
        ("mill", "mill"),
        ("日本", "日本"),
        ("a,b", "\"a,b\""),
        ("a;b", "\"a;b\""),
        ("a\tb", "\"a\tb\""),
        ("say \"no\"", "\"say \"\"no\"\"\""),
        ("two\nlines", "\"two\nlines\""),
        (" pad", "\" pad\""),
        ("", ""),
        ("it's", "it's"),
        ("a=b-c", "a=b-c"),
        ("=1+1", "'=1+1"),
        ("=cmd,\"x\"", "\"'=cmd,\"\"x\"\"\""),
        ("-5", "'-5"),
        ("@home", "'@home"),
        ("＝1", "'＝1"),
        ("﹢1", "'﹢1"),
        ("\tx", "\"'\tx\""),
        ("\0x", "'\0x"),
        ("x;=1+1", "\"x;'=1+1\""),
        ("x,y\t@a\n-b", "\"x,y\t'@a\n'-b\""),
        ("a; \u{a0}=1", "\"a;' \u{a0}=1\""),
        ("\u{feff}=1", "'\u{feff}=1"),
        ("\u{200b}\u{ad}+1", "'\u{200b}\u{ad}+1"),
        ("\"=1\"", "\"'\"\"=1\"\"\""),
        ("'=1", "''=1"),
        ("\t=1", "\"'\t'=1\""),
    ];

    /// The command does not depend on the crates of the services, so it has a copy of the rule.
    #[test]
    fn the_command_follows_the_same_rule() {
        let rule = |source: &str| {
            let (_, rest) = source.split_once("fn quote_field(").unwrap();
            let (functions, _) = rest.split_once("#[cfg(test)]").unwrap();
            let (_, rest) = source.split_once("const FORMULA_CHARS").unwrap();
            let (characters, _) = rest.split_once("\n\n").unwrap();
            (characters.to_owned(), functions.to_owned())
        };
        assert_eq!(rule(include_str!("csv.rs")), rule(include_str!("../../../cli/src/csv.rs")));
    }

    #[test]
    fn fields_are_quoted_and_formulas_are_escaped() {
        for (text, expected) in FIELDS {
            assert_eq!(quote_field(text), expected);
        }
    }

    /// Unquotes a field as RFC 4180 describes.
    fn unquote(field: &str) -> String {
        let inner = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        inner.map_or_else(|| field.to_owned(), |inner| inner.replace("\"\"", "\""))
    }

    /// Removes the apostrophes, as the module docs describe.
    fn unguard(guarded: &str) -> String {
        let mut text = String::new();
        for (number, cell) in guarded.split_inclusive(SEPARATORS).enumerate() {
            let is_guard = |rest: &str| {
                let begins = rest.trim_start_matches('\'');
                is_formula(rest) || (number == 0 && begins.starts_with(char::is_control))
            };
            let rest = cell.strip_prefix('\'').filter(|rest| is_guard(rest));
            text += rest.unwrap_or(cell);
        }
        text
    }

    #[test]
    fn every_text_is_restored_and_no_cell_begins_with_a_formula() {
        let parts = ["", "=", "-1", "a", ",", ";", "\t", "\n", "\"", "'", " ", "\u{feff}"];
        for first in parts {
            for second in parts {
                for third in parts {
                    for fourth in parts {
                        let text = [first, second, third, fourth].concat();
                        let field = quote_field(&text);
                        assert_eq!(unguard(&unquote(&field)), text, "{field}");
                        for line in [format!("{field},3"), format!("name,{field},3")] {
                            // A reader that splits before it unquotes, at one separator or at all
                            // of them.
                            for separators in [",\r\n", ";\r\n", "\t\r\n", ",;\t\r\n"] {
                                for cell in line.split(|c| separators.contains(c)) {
                                    let shown = cell.trim_matches(|c| " \u{feff}\t\"".contains(c));
                                    assert!(
                                        !shown.starts_with(FORMULA_CHARS),
                                        "{cell} of {line:?}"
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
