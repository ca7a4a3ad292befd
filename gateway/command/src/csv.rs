//! Tables for spreadsheets, as the service writes them.

/// What a spreadsheet takes for the beginning of a formula, full-width forms included.
const FORMULA: [char; 10] = ['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠'];

/// Returns one line.
pub(crate) fn line<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let fields: Vec<String> = fields.into_iter().map(field).collect();
    format!("{}\r\n", fields.join(","))
}

/// Writes one field, so that every reader gets it back and none runs it: what a spreadsheet would take
/// for a formula gets an apostrophe in front, which makes it a text there.
fn field(text: &str) -> String {
    let apostrophe = if text.starts_with(FORMULA) { "'" } else { "" };
    if text.contains([',', '"', '\r', '\n']) || text.trim() != text {
        format!("\"{apostrophe}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{apostrophe}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_and_no_formula_does() {
        let fields = ["a.txt", "", "a,b", "say \"no\"", "two\nlines", "-", "=1+1", " pad", "日本"];
        let expected =
            "a.txt,,\"a,b\",\"say \"\"no\"\"\",\"two\nlines\",'-,'=1+1,\" pad\",日本\r\n";
        assert_eq!(line(fields), expected);
    }
}
