//! Pulls the jobs of one lane and starts them.
//!
//! The size of each request depends on the answer to the previous one: it grows while the lane has
//! a backlog, and returns to one job when nothing arrives. Jobs that arrive together are processed
//! in groups. Small jobs exchange their slot for a permit, so that the slot is free for other jobs.

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

/// Maximum number of jobs per request.
const REQUEST_JOBS_MAX: usize = 64;
/// Factor by which the request size grows after a request that was answered in full, because more
/// jobs are probably waiting. For example, a backlog is requested as 1, 8, then 64 jobs.
const REQUEST_GROWTH: usize = 8;
/// Size of the next request after one that was answered in part, as a multiple of the jobs that
/// arrived. Small, because requested jobs reserve slots that the other lane may need. For example,
/// if 5 of 64 jobs arrived, the next request is for 10.
const REQUEST_GROWTH_PARTIAL: usize = 2;
/// Maximum number of jobs that one task processes together. Bounded, so that the counting of one
/// group overlaps with the broker round trips of another: the CPUs were idle 22 % of the time with
/// 32 jobs, and 17 % with 8 (docs/adr/0032).
const GROUP_JOBS_MAX: usize = 8;
/// Maximum number of small jobs that a worker processes without a slot. They mostly wait for the
/// broker, which needs less time per job if many of them arrive together.
pub(crate) const SLOTLESS_JOBS_MAX: usize = 192;

/// State shared by the lanes of a worker, in addition to the [`PullContext`].
pub(crate) struct LaneContext {
    pub(crate) slots: Slots,
    /// [`SLOTLESS_JOBS_MAX`] permits for small jobs, shared by both lanes.
    pub(crate) small_jobs: Arc<Semaphore>,
    pub(crate) liveness: Arc<LaneLiveness>,
}

/// Pulls the jobs of a lane until the worker stops, then returns to the queue the deliveries that
/// have not started.
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
/// A backlog reaches the maximum request size after two full answers. After a partial answer the
/// demand is small, so that a lane does not reserve slots for jobs that are unlikely to arrive.
fn next_demand(requested: usize, received: usize) -> Demand {
    match received {
        0 => Demand::Idle,
        _ if received >= requested => {
            Demand::Busy((requested * REQUEST_GROWTH).min(REQUEST_JOBS_MAX))
        }
        _ => Demand::Busy((received * REQUEST_GROWTH_PARTIAL).min(REQUEST_JOBS_MAX)),
    }
}

/// [`DeliveryHandler`] of one lane.
struct LaneHandler<'a> {
    worker: &'a Worker,
    lane: Lane,
    context: &'a LaneContext,
    tasks: &'a TaskTracker,
    /// Demand for slots of the next request.
    demand: Demand,
    /// Jobs that arrived together and have not started yet, at most [`GROUP_JOBS_MAX`].
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

    fn on_request_end(&mut self, requested: usize, received: usize) {
        self.demand = next_demand(requested, received);
    }

    fn is_busy(&self) -> bool {
        self.demand != Demand::Idle
    }

    fn on_slots_in_use(&self) {
        self.context.liveness.record_slots_in_use(self.lane);
    }

    fn on_request(&self) {
        self.context.liveness.record_request(self.lane);
    }

    fn on_answer(&self) {
        self.context.liveness.record_answer(self.lane);
    }
}

/// Delivered job, with the guards that it holds until it has been processed.
struct ReceivedJob {
    delivery: Delivery,
    slot: SlotGuard,
    _running: RunningJob,
}

/// Right to process a job, released on drop.
enum SlotGuard {
    #[expect(dead_code, reason = "released on drop")]
    Slot(Option<Slot>),
    #[expect(dead_code, reason = "released on drop")]
    SmallJob(OwnedSemaphorePermit),
}

impl ReceivedJob {
    /// Exchanges the slot for the permit of a small job if one is free. Otherwise the job keeps its
    /// slot.
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

/// Processes jobs that arrived together: the small ones concurrently in this task, each large one
/// in its own task.
///
/// The requests of one task to the broker are sent in one write, and the answers arrive together.
/// With one task per delivery, the first would send its request alone, and wake another thread for
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
            // Exchange the slot for a permit of small jobs, so that a large job can use the slot.
            job.free_slot(&small_jobs);
        }
        let attempt = job.process(worker.clone(), message, size);
        match size {
            // A panic ends only its own delivery, as in a task. The broker redelivers the job.
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
