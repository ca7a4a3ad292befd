//! Time since the broker last answered each lane, for `/readyz`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use wordmill_common::id::Lane;

/// Silence after which a lane is considered cut off from the queue. An open request receives a
/// heartbeat every 5 s. A request that the server has lost is repeated after 11 s, and its first
/// heartbeat follows 5 s later.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(16);
/// Stored instead of a time while all slots are in use, because the lane then requests nothing.
const ALL_SLOTS_IN_USE: u64 = u64::MAX;

/// Time of the last answer to each lane, in milliseconds since `start`, or [`ALL_SLOTS_IN_USE`].
#[derive(Debug)]
pub(crate) struct LaneLiveness {
    start: Instant,
    interactive: AtomicU64,
    bulk: AtomicU64,
}

impl LaneLiveness {
    /// Creates the state of lanes that start now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), interactive: AtomicU64::new(0), bulk: AtomicU64::new(0) }
    }

    /// Records an answer of the broker to `lane`: a job, a heartbeat, or the end of a request.
    pub(crate) fn record_answer(&self, lane: Lane) {
        self.last_answer(lane).store(self.now_ms(), Ordering::Relaxed);
    }

    /// Records that `lane` waits for a slot. Its silence is measured again from its next request.
    pub(crate) fn record_slots_in_use(&self, lane: Lane) {
        self.last_answer(lane).store(ALL_SLOTS_IN_USE, Ordering::Relaxed);
    }

    /// Records a request of `lane`. If the lane was waiting for a slot, its silence begins now.
    /// Otherwise the silence continues, so repeated requests without an answer are detected.
    pub(crate) fn record_request(&self, lane: Lane) {
        let now = self.now_ms();
        let from_full = |last| (last == ALL_SLOTS_IN_USE).then_some(now);
        // An error means that the lane was not waiting for a slot. Its time stays unchanged.
        let _ =
            self.last_answer(lane).fetch_update(Ordering::Relaxed, Ordering::Relaxed, from_full);
    }

    /// Returns the time since the last answer to `lane`; `None` while the lane waits for a slot.
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
        liveness.record_request(Lane::Bulk);
        assert!(liveness.silence(Lane::Bulk).unwrap() > SILENCE_MAX);
        liveness.record_slots_in_use(Lane::Bulk);
        assert_eq!(liveness.silence(Lane::Bulk), None);
        liveness.record_request(Lane::Bulk);
        assert!(liveness.silence(Lane::Bulk).unwrap() < SILENCE_MAX);
        liveness.record_answer(Lane::Interactive);
        assert!(liveness.silence(Lane::Interactive).unwrap() < SILENCE_MAX);
    }
}
