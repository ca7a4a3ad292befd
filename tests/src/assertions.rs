//! Assertions about JSON whose failure names the field, the expected and the actual value.

use serde_json::{Map, Value};

use crate::client::Answer;

/// Asserts fields of a JSON document. Each key of `expected` is the path of a field, for example
/// `failure.code` or `attempts.0.number`. A missing field equals `null`.
///
/// # Panics
/// If a field differs. The message lists all differences and the whole document.
#[track_caller]
pub fn assert_fields(actual: &Value, expected: Value) {
    let differences = differences(actual, &expected);
    assert!(differences.is_empty(), "{}\nin {actual:#}", differences.join("\n"));
}

/// Asserts the status of an answer, and fields of its JSON as [`assert_fields`] does.
///
/// # Panics
/// If the status or a field differs.
#[track_caller]
pub fn assert_answer(answer: &Answer, status: u16, expected: Value) {
    assert_eq!(answer.status, status, "status of {answer:?}");
    assert_fields(&answer.json(), expected);
}

/// Returns the number of elements of a JSON array.
///
/// # Panics
/// If the value is not an array.
#[track_caller]
pub fn array_length(array: &Value) -> usize {
    array.as_array().unwrap_or_else(|| panic!("not an array: {array}")).len()
}

/// Returns one line for each field that differs.
fn differences(actual: &Value, expected: &Value) -> Vec<String> {
    let fields: &Map<String, Value> = expected.as_object().expect("an object of paths");
    assert!(!fields.is_empty(), "the expected object has no fields");
    let compare = |(path, wanted): (&String, &Value)| {
        let value = field(actual, path);
        (value != wanted).then(|| format!("field `{path}`: expected {wanted}, actual {value}"))
    };
    fields.iter().filter_map(compare).collect()
}

/// Returns the field at a path, or `null`.
fn field<'a>(document: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(document, |value, key| match key.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[key],
    })
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use serde_json::json;

    use super::*;

    fn job() -> Value {
        json!({
            "status": "failed",
            "failure": {"code": "fetch_dns"},
            "attempts": [{"number": 1}, {"number": 2}],
        })
    }

    /// Returns the panic message of a failed assertion.
    fn message(assertion: impl FnOnce() + std::panic::UnwindSafe) -> String {
        let panic = catch_unwind(assertion).expect_err("the assertion fails");
        *panic.downcast::<String>().expect("a message")
    }

    #[test]
    fn fields_are_found_by_their_paths() {
        assert_fields(
            &job(),
            json!({"status": "failed", "failure.code": "fetch_dns", "attempts.1.number": 2}),
        );
    }

    #[test]
    fn a_missing_field_equals_null() {
        assert_fields(&job(), json!({"result": null, "result.code": null, "attempts.2": null}));
    }

    #[test]
    fn a_failure_names_each_field_and_prints_the_document() {
        let message = message(|| {
            assert_fields(
                &job(),
                json!({
                    "status": "failed",
                    "failure.code": "fetch_connect",
                    "attempts.0.number": 7,
                    "lane": "bulk",
                }),
            );
        });
        let lines: Vec<&str> = message.lines().collect();
        assert_eq!(
            lines[..3],
            [
                r#"field `attempts.0.number`: expected 7, actual 1"#,
                r#"field `failure.code`: expected "fetch_connect", actual "fetch_dns""#,
                r#"field `lane`: expected "bulk", actual null"#,
            ]
        );
        assert_eq!(lines[3..].join("\n"), format!("in {:#}", job()));
    }

    #[test]
    fn a_wrong_status_fails_before_the_fields() {
        let answer = Answer {
            status: 404,
            headers: Vec::new(),
            bytes: Vec::new(),
            text: "nothing here".to_owned(),
        };
        let message = message(move || assert_answer(&answer, 200, json!({"status": "queued"})));
        assert!(message.contains("status of Answer { status: 404"), "{message}");
        assert!(message.contains("nothing here"), "{message}");
    }

    #[test]
    fn the_length_of_an_array_is_counted() {
        assert_eq!(array_length(&job()["attempts"]), 2);
    }

    #[test]
    fn a_value_without_length_is_printed() {
        let message = message(|| {
            array_length(&json!({"a": 1}));
        });
        assert_eq!(message, r#"not an array: {"a":1}"#);
    }
}
