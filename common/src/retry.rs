//! Backoff policy for failed attempts of a job.

use std::time::Duration;

/// Maximum delay that a host can request by `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Maximum delay of the backoff itself, before jitter.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10 * 60);

/// Factor between two successive delays.
const BACKOFF_FACTOR: u32 = 4;

/// Maximum number of attempts of a job, and the delays between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// Maximum number of attempts, including the first one. At least 1.
    pub attempts: u32,
    /// Delay after the first failed attempt, before jitter.
    pub base: Duration,
}

impl Default for BackoffPolicy {
    fn default() -> Self {
        Self { attempts: 3, base: Duration::from_secs(2) }
    }
}

impl BackoffPolicy {
    /// Returns the delay after attempt number `attempt` (from 1) has failed.
    ///
    /// The delay is `base * 4^(attempt - 1)`, at most [`BACKOFF_MAX`]. A `jitter` from 0 to 1
    /// spreads it from 80 % to 120 %. A longer `retry_after` of the host replaces it, up to
    /// [`RETRY_AFTER_MAX`].
    #[must_use]
    pub fn delay(&self, attempt: u32, jitter: f64, retry_after: Option<Duration>) -> Duration {
        let steps = attempt.saturating_sub(1);
        let plain = self.base.saturating_mul(BACKOFF_FACTOR.saturating_pow(steps)).min(BACKOFF_MAX);
        let spread = plain.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
        let delay =
            retry_after.map_or(spread, |requested| spread.max(requested.min(RETRY_AFTER_MAX)));
        // Records store times in milliseconds.
        Duration::from_millis(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_delays_match_the_table() {
        let policy = BackoffPolicy::default();
        let table = [
            (1, 1_600, 2_000, 2_400),
            (2, 6_400, 8_000, 9_600),
            (3, 25_600, 32_000, 38_400),
            (4, 102_400, 128_000, 153_600),
            (5, 409_600, 512_000, 614_400),
            (6, 480_000, 600_000, 720_000),
            (60, 480_000, 600_000, 720_000),
        ];
        for (attempt, least, middle, most) in table {
            for (jitter, expected_ms) in [(0.0, least), (0.5, middle), (1.0, most)] {
                let delay = policy.delay(attempt, jitter, None);
                assert_eq!(delay.as_millis(), expected_ms, "attempt {attempt}, jitter {jitter}");
            }
        }
    }

    #[test]
    fn retry_after_lengthens_the_delay_within_bounds() {
        let policy = BackoffPolicy::default();
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(policy.delay(1, 0.5, seconds(1)), Duration::from_secs(2));
        assert_eq!(policy.delay(1, 0.5, seconds(90)), Duration::from_secs(90));
        assert_eq!(policy.delay(1, 0.5, seconds(1_000_000)), RETRY_AFTER_MAX);
    }
}
