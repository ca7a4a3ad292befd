//! Parses the query parameters of a submission, for example
//! `?rule=office&label=book:2600&lane=bulk`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::form_urlencoded;
use wordmill_common::id::Lane;
use wordmill_common::options::Options;

use crate::http::problem::{Code, Problem};
use crate::intake::new_job;

/// Options with lists of strings as values.
const LIST_OPTIONS: [&str; 1] = ["stop_words"];
/// Options with numbers as values.
const NUMERIC_OPTIONS: [&str; 2] = ["min_len", "top"];
/// Options with booleans as values.
const BOOLEAN_OPTIONS: [&str; 1] = ["explain"];

/// Parsed query of a submission.
#[derive(Debug)]
pub(crate) struct SubmitQuery {
    pub(crate) options: Options,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) lane: Option<Lane>,
    /// URL of the webhook, not validated yet.
    pub(crate) webhook: Option<String>,
}

/// Parses a query with `lane`, `webhook` and any number of `label=name:value`. Any other parameter
/// is an option. A list option is repeated for each member, for example
/// `stop_words=the&stop_words=a`.
///
/// # Errors
/// `invalid_query`, `invalid_label` and `invalid_option`.
pub(crate) fn parse_submit_query(query: &str) -> Result<SubmitQuery, Problem> {
    let mut options = Map::new();
    let mut labels = BTreeMap::new();
    let mut lane = None;
    let mut webhook = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "label" => {
                let Some((label, value)) = value.split_once(':') else {
                    let detail = "A label must have the form label=name:value.";
                    return Err(Problem::new(Code::InvalidLabel, detail));
                };
                if labels.insert(label.to_owned(), value.to_owned()).is_some() {
                    return Err(Problem::new(
                        Code::InvalidLabel,
                        "A label occurs twice in the query.",
                    ));
                }
            }
            "lane" => {
                let named: Lane = value.parse().map_err(|error| {
                    Problem::new(
                        Code::InvalidQuery,
                        format!("The parameter \"lane\" is not valid: {error}."),
                    )
                })?;
                if lane.replace(named).is_some() {
                    return Err(Problem::new(
                        Code::InvalidQuery,
                        "The parameter \"lane\" occurs twice.",
                    ));
                }
            }
            "webhook" => {
                if webhook.replace(value.into_owned()).is_some() {
                    return Err(Problem::new(
                        Code::InvalidQuery,
                        "The parameter \"webhook\" occurs twice.",
                    ));
                }
            }
            _ => add_option(&mut options, name.into_owned(), &value)?,
        }
    }
    // Validated by the same functions as a JSON body.
    let options = (!options.is_empty()).then_some(Value::Object(options));
    Ok(SubmitQuery {
        options: new_job::parse_options(options)?,
        labels: new_job::check_labels(labels)?,
        lane,
        webhook,
    })
}

/// Adds an option with its JSON type. A value that cannot be converted to a number or a boolean
/// remains a string, which the validation of the options refuses.
fn add_option(options: &mut Map<String, Value>, name: String, text: &str) -> Result<(), Problem> {
    if LIST_OPTIONS.contains(&name.as_str()) {
        let list = options.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = list {
            values.push(text.into());
        }
        return Ok(());
    }
    let number = || text.parse::<u64>().ok().filter(|_| NUMERIC_OPTIONS.contains(&name.as_str()));
    let flag = || text.parse::<bool>().ok().filter(|_| BOOLEAN_OPTIONS.contains(&name.as_str()));
    let value = number().map(Value::from).or_else(|| flag().map(Value::from));
    let value = value.unwrap_or_else(|| text.into());
    match options.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(Problem::new(Code::InvalidOption, "An option occurs twice in the query.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_and_json_describe_the_same_job() {
        let query =
            parse_submit_query("rule=unicode&label=book:2600&label=from:a%3Ab&lane=bulk").unwrap();
        assert_eq!((query.options, query.lane), (Options::default(), Some(Lane::Bulk)));
        assert_eq!(query.labels["book"], "2600");
        assert_eq!(query.labels["from"], "a:b");
        let nothing = parse_submit_query("").unwrap();
        assert_eq!((nothing.lane, nothing.labels.len()), (None, 0));
    }

    #[test]
    fn unknown_parameters_are_refused() {
        for (query, code) in [
            ("rule=none", "invalid_option"),
            ("ruel=unicode", "invalid_option"),
            ("rule=unicode&rule=unicode", "invalid_option"),
            ("label=a", "invalid_label"),
            ("label=a:1&label=a:2", "invalid_label"),
            ("label=%20:1", "invalid_label"),
            ("lane=fast", "invalid_query"),
            ("lane=bulk&lane=bulk", "invalid_query"),
            ("webhook=a&webhook=b", "invalid_query"),
        ] {
            assert_eq!(parse_submit_query(query).unwrap_err().code_name(), code, "{query}");
        }
    }

    #[test]
    fn options_have_the_types_of_json() {
        let mut options = Map::new();
        for (name, text) in [
            ("top", "3"),
            ("explain", "true"),
            ("rule", "7"),
            ("stop_words", "the"),
            ("stop_words", "7"),
        ] {
            add_option(&mut options, name.to_owned(), text).unwrap();
        }
        assert!(add_option(&mut options, "top".to_owned(), "4").is_err());
        let expected =
            serde_json::json!({"top": 4, "explain": true, "rule": "7", "stop_words": ["the", "7"]});
        assert_eq!(Value::Object(options), expected);
    }
}
