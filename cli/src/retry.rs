//! Retries: which responses are transient, and how long to wait.

use std::time::Duration;

/// Upper bound of the pause after the first attempt.
const PAUSE_MIN: Duration = Duration::from_millis(200);
/// Upper bound of the pauses of the backoff.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Upper bound of the pause that a server may ask for (`Retry-After`).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// Returns whether a response with this status may be transient.
pub(crate) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429) || status >= 500
}

/// Returns the pause after a number of failed `tries`, or `None` if it would be longer than `left`.
///
/// The pause is `retry_after`, or exponential backoff without it. `jitter` (0 to 1) makes it
/// longer, so that clients do not all retry at the same time. For example, the third attempt is
/// followed by 400 to 800 ms.
pub(crate) fn pause(
    tries: u32,
    retry_after: Option<Duration>,
    jitter: f64,
    left: Duration,
) -> Option<Duration> {
    // 200 ms, 400 ms, 800 ms and so on, up to 5 s.
    let own = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    let own = own.min(PAUSE_MAX);
    let least = retry_after
        .map_or_else(|| own.mul_f64(0.5), |retry_after| retry_after.min(RETRY_AFTER_MAX));
    let pause = least + own.mul_f64(0.5 * jitter.clamp(0.0, 1.0));
    (pause <= left).then_some(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses = |jitter| -> Vec<u128> {
            (1..=7).map(|n| pause(n, None, jitter, LONG).unwrap().as_millis()).collect()
        };
        assert_eq!(pauses(0.0), [100, 200, 400, 800, 1600, 2500, 2500]);
        assert_eq!(pauses(1.0), [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause(u32::MAX, None, 1.0, LONG), Some(PAUSE_MAX));
    }

    #[test]
    fn retry_after_is_obeyed_within_bounds() {
        let pause_after =
            |seconds| pause(1, Some(Duration::from_secs(seconds)), 0.0, LONG).unwrap();
        assert_eq!(pause_after(7), Duration::from_secs(7));
        assert_eq!(pause_after(1_000_000), RETRY_AFTER_MAX);
        assert!(pause(1, Some(Duration::from_secs(7)), 1.0, LONG).unwrap().as_secs_f64() > 7.0);
    }

    #[test]
    fn a_pause_beyond_the_deadline_is_not_started() {
        assert_eq!(pause(1, Some(Duration::from_secs(7)), 0.0, Duration::from_secs(6)), None);
        assert_eq!(pause(1, None, 0.0, Duration::ZERO), None);
    }

    #[test]
    fn transient_errors_are_retried() {
        for (status, passes) in
            [(200, false), (400, false), (404, false), (408, true), (409, false), (429, true)]
        {
            assert_eq!(is_transient(status), passes, "{status}");
        }
        assert!(is_transient(500) && is_transient(503));
    }
}
