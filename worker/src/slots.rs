//! Slots: how many jobs run at once, and how the lanes share that number.
//!
//! A lane is *busy* if its last request brought jobs, and reserves several slots then. While both
//! lanes are busy, slots that become free are assigned by turns, three to the interactive lane and
//! one to the bulk lane; a busy lane alone may have all slots but one. An idle lane reserves a
//! single slot, for the job that ends its wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wordmill_common::id::Lane;

/// The order in which lanes that both need slots are assigned them.
const TURNS: [Lane; 4] = [Lane::Interactive, Lane::Interactive, Lane::Interactive, Lane::Bulk];

/// The number of slots that a lane can use now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// One slot, to wait for a job.
    Idle,
    /// Up to this number of slots, and more right afterwards.
    Busy(usize),
}

/// The slots of a worker. Clones share them. Only one task at a time may reserve slots of a lane.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    state: Arc<SlotsState>,
}

/// The right to run one job, returned when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    state: Arc<SlotsState>,
    lane: Lane,
}

#[derive(Debug)]
struct SlotsState {
    ledger: Mutex<Ledger>,
    /// Notified when the interactive lane may find a free slot.
    interactive: Notify,
    /// The same for the bulk lane.
    bulk: Notify,
}

impl Slots {
    /// Creates `count` slots, but at least 2, one for each lane.
    pub(crate) fn new(count: u32) -> Self {
        let ledger = Mutex::new(Ledger::new(usize::try_from(count).unwrap_or(usize::MAX)));
        let state = SlotsState { ledger, interactive: Notify::new(), bulk: Notify::new() };
        Self { state: Arc::new(state) }
    }

    /// Waits for a free slot, and reserves as many as are free and in demand. Cancel-safe.
    pub(crate) async fn reserve(&self, lane: Lane, demand: Demand) -> Vec<Slot> {
        loop {
            let count = self.state.ledger().reserve(lane, demand);
            if count > 0 {
                // An idle lane leaves slots that had been assigned to it to the other lane.
                self.state.notify_of(other_lane(lane)).notify_one();
                let slot = || Slot { state: Arc::clone(&self.state), lane };
                return std::iter::repeat_with(slot).take(count).collect();
            }
            // A release between the two lines has left a permit, so this returns at once.
            self.state.notify_of(lane).notified().await;
        }
    }
}

impl SlotsState {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // The ledger is consistent between any two statements that could panic.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify_of(&self, lane: Lane) -> &Notify {
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
            self.state.notify_of(lane).notify_one();
        }
    }
}

/// The slots of each lane, and the free ones.
#[derive(Debug)]
struct Ledger {
    /// Most slots that one lane may have, so that the other always finds one.
    lane_max: usize,
    /// Free slots that are not assigned to a lane.
    free: usize,
    /// Index in [`TURNS`].
    turn: usize,
    interactive: Account,
    bulk: Account,
}

/// The slots of one lane.
#[derive(Debug, Default)]
struct Account {
    /// Slots that the lane has reserved.
    reserved: usize,
    /// Free slots that only this lane may reserve.
    assigned: usize,
    /// Whether the lane waits for a slot, or is busy and comes back for more.
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

    /// Reserves slots, and returns their number, which may be 0.
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
        let from_assigned = count.min(account.assigned);
        account.assigned -= from_assigned;
        account.reserved += count;
        // A lane without a slot waits for one, even if it is idle otherwise.
        account.has_demand = count == 0 || demand != Demand::Idle;
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

    /// Assigns free slots by turns while both lanes have demand and may have more. Otherwise free
    /// slots stay unassigned: the next lane that comes reserves them.
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

    /// Releases the oldest slot `rounds` times while both lanes are busy, and returns how many of
    /// them the bulk lane and the interactive lane have reserved.
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
        // During a request of the interactive lane only the bulk lane reserves slots.
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
        // When its job has arrived, it needs its share, until no more jobs arrive.
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
