//! Backoff schedule for failed deliveries of a webhook.

use std::time::Duration;

use crate::retry::RETRY_AFTER_MAX;

const fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

/// Delay after each failed attempt except the last one, before jitter. The schedule is the one that
/// Standard Webhooks recommends, and takes about three days.
pub const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    minutes(5),
    minutes(30),
    minutes(2 * 60),
    minutes(5 * 60),
    minutes(10 * 60),
    minutes(14 * 60),
    minutes(20 * 60),
    minutes(24 * 60),
];

/// Maximum number of attempts of one round.
pub const ATTEMPTS_MAX: usize = SCHEDULE.len() + 1;

/// The schedule, with a limit that the operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Maximum delay, before jitter (`WORDMILL_WEBHOOK_RETRY_MAX`).
    pub delay_max: Duration,
}

impl Schedule {
    /// Returns the delay after attempt number `attempt` (from 1) has failed, or `None` if it was
    /// the last one.
    ///
    /// The delay is taken from [`SCHEDULE`], at most `delay_max`. A `jitter` from 0 to 1 spreads it
    /// from 90 % to 110 %. A longer `retry_after` of the receiver replaces it, up to
    /// [`RETRY_AFTER_MAX`] and `delay_max`.
    #[must_use]
    pub fn delay(
        &self,
        attempt: u32,
        jitter: f64,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
        let plain = (*SCHEDULE.get(index)?).min(self.delay_max);
        let spread = plain.mul_f64(0.9 + 0.2 * jitter.clamp(0.0, 1.0));
        let requested = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX).min(self.delay_max);
        // The stored state has times in milliseconds.
        let delay = u64::try_from(spread.max(requested).as_millis()).unwrap_or(u64::MAX);
        Some(Duration::from_millis(delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_delays_match_the_schedule() {
        let schedule = Schedule { delay_max: Duration::from_secs(86_400) };
        let middle = |attempt| schedule.delay(attempt, 0.5, None).map(|delay| delay.as_secs());
        let expected = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
        for (attempt, expected) in (1..).zip(expected) {
            assert_eq!(middle(attempt), Some(expected), "{attempt}");
        }
        assert_eq!((middle(0), middle(10), middle(u32::MAX)), (None, None, None));
        assert_eq!(schedule.delay(1, 0.0, None), Some(Duration::from_millis(4500)));
        assert_eq!(schedule.delay(1, 1.0, None), Some(Duration::from_millis(5500)));
    }

    #[test]
    fn receivers_lengthen_delays_and_operators_limit_them() {
        let seconds = Duration::from_secs;
        let schedule = Schedule { delay_max: seconds(86_400) };
        assert_eq!(schedule.delay(1, 0.5, Some(seconds(60))), Some(seconds(60)));
        assert_eq!(schedule.delay(1, 0.5, Some(seconds(1))), Some(seconds(5)));
        assert_eq!(schedule.delay(1, 0.5, Some(Duration::MAX)), Some(RETRY_AFTER_MAX));
        let short = Schedule { delay_max: seconds(1) };
        assert_eq!(short.delay(9, 0.5, Some(seconds(60))), Some(seconds(1)));
    }
}
