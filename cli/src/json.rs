//! JSON as it is printed.

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;

/// Returns JSON as people like to read it.
pub(crate) fn pretty(value: &Value) -> Result<String, Error> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| serialization_error(&error))
}

/// Returns JSON without white space.
pub(crate) fn compact(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| serialization_error(&error))
}

/// Returns values one a line, so that one is printed like one of many.
pub(crate) fn lines<'a>(values: impl IntoIterator<Item = &'a Value>) -> String {
    values.into_iter().map(|value| format!("{value}\n")).collect()
}

fn serialization_error(error: &serde_json::Error) -> Error {
    Error::LimitExceeded(format!("the output cannot be written: {error}"))
}
