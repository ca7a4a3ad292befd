//! Room for jobs: how many run at once, and that no lane takes it all.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wordmill_common::id::Lane;

/// Permits for running jobs. A lane never holds the last one, so that the other always finds room.
#[derive(Debug)]
pub(crate) struct Slots {
    all: Arc<Semaphore>,
    interactive: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
}

/// Room for one job, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _lane: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Slots {
    /// Returns room for `count` jobs; at least 2, one for each lane.
    pub(crate) fn new(count: u32) -> Self {
        let count = usize::try_from(count).unwrap_or(usize::MAX).clamp(2, Semaphore::MAX_PERMITS);
        let lane = || Arc::new(Semaphore::new(count - 1));
        Self { all: Arc::new(Semaphore::new(count)), interactive: lane(), bulk: lane() }
    }

    /// Waits for room. `None` never happens: the semaphores are not closed.
    pub(crate) async fn take(&self, lane: Lane) -> Option<Slot> {
        let of_lane = Arc::clone(self.of(lane)).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Slot { _lane: of_lane, _all: of_all })
    }

    /// Takes room if there is some.
    pub(crate) fn try_take(&self, lane: Lane) -> Option<Slot> {
        let of_lane = Arc::clone(self.of(lane)).try_acquire_owned().ok()?;
        let of_all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Slot { _lane: of_lane, _all: of_all })
    }

    fn of(&self, lane: Lane) -> &Arc<Semaphore> {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_leaves_room_for_the_other() {
        let slots = Slots::new(3);
        let taken: Vec<Slot> = std::iter::from_fn(|| slots.try_take(Lane::Bulk)).collect();
        assert_eq!(taken.len(), 2);
        let other = slots.try_take(Lane::Interactive);
        assert!(other.is_some() && slots.try_take(Lane::Interactive).is_none());
        drop(taken);
        assert!(slots.try_take(Lane::Interactive).is_some());
    }
}
