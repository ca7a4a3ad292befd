//! Cursors of lists: positions in a stream, in hexadecimal. They are opaque to clients.

use schemars::JsonSchema;
use serde::Serialize;

use crate::http::problem::{Code, Problem};

/// Problem detail for an invalid cursor.
pub(crate) const INVALID_CURSOR: &str =
    "The cursor is invalid: use the next_cursor of an earlier response.";

/// Regular expression of a cursor.
pub(crate) const PATTERN: &str = "^(0|[1-9a-f][0-9a-f]{0,15})$";

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(crate) struct ListPage<T> {
    /// The entries of this page.
    pub(crate) data: Vec<T>,
    /// The cursor of the next page; null if this is the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Formats a cursor.
pub(crate) fn encode(sequence: u64) -> String {
    format!("{sequence:x}")
}

/// Parses a cursor; `None` if [`encode`] cannot have written it.
pub(crate) fn decode(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|sequence| encode(*sequence) == text)
}

/// Parses the cursor of a query, if it has one.
///
/// # Errors
/// `invalid_query` if it is not a cursor.
pub(crate) fn from_query(cursor: Option<&str>) -> Result<Option<u64>, Problem> {
    let invalid = || Problem::new(Code::InvalidQuery, INVALID_CURSOR);
    cursor.map(|text| decode(text).ok_or_else(invalid)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_cursors_are_accepted() {
        assert_eq!(decode(&encode(4711)), Some(4711));
        for bad in ["", "x", "-1", "+1", "01", "FF", "fffffffffffffffff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
