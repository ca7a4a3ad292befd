//! Explanations why two rules count differently: `wordmill explain` and `count --explain`.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

use crate::arguments::{ExplainArguments, Format};
use crate::error::Error;
use crate::json;
use crate::request::Request;
use crate::session::Session;
use crate::table::{Alignment, Table};
use crate::text::{number, replace_control_chars, size};

/// Maximum number of tokens in a table.
const TABLE_TOKENS: usize = 20;
/// Characters of context on each side of a token.
const CONTEXT_CHARS: usize = 16;

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
    let mut out = session.out(&arguments.print)?;
    let request = Request::get(&["v1", "jobs", &arguments.id, "explain"]);
    let answer = session.client.send(&request.query("rules", arguments.rules)).await?;
    let explanation: Value = answer.json()?;
    match arguments.print.format {
        Format::Table => out.text(&table(&explanation))?,
        Format::Json | Format::Csv => out.text(&json::pretty(&explanation)?)?,
    }
    out.finish()
}

/// Formats an explanation as a table, or as JSON if it does not have the expected fields.
pub(crate) fn table(explanation: &Value) -> String {
    let Ok(read) = Explanation::deserialize(explanation) else {
        return format!("{}\n", replace_control_chars(&explanation.to_string()));
    };
    let [left, right] = read.rules.as_slice() else {
        return format!("{}\n", replace_control_chars(&explanation.to_string()));
    };
    let total = |rule: &String| number(read.totals.get(rule).copied().unwrap_or_default());
    let mut text = format!(
        "{} {}, {} {}\n",
        replace_control_chars(left),
        total(left),
        replace_control_chars(right),
        total(right)
    );
    if read.tokens.is_empty() {
        text += "Both rules count the same.\n";
    }
    let titles = [left.as_str(), right, "count", "reason", "context"];
    let sides =
        [Alignment::Right, Alignment::Right, Alignment::Right, Alignment::Left, Alignment::Left];
    let columns: Vec<(&str, Alignment)> = titles.into_iter().zip(sides).collect();
    let mut table = Table::new(&columns);
    for token in read.tokens.iter().take(TABLE_TOKENS) {
        let words = |rule: &String| {
            let words = token.words.get(rule).copied().unwrap_or_default();
            let text = format!("{words:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        let around = token.samples.first().map(|sample| {
            let skipped = sample.before.chars().count().saturating_sub(CONTEXT_CHARS);
            let before: String = sample.before.chars().skip(skipped).collect();
            let after: String = sample.after.chars().take(CONTEXT_CHARS).collect();
            format!("{before}[{}]{after}", token.token)
        });
        table.row([
            words(left),
            words(right),
            number(token.count),
            token.reason.replace('_', " "),
            around.unwrap_or_else(|| token.token.clone()),
        ]);
    }
    if !read.tokens.is_empty() {
        text += &table.render();
    }
    if read.tokens.len() > TABLE_TOKENS {
        text +=
            &format!("and {} more; --format json shows all\n", read.tokens.len() - TABLE_TOKENS);
    }
    for (kind, bytes) in &read.dropped_bytes {
        text +=
            &format!("left out of the page: {}, {}\n", replace_control_chars(kind), size(*bytes));
    }
    text
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
            "dropped_bytes": {"script": 1200},
        });
        let expected = "\
unicode 3, whitespace 1,234
unicode  whitespace  count  reason                  context
      1         0.5      2  written without spaces   at all, a long [図書館] b
left out of the page: script, 1.2 kB
";
        assert_eq!(table(&explanation), expected);
        let same = json!({"rules": ["a", "b"], "totals": {"a": 1, "b": 1}});
        assert_eq!(table(&same), "a 1, b 1\nBoth rules count the same.\n");
        assert_eq!(table(&json!([])), "[]\n");
    }
}
