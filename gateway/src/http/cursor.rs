//! Where a list goes on. Clients take cursors as they are: they are places in a stream, in
//! hexadecimal.

use schemars::JsonSchema;
use serde::Serialize;

use crate::http::problem::{Code, Problem};

/// What is said of a cursor that we did not write.
pub(crate) const NO_CURSOR: &str = "The cursor is not one that an answer named as next_cursor.";

/// What a cursor looks like.
pub(crate) const PATTERN: &str = "^(0|[1-9a-f][0-9a-f]{0,15})$";

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub(crate) struct ListPage<T> {
    /// What is on it.
    pub(crate) data: Vec<T>,
    /// The cursor of the next page; null if there is none.
    pub(crate) next_cursor: Option<String>,
}

/// Writes a cursor.
pub(crate) fn write(sequence: u64) -> String {
    format!("{sequence:x}")
}

/// Reads a cursor; `None` for a text that [`write`] did not write.
pub(crate) fn read(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|sequence| write(*sequence) == text)
}

/// Reads the cursor of a query, if there is one.
///
/// # Errors
/// `invalid_query`.
pub(crate) fn of_query(cursor: Option<&str>) -> Result<Option<u64>, Problem> {
    let invalid = || Problem::new(Code::InvalidQuery, NO_CURSOR);
    cursor.map(|text| read(text).ok_or_else(invalid)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_cursors_are_taken() {
        assert_eq!(read(&write(4711)), Some(4711));
        for bad in ["", "x", "-1", "+1", "01", "FF", "fffffffffffffffff"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
