//! Pulls the jobs of one lane, and starts them.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use wordmill_common::id::Lane;
use wordmill_common::message::{self, JobMessage};
use wordmill_nats::delivery::{Delivery, PullSource};

use crate::execute::JobSize;
use crate::lane_liveness::LaneLiveness;
use crate::metrics::RunningJob;
use crate::pull_loop::{self, DeliveryHandler, PullContext};
use crate::slots::{Demand, Slot, Slots};
use crate::{Worker, attempt};

/// Most jobs of one request.
const REQUEST_JOBS_MAX: usize = 64;
/// After a request that was answered in full, the next one names this multiple of jobs, because
/// more are probably waiting. Example: 1 job, then 8, then 64.
const REQUEST_GROWTH: usize = 8;
/// After a request that was answered in part, the next one names this multiple of the jobs that
/// arrived. Small, because requested jobs reserve slots that the other lane may need. Example: 5 of
/// 64 arrived, so the next request names 10.
const REQUEST_GROWTH_PARTIAL: usize = 2;
/// Most jobs that one task counts together. Bounded, so that the counting of one group overlaps
/// with the broker round trips of another: with 32 the CPUs were idle 22 % of the time, with 8
/// 17 % (docs/adr/0032).
const GROUP_JOBS_MAX: usize = 8;
/// Most small jobs that a worker processes without a slot. They only wait for the broker, which
/// needs less time for each job the more of them arrive together.
pub(crate) const SLOTLESS_JOBS_MAX: usize = 192;

/// The parts of a worker that its lanes share, besides the [`PullContext`].
pub(crate) struct LaneContext {
    pub(crate) slots: Slots,
    /// Permits for [`SLOTLESS_JOBS_MAX`] small jobs, of both lanes together.
    pub(crate) small_jobs: Arc<Semaphore>,
    pub(crate) liveness: Arc<LaneLiveness>,
}

/// Pulls the jobs of a lane until the worker stops, then hands back those that have not started.
pub(crate) async fn serve(worker: &Worker, lane: Lane, context: &LaneContext, pull: &PullContext) {
    let handler = LaneHandler {
        worker,
        lane,
        context,
        tasks: &pull.tasks,
        demand: Demand::Idle,
        received: Vec::new(),
    };
    pull_loop::run(&worker.broker, pull, handler).await;
}

/// Returns the demand after a request for `requested` jobs of which `received` arrived.
///
/// The demand grows quickly, so that a backlog is requested at full size after two requests. A lane
/// does not reserve slots for jobs that are unlikely to arrive.
fn next_demand(requested: usize, received: usize) -> Demand {
    match received {
        0 => Demand::Idle,
        _ if received >= requested => {
            Demand::Busy((requested * REQUEST_GROWTH).min(REQUEST_JOBS_MAX))
        }
        _ => Demand::Busy((received * REQUEST_GROWTH_PARTIAL).min(REQUEST_JOBS_MAX)),
    }
}

/// Starts the jobs of one lane.
struct LaneHandler<'a> {
    worker: &'a Worker,
    lane: Lane,
    context: &'a LaneContext,
    tasks: &'a TaskTracker,
    /// The number of slots to reserve for the next request.
    demand: Demand,
    /// Jobs that have arrived together, and are about to be started.
    received: Vec<ReceivedJob>,
}

impl DeliveryHandler for LaneHandler<'_> {
    type Slot = Slot;

    fn source(&self) -> PullSource {
        PullSource::Jobs(self.lane)
    }

    async fn reserve_slots(&self) -> Vec<Slot> {
        self.context.slots.reserve(self.lane, self.demand).await
    }

    fn receive(&mut self, delivery: Delivery, slot: Option<Slot>) {
        if self.received.len() >= GROUP_JOBS_MAX {
            self.start_received();
        }
        self.received.push(ReceivedJob {
            delivery,
            slot: SlotGuard::Slot(slot),
            _running: self.worker.metrics.begin_job(self.lane),
        });
    }

    fn start_received(&mut self) {
        if self.received.is_empty() {
            return;
        }
        let worker = self.worker.clone();
        let tasks = self.tasks.clone();
        let small_jobs = Arc::clone(&self.context.small_jobs);
        let received = std::mem::take(&mut self.received);
        self.tasks.spawn(process_group(worker, tasks, small_jobs, received));
    }

    fn end_request(&mut self, requested: usize, received: usize) {
        self.demand = next_demand(requested, received);
    }

    fn is_busy(&self) -> bool {
        self.demand != Demand::Idle
    }

    fn note_full(&self) {
        self.context.liveness.note_full(self.lane);
    }

    fn note_request(&self) {
        self.context.liveness.note_request(self.lane);
    }

    fn note_answer(&self) {
        self.context.liveness.note_answer(self.lane);
    }
}

/// A job that has arrived, with the guards that it holds until it has been processed.
struct ReceivedJob {
    delivery: Delivery,
    slot: SlotGuard,
    _running: RunningJob,
}

/// The right to process a job, returned when dropped.
enum SlotGuard {
    #[expect(dead_code, reason = "returned when dropped")]
    Slot(Option<Slot>),
    #[expect(dead_code, reason = "returned when dropped")]
    SmallJob(OwnedSemaphorePermit),
}

impl ReceivedJob {
    /// Exchanges the slot for the permit of a small job, if there is one.
    fn free_slot(&mut self, small_jobs: &Arc<Semaphore>) {
        if let Ok(permit) = Arc::clone(small_jobs).try_acquire_owned() {
            self.slot = SlotGuard::SmallJob(permit);
        }
    }

    async fn process(
        self,
        worker: Worker,
        message: Result<JobMessage, message::Error>,
        size: JobSize,
    ) {
        attempt::run(&worker, &self.delivery, message, size).await;
    }
}

/// Processes jobs that arrived together: the small ones side by side in this task, each other one
/// in a task of its own.
///
/// The requests of one task to the broker leave in one write, and their answers arrive together.
/// With a task for each delivery, the first one would send alone, and wake another thread to run
/// the next.
async fn process_group(
    worker: Worker,
    tasks: TaskTracker,
    small_jobs: Arc<Semaphore>,
    received: Vec<ReceivedJob>,
) {
    let mut small = FuturesUnordered::new();
    for mut job in received {
        let message = JobMessage::parse(job.delivery.payload());
        let size = message.as_ref().map_or(JobSize::Large, JobSize::of);
        if size == JobSize::Small {
            job.free_slot(&small_jobs);
        }
        let attempt = job.process(worker.clone(), message, size);
        match size {
            // A panic ends its own delivery only, as in a task; the broker redelivers the job.
            JobSize::Small => small.push(AssertUnwindSafe(attempt).catch_unwind()),
            JobSize::Large => {
                tasks.spawn(attempt);
            }
        }
    }
    while small.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_grows_eightfold_after_a_full_answer_and_twofold_after_a_partial_one() {
        assert_eq!(next_demand(1, 1), Demand::Busy(8));
        assert_eq!(next_demand(8, 8), Demand::Busy(64));
        assert_eq!(next_demand(64, 64), Demand::Busy(64));
        assert_eq!(next_demand(8, 1), Demand::Busy(2));
        assert_eq!(next_demand(64, 63), Demand::Busy(64));
        assert_eq!(next_demand(64, 20), Demand::Busy(40));
    }

    #[test]
    fn a_request_without_an_answer_makes_a_lane_idle() {
        for requested in [1, 8, 64] {
            assert_eq!(next_demand(requested, 0), Demand::Idle);
        }
    }
}
