//! Room for jobs: how many run at once, and how the lanes share it.
//!
//! A lane that is *busy*, because its last request brought something, wants room for several jobs.
//! While both are, slots that become free are assigned by turns, three to the interactive lane
//! and one to the bulk lane; a lane alone may have all but one. An idle lane holds a single slot,
//! for the job that ends its wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use wordmill_common::id::Lane;

/// Whose turn it is to be given a slot that both lanes want.
const TURNS: [Lane; 4] = [Lane::Interactive, Lane::Interactive, Lane::Interactive, Lane::Bulk];

/// How much room a lane wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// One slot, to wait with.
    Idle,
    /// As many slots as there are, up to this number, and more right afterwards.
    Busy(usize),
}

/// Room for running jobs. Clones share it; each lane is asked for by one task.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    shared: Arc<SlotsState>,
}

/// Room for one job, given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<SlotsState>,
    lane: Lane,
}

#[derive(Debug)]
struct SlotsState {
    books: Mutex<Books>,
    interactive: Notify,
    bulk: Notify,
}

impl Slots {
    /// Returns room for `count` jobs; at least 2, one for each lane.
    pub(crate) fn new(count: u32) -> Self {
        let books = Mutex::new(Books::new(usize::try_from(count).unwrap_or(usize::MAX)));
        let shared = SlotsState { books, interactive: Notify::new(), bulk: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Waits for room, at least for one job. Cancel-safe.
    pub(crate) async fn take(&self, lane: Lane, demand: Demand) -> Vec<Slot> {
        loop {
            let count = self.shared.books().take(lane, demand);
            if count > 0 {
                // What an idle lane leaves is for the other.
                self.shared.freed(other(lane)).notify_one();
                let slot = || Slot { shared: Arc::clone(&self.shared), lane };
                return std::iter::repeat_with(slot).take(count).collect();
            }
            // A release since then has left its permit.
            self.shared.freed(lane).notified().await;
        }
    }
}

impl SlotsState {
    fn books(&self) -> MutexGuard<'_, Books> {
        // They are consistent between any two statements that could panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn freed(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Interactive => &self.interactive,
            Lane::Bulk => &self.bulk,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.books().release(self.lane);
        for lane in Lane::ALL {
            self.shared.freed(lane).notify_one();
        }
    }
}

/// Who has what.
#[derive(Debug)]
struct Books {
    /// Most slots that one lane may have, so that the other always finds room.
    lane_max: usize,
    /// Free slots that nobody has been assigned.
    free: usize,
    /// Place in [`TURNS`].
    turn: usize,
    interactive: Account,
    bulk: Account,
}

#[derive(Debug, Default)]
struct Account {
    /// Slots that it has taken.
    held: usize,
    /// Free slots that only it may take.
    assigned: usize,
    /// It waits for room, or is busy and comes back for more.
    wants: bool,
}

impl Books {
    fn new(count: usize) -> Self {
        let count = count.max(2);
        let (interactive, bulk) = (Account::default(), Account::default());
        Self { lane_max: count - 1, free: count, turn: 0, interactive, bulk }
    }

    /// Takes room, perhaps none.
    fn take(&mut self, lane: Lane, demand: Demand) -> usize {
        self.account(lane).wants = true;
        self.assign();
        let most = match demand {
            Demand::Idle => 1,
            Demand::Busy(most) => most,
        };
        let (free, lane_max) = (self.free, self.lane_max);
        let account = self.account(lane);
        let room = lane_max.saturating_sub(account.held);
        let count = most.min(room).min(account.assigned.saturating_add(free));
        let of_assigned = count.min(account.assigned);
        account.assigned -= of_assigned;
        account.held += count;
        // Before it has any it waits.
        account.wants = count == 0 || demand != Demand::Idle;
        let left = if account.wants { 0 } else { std::mem::take(&mut account.assigned) };
        self.free = free + left - (count - of_assigned);
        count
    }

    fn release(&mut self, lane: Lane) {
        let account = self.account(lane);
        account.held = account.held.saturating_sub(1);
        self.free += 1;
        self.assign();
    }

    /// Assigns free slots by turns while both lanes want and may have them. Whatever is free
    /// otherwise is for whoever comes.
    fn assign(&mut self) {
        while self.free > 0
            && self.may_have_more(Lane::Interactive)
            && self.may_have_more(Lane::Bulk)
        {
            let lane = TURNS.get(self.turn).copied().unwrap_or_default();
            self.turn = (self.turn + 1) % TURNS.len();
            self.free -= 1;
            self.account(lane).assigned += 1;
        }
    }

    fn may_have_more(&mut self, lane: Lane) -> bool {
        let lane_max = self.lane_max;
        let account = self.account(lane);
        account.wants && account.held + account.assigned < lane_max
    }

    fn account(&mut self, lane: Lane) -> &mut Account {
        match lane {
            Lane::Interactive => &mut self.interactive,
            Lane::Bulk => &mut self.bulk,
        }
    }
}

fn other(lane: Lane) -> Lane {
    match lane {
        Lane::Interactive => Lane::Bulk,
        Lane::Bulk => Lane::Interactive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Demand = Demand::Busy(32);

    /// Lets both lanes be busy for `rounds` freed slots, the oldest first, and returns how many
    /// each was given.
    fn share(books: &mut Books, mut running: Vec<Lane>, rounds: usize) -> [usize; 2] {
        let mut given = [0, 0];
        for _ in 0..rounds {
            books.release(running.remove(0));
            for (lane, given) in [Lane::Bulk, Lane::Interactive].into_iter().zip(&mut given) {
                let count = books.take(lane, ALL);
                *given += count;
                running.extend(std::iter::repeat_n(lane, count));
            }
        }
        given
    }

    #[test]
    fn a_lane_leaves_room_for_the_other() {
        let mut books = Books::new(3);
        assert_eq!(books.take(Lane::Bulk, ALL), 2);
        assert_eq!(books.take(Lane::Bulk, ALL), 0);
        assert_eq!(books.take(Lane::Interactive, ALL), 1);
        assert_eq!(books.take(Lane::Interactive, ALL), 0);
        books.release(Lane::Bulk);
        assert_eq!(books.take(Lane::Interactive, ALL), 1);
    }

    #[test]
    fn busy_lanes_are_given_slots_three_to_one() {
        let mut books = Books::new(16);
        let mut running = vec![Lane::Bulk; books.take(Lane::Bulk, ALL)];
        running.extend(vec![Lane::Interactive; books.take(Lane::Interactive, ALL)]);
        assert_eq!(running.len(), 16);
        assert_eq!(share(&mut books, running, 4000), [1000, 3000]);
    }

    #[test]
    fn a_busy_lane_on_its_way_keeps_its_turn() {
        let mut books = Books::new(8);
        let bulk = books.take(Lane::Bulk, ALL);
        books.take(Lane::Interactive, ALL);
        assert_eq!(bulk, 7);
        // The interactive lane asks the broker just now; meanwhile only the bulk lane looks.
        for _ in 0..4 {
            books.release(Lane::Bulk);
        }
        assert_eq!(books.take(Lane::Bulk, ALL), 1);
        assert_eq!(books.take(Lane::Interactive, ALL), 3);
    }

    #[test]
    fn an_idle_lane_holds_one_slot_and_leaves_the_rest() {
        let mut books = Books::new(8);
        assert_eq!(books.take(Lane::Interactive, Demand::Idle), 1);
        assert_eq!(books.take(Lane::Bulk, ALL), 7);
        for _ in 0..7 {
            books.release(Lane::Bulk);
        }
        assert_eq!(books.take(Lane::Bulk, ALL), 7);
        // Once its job has come, it wants its share; when nothing more comes, no longer.
        assert_eq!(books.take(Lane::Interactive, ALL), 0);
        for _ in 0..4 {
            books.release(Lane::Bulk);
        }
        assert_eq!(books.take(Lane::Interactive, Demand::Idle), 1);
        assert_eq!(books.take(Lane::Bulk, ALL), 3);
    }

    #[test]
    fn with_two_slots_each_lane_has_its_own() {
        let mut books = Books::new(2);
        assert_eq!(books.take(Lane::Bulk, ALL), 1);
        assert_eq!(books.take(Lane::Interactive, ALL), 1);
        books.release(Lane::Interactive);
        assert_eq!(books.take(Lane::Bulk, ALL), 0);
        assert_eq!(books.take(Lane::Interactive, ALL), 1);
    }

    #[tokio::test]
    async fn a_waiting_lane_is_woken_by_a_slot_that_is_dropped() {
        let slots = Slots::new(2);
        let held = slots.take(Lane::Bulk, ALL).await;
        let waiting = slots.clone();
        let waiting = tokio::spawn(async move { waiting.take(Lane::Bulk, ALL).await.len() });
        tokio::task::yield_now().await;
        drop(held);
        assert_eq!(waiting.await.unwrap(), 1);
    }
}
