//! The worker service: receives jobs from the queue, counts their sources, and stores the results.
//!
//! [`run`] is the whole service. `lane` pulls jobs for free slots, `attempt` processes one delivery
//! until it is acknowledged, `execute` obtains a source and counts it, and `webhooks` notifies
//! receivers of final jobs.

mod attempt;
mod batch_merge;
mod broker_retry;
pub mod config;
mod execute;
mod health;
mod keep_alive;
mod lane;
mod lane_liveness;
mod metrics;
mod outcome;
mod pull_loop;
mod result_storage;
mod slots;
mod spans;
pub mod webhooks;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use wordmill_common::id::Lane;
use wordmill_common::retry;
use wordmill_fetch::Fetcher;
use wordmill_nats::ack_checks::AckCheckReceiver;
use wordmill_nats::connect::{Broker, ConnectError};
use wordmill_nats::dead_letters::DeadLetters;
use wordmill_nats::documents::Documents;
use wordmill_nats::presence::{self, Presence, WorkerReport};
use wordmill_nats::results::Results;
use wordmill_nats::store::Store;
use wordmill_nats::supervise::Health;
use wordmill_nats::topology::{
    DEAD_JOBS, DOCUMENTS_STREAM, JOB_STATE_STREAM, JOBS, RESULTS_STREAM, Topology,
    WEBHOOK_STATE_STREAM, WEBHOOKS,
};
use wordmill_nats::webhooks::Webhooks;

use crate::config::Config;
use crate::health::Vitals;
use crate::lane::{LaneContext, SLOTLESS_JOBS_MAX};
use crate::lane_liveness::LaneLiveness;
use crate::metrics::Metrics;
use crate::pull_loop::PullContext;
use crate::slots::Slots;

/// Time limit for returning running jobs to the queue after the grace period.
const RETURN_TIME_MAX: Duration = Duration::from_secs(5);

/// Clients and settings that every attempt needs. Clones share them.
#[derive(Clone)]
struct Worker(Arc<WorkerState>);

impl Deref for Worker {
    type Target = WorkerState;

    fn deref(&self) -> &WorkerState {
        &self.0
    }
}

/// Shared state of a [`Worker`].
struct WorkerState {
    name: String,
    broker: Broker,
    store: Store,
    results: Results,
    documents: Documents,
    dead_letters: DeadLetters,
    webhooks: Webhooks,
    fetcher: Fetcher,
    metrics: Metrics,
    retry: retry::BackoffPolicy,
    attempt_deadline: Duration,
    /// Cancelled at the end of the grace period. Running attempts then return their jobs to the
    /// queue.
    interrupt: CancellationToken,
}

/// Error that ends the service without a shutdown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker cannot be used, for example because it is too old.
    #[error(transparent)]
    Broker(#[from] ConnectError),
    /// The broker did not answer at startup.
    #[error(transparent)]
    Open(#[from] wordmill_nats::Error),
    /// The settings of the fetcher are invalid.
    #[error(transparent)]
    Fetcher(#[from] wordmill_fetch::SetupError),
}

/// Runs the service until `shutdown` is cancelled. Then stops pulling, lets running jobs finish
/// within the grace period, and returns the others to the queue.
///
/// # Errors
/// See [`Error`]. A broker that is temporarily unreachable is not an error.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let broker = Broker::start(&config.broker, &config.name).await?;
    let waiting = Health::not_connected_yet();
    let (health_sender, health) = watch::channel(waiting);
    let worker = Worker(Arc::new(WorkerState {
        name: config.name,
        store: Store::open(&broker, config.topology.result_ttl),
        results: Results::open(&broker),
        documents: Documents::open(&broker),
        dead_letters: DeadLetters::open(&broker),
        webhooks: Webhooks::open(&broker),
        fetcher: Fetcher::try_new(&config.fetch)?,
        metrics: Metrics::new(config.slots),
        retry: config.retry,
        attempt_deadline: config.attempt_deadline,
        interrupt: CancellationToken::new(),
        broker: broker.clone(),
    }));
    let needed = Topology::new(&config.topology).part(&[
        JOBS,
        JOB_STATE_STREAM,
        RESULTS_STREAM,
        DOCUMENTS_STREAM,
        DEAD_JOBS,
        WEBHOOKS,
        WEBHOOK_STATE_STREAM,
    ]);
    let tasks = TaskTracker::new();
    let liveness = Arc::new(LaneLiveness::new());
    let pull_context = PullContext { tasks: tasks.clone(), health: health.clone(), stop: shutdown };
    let lane_context = LaneContext {
        slots: Slots::new(config.slots),
        small_jobs: Arc::new(Semaphore::new(SLOTLESS_JOBS_MAX)),
        liveness: Arc::clone(&liveness),
    };
    let pulling = async {
        let serve_lane = |lane| lane::serve(&worker, lane, &lane_context, &pull_context);
        let ((), (), result) = tokio::join!(
            serve_lane(Lane::Interactive),
            serve_lane(Lane::Bulk),
            webhooks::serve(&worker, &config.webhooks, &config.fetch, &pull_context),
        );
        finish(&worker, &tasks, config.shutdown_grace).await;
        result
    };
    // Opened before the first delivery, because the first acknowledgement is already checked.
    let checks = AckCheckReceiver::open(&broker).await?;
    let metrics = worker.metrics.clone();
    let vitals = Vitals { broker: broker.clone(), health, liveness, metrics };
    let presence = Presence::new(&broker);
    // The first branch that completes ends the service, and the others are dropped. After a
    // shutdown this is `pulling`, once all jobs have finished or been returned.
    tokio::select! {
        result = pulling => result?,
        () = checks.watch(|queue, outcome| {
            worker.metrics.record_ack_check(queue, outcome);
        }) => {}
        () = report_presence(&worker, config.slots, &presence) => {}
        result = broker.supervise(&needed, &health_sender) => result?,
        () = health::serve(listener, config.client_timeout, vitals) => {}
    }
    presence.remove().await;
    broker.finish().await;
    info!("worker stopped");
    Ok(())
}

/// Publishes the worker's presence every [`presence::REPORT_INTERVAL`], for as long as it is
/// polled.
async fn report_presence(worker: &Worker, slots: u32, presence: &Presence) {
    let mut ticks = tokio::time::interval(presence::REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let [interactive, bulk] = running_by_lane(worker);
        presence
            .publish(&WorkerReport { name: worker.name.clone(), slots, interactive, bulk })
            .await;
    }
}

/// Returns the number of running jobs of each lane.
fn running_by_lane(worker: &Worker) -> [u32; 2] {
    Lane::ALL.map(|lane| worker.metrics.running_count(lane))
}

/// Returns the number of running jobs.
fn running_count(worker: &Worker) -> u32 {
    running_by_lane(worker).into_iter().sum()
}

/// Waits up to `grace` for running tasks, then interrupts them and waits up to
/// [`RETURN_TIME_MAX`] until they have returned their jobs.
async fn finish(worker: &Worker, tasks: &TaskTracker, grace: Duration) {
    tasks.close();
    info!(running = running_count(worker), "waiting for running jobs");
    if tokio::time::timeout(grace, tasks.wait()).await.is_ok() {
        return;
    }
    info!(
        running = running_count(worker),
        "grace period expired; returning running jobs to the queue"
    );
    worker.interrupt.cancel();
    if tokio::time::timeout(RETURN_TIME_MAX, tasks.wait()).await.is_err() {
        warn!(
            running = running_count(worker),
            "some jobs were not returned in time; the broker redelivers them after the ack wait"
        );
    }
}
