//! Slots: the number of jobs that run concurrently, and its division between the lanes.
//!
//! A lane is *busy* if its last request returned jobs. Only a busy lane reserves several slots.
//! While both lanes are busy, freed slots are assigned in turn: three to the interactive lane, then
//! one to the bulk lane. For example, two busy lanes with equally long jobs share 64 slots as 48
//! and 16. If only one lane is busy, it may use all slots but one. An idle lane reserves a single
//! slot, for the job that ends its wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wordmill_common::id::Lane;

/// Order in which free slots are assigned while both lanes need some.
const TURNS: [Lane; 4] = [Lane::Interactive, Lane::Interactive, Lane::Interactive, Lane::Bulk];

/// Number of slots that a lane can use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// One slot, to wait for the next job.
    Idle,
    /// Up to this number of slots, and more immediately afterwards.
    Busy(usize),
}

/// Slots of a worker. Clones share them. Only one task per lane may call [`Slots::reserve`],
/// because a notification wakes a single waiter.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    state: Arc<SlotsState>,
}

/// Right to run one job, released on drop.
#[derive(Debug)]
pub(crate) struct Slot {
    state: Arc<SlotsState>,
    lane: Lane,
}

#[derive(Debug)]
struct SlotsState {
    ledger: Mutex<Ledger>,
    /// Notified when a slot may be free for the interactive lane.
    interactive: Notify,
    /// Notified when a slot may be free for the bulk lane.
    bulk: Notify,
}

impl Slots {
    /// Creates `count` slots, but at least 2: one for each lane.
    pub(crate) fn new(count: u32) -> Self {
        let ledger = Mutex::new(Ledger::new(usize::try_from(count).unwrap_or(usize::MAX)));
        let state = SlotsState { ledger, interactive: Notify::new(), bulk: Notify::new() };
        Self { state: Arc::new(state) }
    }

    /// Waits for a free slot, then reserves all free slots up to the demand. Cancel-safe.
    pub(crate) async fn reserve(&self, lane: Lane, demand: Demand) -> Vec<Slot> {
        loop {
            let count = self.state.ledger().reserve(lane, demand);
            if count > 0 {
                // If this lane was idle, `reserve` has just released its assigned slots. Wake the
                // other lane, which may reserve them.
                self.state.notifier_of(other_lane(lane)).notify_one();
                let slot = || Slot { state: Arc::clone(&self.state), lane };
                return std::iter::repeat_with(slot).take(count).collect();
            }
            // A slot released since the check above has left a permit, so this returns immediately.
            self.state.notifier_of(lane).notified().await;
        }
    }
}

impl SlotsState {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A panic cannot leave the ledger inconsistent, so a poisoned lock is still usable.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notifier_of(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.state.ledger().release(self.lane);
        for lane in Lane::ALL {
            self.state.notifier_of(lane).notify_one();
        }
    }
}

/// Number of reserved, assigned and free slots. Their sum is constant.
#[derive(Debug)]
struct Ledger {
    /// Maximum number of slots of one lane. Leaves one slot for the other lane.
    lane_max: usize,
    /// Free slots that are not assigned to a lane.
    free: usize,
    /// Index in [`TURNS`] of the next assignment.
    turn: usize,
    interactive: Account,
    bulk: Account,
}

/// Slots of one lane.
#[derive(Debug, Default)]
struct Account {
    /// Slots that the lane has reserved.
    reserved: usize,
    /// Free slots that only this lane may reserve.
    assigned: usize,
    /// Whether the lane waits for a slot, or is busy and will soon reserve more.
    has_demand: bool,
}

impl Ledger {
    fn new(count: usize) -> Self {
        let count = count.max(2);
        Self {
            lane_max: count - 1,
            free: count,
            turn: 0,
            interactive: Account::default(),
            bulk: Account::default(),
        }
    }

    /// Reserves slots for a lane, and returns their number, which may be 0.
    fn reserve(&mut self, lane: Lane, demand: Demand) -> usize {
        self.account(lane).has_demand = true;
        self.assign();
        let count_max = match demand {
            Demand::Idle => 1,
            Demand::Busy(count_max) => count_max,
        };
        let free = self.free;
        let lane_max = self.lane_max;
        let account = self.account(lane);
        let remaining = lane_max.saturating_sub(account.reserved);
        let available = account.assigned.saturating_add(free);
        let count = count_max.min(remaining).min(available);
        // Assigned slots first: the other lane cannot use them.
        let from_assigned = count.min(account.assigned);
        account.assigned -= from_assigned;
        account.reserved += count;
        // A lane that got no slot waits for one, even if it is otherwise idle.
        account.has_demand = count == 0 || demand != Demand::Idle;
        // A lane without demand releases the slots that are still assigned to it.
        let returned = if account.has_demand { 0 } else { std::mem::take(&mut account.assigned) };
        self.free = free + returned - (count - from_assigned);
        count
    }

    fn release(&mut self, lane: Lane) {
        let account = self.account(lane);
        account.reserved = account.reserved.saturating_sub(1);
        self.free += 1;
        self.assign();
    }

    /// Assigns free slots in turn while both lanes have demand and may have more. Otherwise free
    /// slots stay unassigned, and the next lane that reserves slots can use them.
    fn assign(&mut self) {
        while self.free > 0
            && self.can_have_more(Lane::Interactive)
            && self.can_have_more(Lane::Bulk)
        {
            let lane = TURNS.get(self.turn).copied().unwrap_or_default();
            self.turn = (self.turn + 1) % TURNS.len();
            self.free -= 1;
            self.account(lane).assigned += 1;
        }
    }

    fn can_have_more(&mut self, lane: Lane) -> bool {
        let lane_max = self.lane_max;
        let account = self.account(lane);
        account.has_demand && account.reserved + account.assigned < lane_max
    }

    fn account(&mut self, lane: Lane) -> &mut Account {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

fn other_lane(lane: Lane) -> Lane {
    match lane {
        Lane::Interactive => Lane::Bulk,
        Lane::Bulk => Lane::Interactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Demand = Demand::Busy(32);

    /// Releases the oldest slot `rounds` times while both lanes are busy. Returns the number of
    /// slots that the bulk lane and the interactive lane have reserved.
    fn reserve_released(ledger: &mut Ledger, mut running: Vec<Lane>, rounds: usize) -> [usize; 2] {
        let mut reserved = [0, 0];
        for _ in 0..rounds {
            ledger.release(running.remove(0));
            for (lane, sum) in [Lane::Bulk, Lane::Interactive].into_iter().zip(&mut reserved) {
                let count = ledger.reserve(lane, ALL);
                *sum += count;
                running.extend(std::iter::repeat_n(lane, count));
            }
        }
        reserved
    }

    #[test]
    fn a_lane_leaves_a_slot_for_the_other() {
        let mut ledger = Ledger::new(3);
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 2);
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 0);
        assert_eq!(ledger.reserve(Lane::Interactive, ALL), 1);
        assert_eq!(ledger.reserve(Lane::Interactive, ALL), 0);
        ledger.release(Lane::Bulk);
        assert_eq!(ledger.reserve(Lane::Interactive, ALL), 1);
    }

    #[test]
    fn busy_lanes_share_slots_three_to_one() {
        let mut ledger = Ledger::new(16);
        let mut running = vec![Lane::Bulk; ledger.reserve(Lane::Bulk, ALL)];
        running.extend(vec![Lane::Interactive; ledger.reserve(Lane::Interactive, ALL)]);
        assert_eq!(running.len(), 16);
        assert_eq!(reserve_released(&mut ledger, running, 4000), [1000, 3000]);
    }

    #[test]
    fn a_busy_lane_keeps_its_turn_during_a_request() {
        let mut ledger = Ledger::new(8);
        let bulk = ledger.reserve(Lane::Bulk, ALL);
        ledger.reserve(Lane::Interactive, ALL);
        assert_eq!(bulk, 7);
        // While a request of the interactive lane is open, only the bulk lane reserves slots.
        for _ in 0..4 {
            ledger.release(Lane::Bulk);
        }
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 1);
        assert_eq!(ledger.reserve(Lane::Interactive, ALL), 3);
    }

    #[test]
    fn an_idle_lane_reserves_one_slot_and_leaves_the_rest() {
        let mut ledger = Ledger::new(8);
        assert_eq!(ledger.reserve(Lane::Interactive, Demand::Idle), 1);
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 7);
        for _ in 0..7 {
            ledger.release(Lane::Bulk);
        }
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 7);
        // Once its job has arrived, the lane is busy, and receives its share until no more jobs
        // arrive.
        assert_eq!(ledger.reserve(Lane::Interactive, ALL), 0);
        for _ in 0..4 {
            ledger.release(Lane::Bulk);
        }
        assert_eq!(ledger.reserve(Lane::Interactive, Demand::Idle), 1);
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 3);
    }

    #[test]
    fn with_two_slots_each_lane_has_its_own() {
        let mut ledger = Ledger::new(2);
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 1);
        assert_eq!(ledger.reserve(Lane::Interactive, ALL), 1);
        ledger.release(Lane::Interactive);
        assert_eq!(ledger.reserve(Lane::Bulk, ALL), 0);
        assert_eq!(ledger.reserve(Lane::Interactive, ALL), 1);
    }

    #[tokio::test]
    async fn a_waiting_lane_is_woken_by_a_slot_that_is_dropped() {
        let slots = Slots::new(2);
        let slot = slots.reserve(Lane::Bulk, ALL).await;
        let clone = slots.clone();
        let waiting = tokio::spawn(async move { clone.reserve(Lane::Bulk, ALL).await.len() });
        tokio::task::yield_now().await;
        drop(slot);
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
