//! When each lane last heard of the queue: what `/readyz` says, and when a pull is made anew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wordmill_common::id::Lane;

/// After which silence a lane counts as cut off. A request that waits brings a heartbeat every
/// 5 s, and one that the server forgot is made again after 11 s.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(16);
/// The lane has no room and asks for nothing.
const FULL: u64 = u64::MAX;

/// When each lane last heard of the queue.
#[derive(Debug)]
pub(crate) struct Pulse {
    start: Instant,
    interactive: AtomicU64,
    bulk: AtomicU64,
}

impl Pulse {
    /// Returns the pulse of lanes that start now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), interactive: AtomicU64::new(0), bulk: AtomicU64::new(0) }
    }

    /// Notes that the queue answered `lane`: a job, a heartbeat, or that there is nothing.
    pub(crate) fn heard(&self, lane: Lane) {
        self.of(lane).store(self.now_ms(), Ordering::Relaxed);
    }

    /// Notes that `lane` waits for room, so that silence means nothing.
    pub(crate) fn is_full(&self, lane: Lane) {
        self.of(lane).store(FULL, Ordering::Relaxed);
    }

    /// Notes that `lane` has room again and asks, unless it has been asking before.
    pub(crate) fn asks(&self, lane: Lane) {
        let now = self.now_ms();
        let was_full = |last| (last == FULL).then_some(now);
        // Otherwise it counts from when it was last heard.
        let _ = self.of(lane).fetch_update(Ordering::Relaxed, Ordering::Relaxed, was_full);
    }

    /// Returns for how long `lane` has not heard of the queue; none if it is full.
    pub(crate) fn silence(&self, lane: Lane) -> Option<Duration> {
        let heard = self.of(lane).load(Ordering::Relaxed);
        (heard != FULL).then(|| Duration::from_millis(self.now_ms().saturating_sub(heard)))
    }

    fn of(&self, lane: Lane) -> &AtomicU64 {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_is_not_silent_and_asking_again_does_not_count_as_hearing() {
        let pulse = Pulse { start: Instant::now() - Duration::from_secs(60), ..Pulse::new() };
        assert!(pulse.silence(Lane::Bulk).unwrap() > SILENCE_MAX);
        pulse.asks(Lane::Bulk);
        assert!(pulse.silence(Lane::Bulk).unwrap() > SILENCE_MAX);
        pulse.is_full(Lane::Bulk);
        assert_eq!(pulse.silence(Lane::Bulk), None);
        pulse.asks(Lane::Bulk);
        assert!(pulse.silence(Lane::Bulk).unwrap() < SILENCE_MAX);
        pulse.heard(Lane::Interactive);
        assert!(pulse.silence(Lane::Interactive).unwrap() < SILENCE_MAX);
    }
}
