//! Retry policy for requests: transient statuses and backoff delays.

use std::time::Duration;

/// Upper bound of the delay after the first attempt, without `Retry-After`.
const FIRST_DELAY_MAX: Duration = Duration::from_millis(200);
/// Upper bound of the delays of the exponential backoff.
const DELAY_MAX: Duration = Duration::from_secs(5);
/// Upper bound for `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// Returns whether a retry may succeed after a response with this status.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429) || status >= 500
}

/// Returns the delay after a number of failed `attempts`, or `None` if it would exceed `left`.
///
/// The delay starts with `retry_after`, limited to [`RETRY_AFTER_MAX`], or else with half of the
/// exponential backoff. `jitter` (0 to 1) adds up to half of the backoff, so that clients do not
/// all retry at the same time. For example, the delay after the third attempt is 400 to 800 ms.
pub(crate) fn compute_delay(
    attempts: u32,
    retry_after: Option<Duration>,
    jitter: f64,
    left: Duration,
) -> Option<Duration> {
    // 200 ms, 400 ms, 800 ms and so on, up to 5 s.
    let backoff = FIRST_DELAY_MAX.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
    let backoff = backoff.min(DELAY_MAX);
    let minimum = retry_after
        .map_or_else(|| backoff.mul_f64(0.5), |retry_after| retry_after.min(RETRY_AFTER_MAX));
    let delay = minimum + backoff.mul_f64(0.5 * jitter.clamp(0.0, 1.0));
    (delay <= left).then_some(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn delays_double_up_to_a_limit() {
        let delays = |jitter| -> Vec<u128> {
            (1..=7).map(|n| compute_delay(n, None, jitter, LONG).unwrap().as_millis()).collect()
        };
        assert_eq!(delays(0.0), [100, 200, 400, 800, 1600, 2500, 2500]);
        assert_eq!(delays(1.0), [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(compute_delay(u32::MAX, None, 1.0, LONG), Some(DELAY_MAX));
    }

    #[test]
    fn retry_after_is_respected_up_to_a_limit() {
        let delay_after =
            |seconds| compute_delay(1, Some(Duration::from_secs(seconds)), 0.0, LONG).unwrap();
        assert_eq!(delay_after(7), Duration::from_secs(7));
        assert_eq!(delay_after(1_000_000), RETRY_AFTER_MAX);
        assert!(
            compute_delay(1, Some(Duration::from_secs(7)), 1.0, LONG).unwrap().as_secs_f64() > 7.0
        );
    }

    #[test]
    fn no_retry_starts_after_the_deadline() {
        assert_eq!(
            compute_delay(1, Some(Duration::from_secs(7)), 0.0, Duration::from_secs(6)),
            None
        );
        assert_eq!(compute_delay(1, None, 0.0, Duration::ZERO), None);
    }

    #[test]
    fn transient_errors_are_retried() {
        for (status, expected) in
            [(200, false), (400, false), (404, false), (408, true), (409, false), (429, true)]
        {
            assert_eq!(is_transient(status), expected, "{status}");
        }
        assert!(is_transient(500) && is_transient(503));
    }
}
