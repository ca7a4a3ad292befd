//! Backpressure: refuses bulk jobs while the queue is nearly full, and computes `Retry-After` from
//! the drain rate.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;
use wordmill_common::id::Lane;
use wordmill_nats::queue::{Level, Queue};

use crate::http::problem::{Code, Problem};

/// Time between two readings of the fill level of the queue.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum age of a reading. If the broker stops answering, older readings are ignored.
const READING_AGE_MAX: Duration = Duration::from_secs(5);
/// Number of readings over which the drain rate is measured.
const READINGS_MAX: usize = 10;
/// Fill level from which bulk jobs are refused, in percent of the maximum of jobs or of bytes.
const BULK_PERCENT_MAX: u64 = 80;
/// Fill level to which the queue should drain before an interactive client retries, in percent. It
/// is below 100, so that several clients that were refused at the same time can submit.
const INTERACTIVE_PERCENT_MAX: u64 = 99;
/// Minimum value of `Retry-After`, in seconds.
const RETRY_AFTER_S_MIN: u64 = 1;
/// Maximum value of `Retry-After`, in seconds.
const RETRY_AFTER_S_MAX: u64 = 60;
/// Value of `Retry-After` if the queue does not drain or its level is unknown, in seconds.
const RETRY_AFTER_S_UNKNOWN: u64 = 5;

/// Latest reading of the queue's fill level. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Backpressure {
    reading: watch::Receiver<Option<Reading>>,
}

/// Fill level and drain rate of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    at: Instant,
    level: Level,
    /// Number of jobs that left the queue in `period`.
    drained: u64,
    period: Duration,
}

impl Backpressure {
    /// Creates a gauge without a reading. Pass the sender to [`poll_level`], which updates it.
    pub(crate) fn new() -> (watch::Sender<Option<Reading>>, Self) {
        let (sender, reading) = watch::channel(None);
        (sender, Self { reading })
    }

    /// Refuses a bulk job while the queue is nearly full. Only the stream itself refuses
    /// interactive jobs, when it is full.
    ///
    /// # Errors
    /// `queue_full`.
    pub(crate) fn admit(&self, lane: Lane) -> Result<(), Problem> {
        match (lane, self.fresh_reading()) {
            (Lane::Bulk, Some(reading)) if reading.level.excess_jobs(BULK_PERCENT_MAX) > 0 => {
                let detail = format!(
                    "The queue is at least {BULK_PERCENT_MAX} % full. Bulk jobs are refused first; \
                     interactive jobs are still accepted."
                );
                Err(self.queue_full_problem(lane, detail))
            }
            (Lane::Bulk | Lane::Interactive, _) => Ok(()),
        }
    }

    /// Returns the problem for a job that does not fit into the queue, with `Retry-After`.
    pub(crate) fn queue_full_problem(&self, lane: Lane, detail: impl Into<String>) -> Problem {
        let after = self
            .fresh_reading()
            .map_or(RETRY_AFTER_S_UNKNOWN, |reading| reading.retry_after_s(lane));
        Problem::new(Code::QueueFull, detail).retry_after(Duration::from_secs(after))
    }

    /// Returns the fill level from 0 to 1, by jobs or by bytes, whichever is higher; `None` if it
    /// is unknown.
    pub(crate) fn fill_ratio(&self) -> Option<f64> {
        let level = self.fresh_reading()?.level;
        #[expect(clippy::cast_precision_loss, reason = "a ratio is shown with a few digits")]
        let ratio = |now: u64, max: Option<u64>| max.map_or(0.0, |max| now as f64 / max as f64);
        let by_count = ratio(level.messages, level.messages_max);
        Some(by_count.max(ratio(level.bytes, level.bytes_max)))
    }

    fn fresh_reading(&self) -> Option<Reading> {
        let reading = *self.reading.borrow();
        reading.filter(|reading| reading.at.elapsed() < READING_AGE_MAX)
    }
}

impl Reading {
    /// Returns the time until the queue has room for a job of this lane, in seconds.
    fn retry_after_s(&self, lane: Lane) -> u64 {
        let percent = match lane {
            Lane::Interactive => INTERACTIVE_PERCENT_MAX,
            Lane::Bulk => BULK_PERCENT_MAX,
        };
        let excess_jobs = u128::from(self.level.excess_jobs(percent));
        let drained = u128::from(self.drained);
        // `None` if no job left the queue.
        let wait_ms = excess_jobs.saturating_mul(self.period.as_millis()).checked_div(drained);
        let wait_s = wait_ms.map(|ms| u64::try_from(ms.div_ceil(1000)).unwrap_or(u64::MAX));
        wait_s.unwrap_or(RETRY_AFTER_S_UNKNOWN).clamp(RETRY_AFTER_S_MIN, RETRY_AFTER_S_MAX)
    }
}

/// Comparison of a fill level with a share of its limits.
trait LevelExt {
    /// Returns the number of jobs that must leave the queue before another one fits within
    /// `percent` of both limits.
    fn excess_jobs(&self, percent: u64) -> u64;
}

impl LevelExt for Level {
    fn excess_jobs(&self, percent: u64) -> u64 {
        let excess = |now: u64, max: Option<u64>, one: u64| {
            let allowed = max.map(|max| percent_of(max, percent))?;
            Some(now.saturating_add(one).saturating_sub(allowed))
        };
        // Convert bytes to jobs by the current average size.
        let average_bytes = self.bytes.checked_div(self.messages).unwrap_or(0).max(1);
        let by_count = excess(self.messages, self.messages_max, 1).unwrap_or(0);
        // A stream without a limit never has an excess.
        let by_bytes =
            excess(self.bytes, self.bytes_max, average_bytes).unwrap_or(0).div_ceil(average_bytes);
        by_count.max(by_bytes)
    }
}

/// Returns `percent` of `max`.
fn percent_of(max: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(max) * u128::from(percent) / 100).unwrap_or(max)
}

/// Reads the fill level of the queue every [`READ_INTERVAL`] until the future is dropped.
pub(crate) async fn poll_level(queue: &Queue, sender: &watch::Sender<Option<Reading>>) {
    let mut ticks = tokio::time::interval(READ_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut earlier: VecDeque<(Instant, Level)> = VecDeque::with_capacity(READINGS_MAX);
    loop {
        ticks.tick().await;
        match queue.level().await {
            Ok(level) => {
                sender.send_replace(Some(add_level(&mut earlier, Instant::now(), level)));
            }
            // Keep the last reading; it expires after `READING_AGE_MAX`.
            Err(error) => debug!(%error, "cannot read the fill level of the queue"),
        }
    }
}

/// Adds a level to the earlier ones, and computes the drain rate.
fn add_level(earlier: &mut VecDeque<(Instant, Level)>, at: Instant, level: Level) -> Reading {
    // Jobs leave the queue out of order, so compute the number that left from those that were
    // published and those that remain.
    let drained_total = |level: &Level| level.published.saturating_sub(level.messages);
    // The number of drained jobs decreased, so the stream was deleted and created again.
    if earlier.back().is_some_and(|(_, last)| drained_total(last) > drained_total(&level)) {
        earlier.clear();
    }
    if earlier.len() >= READINGS_MAX {
        earlier.pop_front();
    }
    earlier.push_back((at, level));
    let (since, first) = earlier.front().copied().unwrap_or((at, level));
    let drained = drained_total(&level).saturating_sub(drained_total(&first));
    Reading { at, level, drained, period: at.duration_since(since) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(messages: u64, bytes: u64, published: u64) -> Level {
        let messages_max = Some(1000);
        let bytes_max = Some(1_000_000);
        Level { messages, bytes, messages_max, bytes_max, published }
    }

    fn reading(level: Level, drained: u64, period_s: u64) -> Reading {
        Reading { at: Instant::now(), level, drained, period: Duration::from_secs(period_s) }
    }

    #[test]
    fn retry_after_follows_the_drain_rate() {
        use Lane::{Bulk, Interactive};
        // Full by count, by bytes, by both; then no drain, no measurement, and hardly any drain.
        let table = [
            (level(1000, 1000, 5000), 90, 9, Interactive, 2),
            (level(1000, 1000, 5000), 1000, 1, Interactive, 1),
            (level(1000, 1000, 5000), 90, 9, Bulk, 21),
            (level(100, 1_000_000, 5000), 10, 10, Interactive, 2),
            (level(100, 1_000_000, 5000), 10, 10, Bulk, 21),
            (level(1000, 1_000_000, 5000), 90, 9, Bulk, 21),
            (level(1000, 1000, 5000), 0, 9, Bulk, 5),
            (level(1000, 1000, 5000), 0, 0, Interactive, 5),
            (level(1000, 1000, 5000), 1, 9, Bulk, 60),
            // The queue has space again, so the client may retry soon.
            (level(10, 1000, 5000), 90, 9, Bulk, 1),
        ];
        for (level, drained, period_s, lane, expected) in table {
            let reading = reading(level, drained, period_s);
            assert_eq!(reading.retry_after_s(lane), expected, "{reading:?} {lane}");
        }
    }

    #[test]
    fn bulk_jobs_are_refused_at_80_percent_and_interactive_jobs_are_not() {
        let (sender, backpressure) = Backpressure::new();
        assert!(backpressure.admit(Lane::Bulk).is_ok(), "no reading yet");
        for (level, is_admitted) in [
            (level(799, 7990, 799), true),
            (level(800, 8000, 800), false),
            (level(8, 792_000, 8), false),
            (level(7, 693_000, 7), true),
            (Level { messages_max: None, bytes_max: None, ..level(1 << 40, 1 << 60, 9) }, true),
        ] {
            sender.send_replace(Some(reading(level, 1, 1)));
            assert_eq!(backpressure.admit(Lane::Bulk).is_ok(), is_admitted, "{level:?}");
            assert!(backpressure.admit(Lane::Interactive).is_ok());
        }
    }

    #[test]
    fn a_stale_reading_refuses_nothing() {
        let (sender, backpressure) = Backpressure::new();
        let mut old = reading(level(1000, 1000, 1000), 1, 1);
        sender.send_replace(Some(old));
        assert!(backpressure.admit(Lane::Bulk).is_err());
        old.at = Instant::now().checked_sub(READING_AGE_MAX).unwrap();
        sender.send_replace(Some(old));
        assert!(backpressure.admit(Lane::Bulk).is_ok());
    }

    #[test]
    fn the_drain_rate_covers_the_last_readings_and_restarts_with_the_queue() {
        let start = Instant::now();
        let mut earlier = VecDeque::new();
        let mut last = None;
        for second in 0..30 {
            // Ten jobs arrive per second, and seven leave, but none before second 15.
            let drained_total = 7 * second_after(second, 15);
            let level = level(10 * second - drained_total, 0, 10 * second);
            last = Some(add_level(&mut earlier, start + Duration::from_secs(second), level));
        }
        let last = last.unwrap();
        assert_eq!((last.drained, last.period), (63, Duration::from_secs(9)));
        let restarted = add_level(&mut earlier, start + Duration::from_secs(30), level(1, 0, 1));
        assert_eq!((restarted.drained, restarted.period), (0, Duration::ZERO));
    }

    fn second_after(second: u64, start: u64) -> u64 {
        second.saturating_sub(start)
    }
}
