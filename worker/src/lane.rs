//! Pulls one lane: asks for exactly as many jobs as there is room for.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use wordmill_common::id::Lane;
use wordmill_common::message::{self, JobMessage};
use wordmill_nats::delivery::{Delivery, PullSource};
use wordmill_nats::pull::{Pull, PullEvent, WhenEmpty};
use wordmill_nats::supervise::Health;

use crate::lane_liveness::Pulse;
use crate::metrics::Busy;
use crate::slots::{Demand, Slot, Slots};
use crate::{Worker, attempt, execute};

/// Most jobs that are asked for at once.
const BATCH_MAX: usize = 64;
/// How many times as many jobs are asked for after a request that was answered in full: there is more.
const REQUEST_GROWTH: usize = 8;
/// How many times as many as a request has brought that asked for more. What is asked for holds slots that
/// another lane may want.
const REQUEST_GROWTH_PARTIAL: usize = 2;
/// Most deliveries that one task deals with. While the broker has what some ask for, others are counted:
/// with all that arrive together in one task, each waits for the other a fifth of the time.
const COUNTED_TOGETHER_MAX: usize = 8;
/// Most jobs that a worker has in hand without a slot: texts that are counted at once. They only wait for the
/// broker, which takes less time for each the more of them come together.
pub(crate) const SLOTLESS_JOBS_MAX: usize = 192;
/// Wait after the broker refused or forgot a request.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a lane may have room and get nothing before it looks whether something waits. If so,
/// the pull is at fault, and made anew. Also the least time between two looks.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// What the lanes of a worker share.
#[derive(Clone)]
pub(crate) struct LaneContext {
    pub(crate) slots: Slots,
    /// Room for [`SLOTLESS_JOBS_MAX`] jobs, of whichever lane.
    pub(crate) quick: Arc<Semaphore>,
    pub(crate) attempts: TaskTracker,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) stop: CancellationToken,
}

/// Pulls until told to stop, then hands back what was on its way.
pub(crate) async fn serve(worker: &Worker, lane: Lane, shared: LaneContext) {
    let Some(pull) = open(worker, lane, &shared).await else {
        return;
    };
    let mut serving = Serving { worker, lane, shared, pull, quiet_since: Instant::now() };
    let mut demand = Demand::Idle;
    while let Some(room) = serving.wait_for_slots(demand).await {
        let asked = room.len();
        let brought = serving.fill(room, demand).await;
        demand = next_demand(asked, brought);
    }
    hand_back(lane, serving.pull.close().await).await;
}

/// Returns what to ask for after a request for so many jobs that has brought so many: as many as there may be,
/// but no room is held for those that will hardly come.
fn next_demand(asked: usize, brought: usize) -> Demand {
    match brought {
        0 => Demand::Idle,
        _ if brought >= asked => Demand::Busy((asked * REQUEST_GROWTH).min(BATCH_MAX)),
        _ => Demand::Busy((brought * REQUEST_GROWTH_PARTIAL).min(BATCH_MAX)),
    }
}

/// Opens the pull once the broker is ready. `None` means stop.
async fn open(worker: &Worker, lane: Lane, shared: &LaneContext) -> Option<Pull> {
    let mut health = shared.health.clone();
    let stop = &shared.stop;
    loop {
        let ready = health.wait_for(|health| *health == Health::Ready);
        unless_stopped(stop, ready).await?.ok()?;
        match Pull::open(&worker.broker, PullSource::Jobs(lane)).await {
            Ok(pull) => return Some(pull),
            Err(error) => warn!(%lane, %error, "cannot pull; trying again"),
        }
        unless_stopped(stop, tokio::time::sleep(PAUSE)).await?;
    }
}

/// A lane that is being pulled.
struct Serving<'a> {
    worker: &'a Worker,
    lane: Lane,
    shared: LaneContext,
    pull: Pull,
    /// Since when it has had room and got nothing, or looked for the last time.
    quiet_since: Instant,
}

impl Serving<'_> {
    /// Takes one slot, and if the lane is busy as many as it wants and may have. `None` means stop.
    async fn wait_for_slots(&mut self, demand: Demand) -> Option<Vec<Slot>> {
        if demand != Demand::Idle {
            // Whatever is about to end makes room, too, and one request for several jobs costs the broker
            // little more than one for a single job.
            tokio::task::yield_now().await;
        }
        let mut taking = std::pin::pin!(self.shared.slots.take(self.lane, demand));
        // Only a lane that has to wait is full.
        if let Some(room) = taking.as_mut().now_or_never() {
            return (!self.shared.stop.is_cancelled()).then_some(room);
        }
        self.shared.pulse.is_full(self.lane);
        let room = unless_stopped(&self.shared.stop, taking).await?;
        self.quiet_since = Instant::now();
        Some(room)
    }

    /// Asks once for what there is room for, and starts what comes. Returns how many jobs did.
    async fn fill(&mut self, mut room: Vec<Slot>, demand: Demand) -> usize {
        let when_empty = match demand {
            Demand::Idle => WhenEmpty::Wait,
            Demand::Busy(_) => WhenEmpty::Linger,
        };
        self.shared.pulse.asks(self.lane);
        if let Err(error) = self.pull.request(room.len(), when_empty).await {
            self.pause(&error).await;
            return 0;
        }
        let (mut brought, mut arrived) = (0, Vec::new());
        loop {
            // What arrives at once is begun together, and waits for nothing else.
            let pulled = match self.pull.next().now_or_never() {
                Some(pulled) => pulled,
                None => {
                    self.start(std::mem::take(&mut arrived));
                    match unless_stopped(&self.shared.stop, self.pull.next()).await {
                        Some(pulled) => pulled,
                        None => break,
                    }
                }
            };
            let is_delivery = matches!(pulled, Ok(PullEvent::Delivery(_)));
            if !is_delivery || arrived.len() >= COUNTED_TOGETHER_MAX {
                self.start(std::mem::take(&mut arrived));
            }
            if pulled.is_ok() {
                self.shared.pulse.heard(self.lane);
            }
            match pulled {
                Ok(PullEvent::Delivery(delivery)) => {
                    brought += 1;
                    self.quiet_since = Instant::now();
                    let (room, busy) =
                        (SlotGuard::Slot(room.pop()), self.worker.metrics.busy(self.lane));
                    arrived.push(ReceivedJob { delivery: *delivery, room, _busy: busy });
                }
                Ok(PullEvent::Heartbeat) => {
                    if self.rebuild_if_stuck().await {
                        break;
                    }
                }
                Ok(PullEvent::Done) => break,
                Err(error) => {
                    self.rebuild_if_stuck().await;
                    self.pause(&error).await;
                    break;
                }
            }
        }
        brought
    }

    /// Begins with deliveries that arrived together.
    fn start(&self, arrived: Vec<ReceivedJob>) {
        if !arrived.is_empty() {
            let (worker, shared) = (self.worker.clone(), self.shared.clone());
            self.shared.attempts.spawn(count_together(worker, shared, arrived));
        }
    }

    /// Makes the pull anew if it has been quiet for long although something waits. Returns whether
    /// it did.
    async fn rebuild_if_stuck(&mut self) -> bool {
        let quiet = self.quiet_since.elapsed();
        if quiet < SILENCE_MAX {
            return false;
        }
        self.quiet_since = Instant::now();
        let pending = match self.pull.pending().await {
            Ok(0) => return false,
            Ok(pending) => pending,
            Err(error) => {
                debug!(lane = %self.lane, %error, "cannot look whether something waits");
                return false;
            }
        };
        let quiet_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        warn!(lane = %self.lane, pending, quiet_ms, "jobs wait and none comes; pulling anew");
        match Pull::open(&self.worker.broker, PullSource::Jobs(self.lane)).await {
            Ok(pull) => {
                let old = std::mem::replace(&mut self.pull, pull);
                hand_back(self.lane, old.close().await).await;
                true
            }
            Err(error) => {
                warn!(lane = %self.lane, %error, "cannot pull anew");
                false
            }
        }
    }

    async fn pause(&self, error: &wordmill_nats::Error) {
        debug!(lane = %self.lane, %error, "pulling again");
        unless_stopped(&self.shared.stop, tokio::time::sleep(PAUSE)).await;
    }
}

/// A delivery that nobody has looked at yet, and what it holds until it is dealt with.
struct ReceivedJob {
    delivery: Delivery,
    room: SlotGuard,
    _busy: Busy,
}

/// What is held for a job in hand, and given back when dropped.
enum SlotGuard {
    #[expect(dead_code, reason = "held")]
    Slot(Option<Slot>),
    #[expect(dead_code, reason = "held")]
    Quick(OwnedSemaphorePermit),
}

impl ReceivedJob {
    /// Leaves the slot to others if there is room for a quick job.
    fn leave_slot(&mut self, quick: &Arc<Semaphore>) {
        if let Ok(permit) = Arc::clone(quick).try_acquire_owned() {
            self.room = SlotGuard::Quick(permit);
        }
    }

    async fn handle(self, worker: Worker, message: Result<JobMessage, message::Error>) {
        attempt::run(&worker, &self.delivery, message).await;
    }
}

/// Deals with deliveries side by side: with those that take no time in this task, with each other in one
/// of its own.
///
/// What one task asks the broker for goes out in one piece, and the answers come back in one. With a task
/// for each delivery, the first to run sends alone, and wakes another thread to run the next.
async fn count_together(worker: Worker, shared: LaneContext, arrived: Vec<ReceivedJob>) {
    let mut quick = FuturesUnordered::new();
    for mut arrived in arrived {
        let message = JobMessage::parse(arrived.delivery.payload());
        let is_quick = message.as_ref().is_ok_and(execute::is_counted_at_once);
        if is_quick {
            arrived.leave_slot(&shared.quick);
        }
        let handling = arrived.handle(worker.clone(), message);
        if is_quick {
            // As a task would: a panic is this delivery's own, which comes again.
            quick.push(AssertUnwindSafe(handling).catch_unwind());
        } else {
            shared.attempts.spawn(handling);
        }
    }
    while quick.next().await.is_some() {}
}

pub(crate) async fn unless_stopped<T>(
    stop: &CancellationToken,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        output = future => Some(output),
    }
}

/// Gives back what had not started.
async fn hand_back(lane: Lane, late: Vec<Delivery>) {
    for delivery in late {
        if let Err(error) = delivery.give_back(None).await {
            debug!(%lane, %error, "a delivery that had not started comes again later");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_asked_for_more_than_it_brought_and_for_little_more_if_that_was_all() {
        // A backlog is met at full size after two requests.
        assert_eq!(next_demand(1, 1), Demand::Busy(8));
        assert_eq!(next_demand(8, 8), Demand::Busy(BATCH_MAX));
        assert_eq!(next_demand(BATCH_MAX, BATCH_MAX), Demand::Busy(BATCH_MAX));
        assert_eq!(next_demand(8, 1), Demand::Busy(2));
        assert_eq!(next_demand(BATCH_MAX, BATCH_MAX - 1), Demand::Busy(BATCH_MAX));
        assert_eq!(next_demand(BATCH_MAX, 20), Demand::Busy(40));
        for asked in [1, 8, BATCH_MAX] {
            assert_eq!(next_demand(asked, 0), Demand::Idle);
        }
    }
}
