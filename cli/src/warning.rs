//! Warnings of jobs: reasons to check a count before relying on it.

use serde::{Deserialize, Serialize};

use crate::arguments::Format;
use crate::session::Session;
use crate::text::{format_number, pluralize};

/// Maximum number of warnings of merged sources, as in the API.
const WARNINGS_MAX: usize = 32;

/// Warning of a job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Warning {
    code: String,
    count: u64,
    #[serde(rename = "where")]
    location: Option<String>,
}

/// Prints the warnings of a source or job on standard error, one line each. Prints nothing if the
/// output is JSON, because that contains them.
pub(crate) fn print(session: &Session, format: Format, name: Option<&str>, warnings: &[Warning]) {
    if format == Format::Json {
        return;
    }
    for warning in warnings {
        let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
        session.print_message(&format!("{name}warning: {}: {}", warning.code, describe(warning)));
    }
}

/// Adds the warnings of another source: the counts of the same code, and the first location.
pub(crate) fn merge(sum: &mut Vec<Warning>, more: &[Warning]) {
    for warning in more {
        if let Some(same) = sum.iter_mut().find(|same| same.code == warning.code) {
            same.count = same.count.saturating_add(warning.count);
            same.location = same.location.take().or_else(|| warning.location.clone());
        } else if sum.len() < WARNINGS_MAX {
            sum.push(warning.clone());
        }
    }
}

/// Describes a warning in words.
fn describe(warning: &Warning) -> String {
    let Warning { code, count, location } = warning;
    let is_single = *count == 1;
    let number = |noun| pluralize(usize::try_from(*count).unwrap_or(usize::MAX), noun);
    let text = match code.as_str() {
        "no_text_found" => match location.as_deref() {
            _ if !is_single => format!("{} have no words", number("document")),
            Some("main") => return "the main content has no words".to_owned(),
            Some("options") => return "the options exclude all words".to_owned(),
            _ => "no words were found".to_owned(),
        },
        "script_only_page" => {
            let scripts = number("script");
            format!("the page has hardly any words, but {scripts}; JavaScript is not run")
        }
        "hidden_text_present" => {
            let characters = format_number(*count);
            format!("{characters} characters of hidden text, without spaces, were not counted")
        }
        "unclosed_hidden_element" => {
            let elements = number("hidden element");
            format!("{elements} without an end tag, so their text was not counted")
        }
        "charset_guessed" if is_single => "the charset was guessed".to_owned(),
        "charset_guessed" => format!("the charset of {} was guessed", number("document")),
        "charset_contradicted" => {
            let contradictions = number("contradiction");
            format!("the charset may be wrong: {contradictions} in the document")
        }
        "nesting_too_deep" => format!("{} nested too deeply", number("element")),
        "mixed_versions" => {
            format!("{} counted by an older version than the others", number("member"))
        }
        _ => number("occurrence"),
    };
    match location {
        Some(location) => format!("{text} ({location})"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(code: &str, count: u64, location: Option<&str>) -> Warning {
        Warning { code: code.to_owned(), count, location: location.map(str::to_owned) }
    }

    #[test]
    fn every_documented_code_has_a_description() {
        let page = include_str!("../../docs/errors.md");
        let (_, warnings) = page.split_once("\n## Warnings\n").unwrap();
        let headings =
            warnings.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
        let codes: Vec<_> = headings.collect();
        assert!(codes.len() >= 8, "{codes:?}");
        for code in codes {
            let text = describe(&warning(code, 1, None));
            assert!(!text.contains("occurrence"), "{code}: {text}");
        }
    }

    #[test]
    fn descriptions_have_the_count_and_the_location() {
        for (code, count, location, expected) in [
            ("no_text_found", 1, None, "no words were found"),
            ("no_text_found", 1, Some("main"), "the main content has no words"),
            ("no_text_found", 1, Some("options"), "the options exclude all words"),
            ("no_text_found", 2, Some("main"), "2 documents have no words (main)"),
            ("charset_guessed", 1, Some("koi8-r"), "the charset was guessed (koi8-r)"),
            ("font_missing", 3, Some("page 2"), "3 occurrences (page 2)"),
        ] {
            assert_eq!(describe(&warning(code, count, location)), expected);
        }
    }

    #[test]
    fn warnings_of_several_sources_are_merged_by_code() {
        let mut sum = vec![warning("charset_guessed", 1, None)];
        let more = [warning("no_text_found", 1, None), warning("charset_guessed", 2, Some("gbk"))];
        merge(&mut sum, &more);
        let expected =
            [warning("charset_guessed", 3, Some("gbk")), warning("no_text_found", 1, None)];
        assert_eq!(sum, expected);
    }
}
