//! Explanations of why two rules count differently: `wordmill explain` and `count --explain`.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::arguments::{ExplainArguments, Format};
use crate::error::Error;
use crate::json;
use crate::request::Request;
use crate::session::Session;
use crate::table::{Alignment, Table};
use crate::text::{format_number, format_size, replace_control_chars};

/// Maximum number of tokens in a table.
const TABLE_TOKENS_MAX: usize = 20;
/// Maximum number of characters of context on each side of a token.
const CONTEXT_CHARS_MAX: usize = 16;

#[derive(Debug, Deserialize)]
struct Explanation {
    rules: Vec<String>,
    totals: BTreeMap<String, u64>,
    #[serde(default)]
    tokens: Vec<Token>,
    #[serde(default)]
    dropped_bytes: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Token {
    token: String,
    count: u64,
    words: BTreeMap<String, f64>,
    reason: String,
    #[serde(default)]
    samples: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    before: String,
    after: String,
}

/// Runs `wordmill explain`.
///
/// # Errors
/// Errors of the request and of the output, and [`Error::Usage`] for CSV.
pub(crate) async fn run(session: &Session, arguments: ExplainArguments) -> Result<(), Error> {
    if arguments.print.format == Format::Csv {
        return Err(Error::Usage(
            "an explanation cannot be printed as CSV; use --format json".to_owned(),
        ));
    }
    let mut out = session.open_output(&arguments.print)?;
    let request = Request::get(&["v1", "jobs", &arguments.id, "explain"]);
    let response = session.client.send(&request.query("rules", arguments.rules)).await?;
    let explanation: Value = response.json()?;
    match arguments.print.format {
        Format::Table => out.text(&format_table(&explanation))?,
        Format::Json | Format::Csv => out.text(&json::pretty(&explanation)?)?,
    }
    out.finish()
}

/// Formats an explanation as a table, or as JSON if it does not have the expected fields.
pub(crate) fn format_table(explanation: &Value) -> String {
    let Ok(parsed) = Explanation::deserialize(explanation) else {
        return format!("{}\n", replace_control_chars(&explanation.to_string()));
    };
    let [left, right] = parsed.rules.as_slice() else {
        return format!("{}\n", replace_control_chars(&explanation.to_string()));
    };
    let total = |rule: &String| format_number(parsed.totals.get(rule).copied().unwrap_or_default());
    let mut text = format!(
        "{} {}, {} {}\n",
        replace_control_chars(left),
        total(left),
        replace_control_chars(right),
        total(right)
    );
    if parsed.tokens.is_empty() {
        text += "Both rules count every token the same way.\n";
    }
    let titles = [left.as_str(), right, "count", "reason", "context"];
    let alignments =
        [Alignment::Right, Alignment::Right, Alignment::Right, Alignment::Left, Alignment::Left];
    let columns: Vec<(&str, Alignment)> = titles.into_iter().zip(alignments).collect();
    let mut table = Table::new(&columns);
    for token in parsed.tokens.iter().take(TABLE_TOKENS_MAX) {
        let words = |rule: &String| {
            let words = token.words.get(rule).copied().unwrap_or_default();
            let text = format!("{words:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let in_context = token.samples.first().map(|sample| {
            let skipped = sample.before.chars().count().saturating_sub(CONTEXT_CHARS_MAX);
            let before: String = sample.before.chars().skip(skipped).collect();
            let after: String = sample.after.chars().take(CONTEXT_CHARS_MAX).collect();
            format!("{before}[{}]{after}", token.token)
        });
        table.row([
            words(left),
            words(right),
            format_number(token.count),
            token.reason.replace('_', " "),
            in_context.unwrap_or_else(|| token.token.clone()),
        ]);
    }
    if !parsed.tokens.is_empty() {
        text += &table.render();
    }
    if parsed.tokens.len() > TABLE_TOKENS_MAX {
        text += &format!(
            "and {} more; --format json shows all\n",
            parsed.tokens.len() - TABLE_TOKENS_MAX
        );
    }
    for (kind, bytes) in &parsed.dropped_bytes {
        text += &format!(
            "Not counted: {} ({})\n",
            replace_control_chars(describe_dropped(kind)),
            format_size(*bytes)
        );
    }
    text
}

/// Describes a kind of text that no rule counts.
fn describe_dropped(kind: &str) -> &str {
    match kind {
        "hidden" => "hidden parts",
        "replaced" => "the title, form fields, and fallback content of media and scripts",
        _ => kind,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_lists_differences_with_reasons() {
        let explanation = json!({
            "rules": ["unicode", "whitespace"],
            "totals": {"unicode": 3, "whitespace": 1234},
            "tokens": [{"token": "図書館", "count": 2, "words": {"unicode": 1.0, "whitespace": 0.5},
                        "reason": "written_without_spaces",
                        "samples": [{"before": "far too long to be shown at all, a long ", "after": " b"}]}],
            "dropped_bytes": {"hidden": 1200},
        });
        let expected = "\
unicode 3, whitespace 1,234
unicode  whitespace  count  reason                  context
      1         0.5      2  written without spaces   at all, a long [図書館] b
Not counted: hidden parts (1.2 kB)
";
        assert_eq!(format_table(&explanation), expected);
        let same = json!({"rules": ["a", "b"], "totals": {"a": 1, "b": 1}});
        assert_eq!(format_table(&same), "a 1, b 1\nBoth rules count every token the same way.\n");
        assert_eq!(format_table(&json!([])), "[]\n");
    }
}
