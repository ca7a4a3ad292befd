//! Current time, with the precision that records and API responses use.

use std::time::Duration;

use jiff::Timestamp;

/// Returns the current time in UTC, in whole milliseconds. A finer time would be useless, because
/// the clocks of two hosts differ by more.
#[must_use]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}

/// Returns the time from `since` until `now`. Returns zero if `since` is later, for example because
/// it comes from the clock of another host.
#[must_use]
pub fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_future_time_is_zero() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(age(at(10), at(70)), Duration::from_secs(60));
        assert_eq!(age(at(70), at(10)), Duration::ZERO);
        assert_eq!(age(Timestamp::MAX, at(10)), Duration::ZERO);
    }
}
