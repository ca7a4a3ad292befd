//! The last sign of life of each lane's queue, for `/readyz`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wordmill_common::id::Lane;

/// Silence after which a lane counts as cut off from the queue. A request that waits brings a
/// heartbeat every 5 s, and one that the server forgot is repeated after 11 s.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(16);
/// Stored in place of a time if all slots are in use, so that the lane requests nothing.
const ALL_SLOTS_IN_USE: u64 = u64::MAX;

/// The time of the last answer to each lane, in milliseconds since `start`, or [`FULL`].
#[derive(Debug)]
pub(crate) struct LaneLiveness {
    start: Instant,
    interactive: AtomicU64,
    bulk: AtomicU64,
}

impl LaneLiveness {
    /// Returns the liveness of lanes that start now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), interactive: AtomicU64::new(0), bulk: AtomicU64::new(0) }
    }

    /// Notes an answer of the queue to `lane`: a job, a heartbeat, or the end of a request.
    pub(crate) fn note_answer(&self, lane: Lane) {
        self.last_answer(lane).store(self.now_ms(), Ordering::Relaxed);
    }

    /// Notes that `lane` waits for a slot, so that silence means nothing.
    pub(crate) fn note_full(&self, lane: Lane) {
        self.last_answer(lane).store(ALL_SLOTS_IN_USE, Ordering::Relaxed);
    }

    /// Notes a request of `lane`. If the lane was full, its silence begins now; otherwise it
    /// continues, so that repeated requests without an answer are noticed.
    pub(crate) fn note_request(&self, lane: Lane) {
        let now = self.now_ms();
        let from_full = |last| (last == ALL_SLOTS_IN_USE).then_some(now);
        // An error means that the lane was not full.
        let _ =
            self.last_answer(lane).fetch_update(Ordering::Relaxed, Ordering::Relaxed, from_full);
    }

    /// Returns the time since the last answer to `lane`; `None` if the lane is full.
    pub(crate) fn silence(&self, lane: Lane) -> Option<Duration> {
        let last = self.last_answer(lane).load(Ordering::Relaxed);
        (last != ALL_SLOTS_IN_USE)
            .then(|| Duration::from_millis(self.now_ms().saturating_sub(last)))
    }

    fn last_answer(&self, lane: Lane) -> &AtomicU64 {
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
    fn a_full_lane_is_not_silent_and_another_request_does_not_end_silence() {
        let start = Instant::now() - Duration::from_secs(60);
        let liveness = LaneLiveness { start, ..LaneLiveness::new() };
        assert!(liveness.silence(Lane::Bulk).unwrap() > SILENCE_MAX);
        liveness.note_request(Lane::Bulk);
        assert!(liveness.silence(Lane::Bulk).unwrap() > SILENCE_MAX);
        liveness.note_full(Lane::Bulk);
        assert_eq!(liveness.silence(Lane::Bulk), None);
        liveness.note_request(Lane::Bulk);
        assert!(liveness.silence(Lane::Bulk).unwrap() < SILENCE_MAX);
        liveness.note_answer(Lane::Interactive);
        assert!(liveness.silence(Lane::Interactive).unwrap() < SILENCE_MAX);
    }
}
