//! CSV output, in the same format as the service: `gateway/src/read/csv.rs` explains the rule.

/// Characters that begin a formula, full-width and small forms included.
const FORMULA_CHARS: [char; 12] =
    ['=', '+', '-', '@', '＝', '＋', '－', '＠', '﹦', '﹢', '﹣', '﹫'];
/// Characters at which some spreadsheet starts a new cell.
const SEPARATORS: [char; 5] = [',', ';', '\t', '\r', '\n'];

/// Formats one row.
pub(crate) fn line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let fields: Vec<String> = fields.into_iter().map(quote_field).collect();
    format!("{}\r\n", fields.join(","))
}

/// Formats text as one field.
fn quote_field(text: &str) -> String {
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

    #[test]
    fn fields_are_quoted_and_formulas_are_escaped() {
        for (text, expected) in [
            ("a.txt", "a.txt"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("a;b", "\"a;b\""),
            ("a\tb", "\"a\tb\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            (" pad", "\" pad\""),
            ("日本", "日本"),
            ("-", "'-"),
            ("=1+1", "'=1+1"),
            ("\u{feff}=1", "'\u{feff}=1"),
            ("x;=1+1", "\"x;'=1+1\""),
            ("x,y\t@a\n-b", "\"x,y\t'@a\n'-b\""),
            ("'=1", "''=1"),
        ] {
            assert_eq!(quote_field(text), expected);
        }
        assert_eq!(line(["a.txt", "a;b", "3"]), "a.txt,\"a;b\",3\r\n");
    }
}
