//! Renders text as HTML.

use serde_json::Value;

/// Escapes text for use in content and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Returns a string member of an object, escaped.
pub(super) fn text(value: &Value, name: &str) -> String {
    escape(value[name].as_str().unwrap_or_default())
}

/// Renders paragraphs, which are separated by empty lines, with code spans in backquotes. If all
/// lines of a paragraph begin with a code span, it is a list, and its line breaks are kept.
pub(super) fn prose(text: &str) -> String {
    let lines = |paragraph: &str| {
        let inline: Vec<String> = paragraph.lines().map(inline).collect();
        let is_list = paragraph.lines().all(|line| line.starts_with('`'));
        inline.join(if is_list { "<br>\n" } else { "\n" })
    };
    let paragraphs = text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>\n", lines(paragraph))).collect()
}

fn inline(line: &str) -> String {
    let mut out = String::new();
    for (i, part) in line.split('`').enumerate() {
        if i % 2 == 1 {
            out += &format!("<code>{}</code>", escape(part));
        } else {
            out += &escape(part);
        }
    }
    out
}
