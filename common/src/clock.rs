//! The time of day, as records and answers give it.

use jiff::Timestamp;

/// Returns the time in UTC, to the millisecond: nothing we measure across machines is finer.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
