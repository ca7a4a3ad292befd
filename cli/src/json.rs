//! JSON output.

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// Formats JSON with indentation and a line break at the end.
pub(crate) fn pretty(value: &Value) -> Result<String, Error> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| serialization_error(&error))
}

/// Formats JSON without white space.
pub(crate) fn compact(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| serialization_error(&error))
}

/// Formats values as NDJSON: one JSON value per line, even for a single value.
pub(crate) fn lines<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().map(|value| format!("{value}\n")).collect()
}

fn serialization_error(error: &serde_json::Error) -> Error {
    Error::LimitExceeded(format!("cannot serialize the output: {error}"))
}
