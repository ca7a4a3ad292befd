//! Deliveries in, results out: takes jobs off the queue, gets and counts their sources, and writes
//! what it found.
//!
//! [`run`] is the whole service. `lane` pulls jobs for free slots, `attempt` takes one delivery
//! from received to acknowledged, `execute` gets a source and counts it, and `webhooks` notifies
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
use wordmill_nats::connect::{Broker, Fatal};
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
use crate::lane_liveness::Pulse;
use crate::metrics::Metrics;
use crate::pull_loop::PullContext;
use crate::slots::Slots;

/// How long jobs may take to be handed back once the grace period is over.
const HAND_BACK_MAX: Duration = Duration::from_secs(5);

/// What every attempt works with. Each has a clone, so they share it.
#[derive(Clone)]
struct Worker(Arc<Parts>);

impl Deref for Worker {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of a [`Worker`].
struct Parts {
    name: String,
    broker: Broker,
    store: Store,
    results: Results,
    documents: Documents,
    dead_letters: DeadLetters,
    webhooks: Webhooks,
    fetcher: Fetcher,
    metrics: Metrics,
    retry: retry::Policy,
    attempt_deadline: Duration,
    /// Cancelled when the grace period is over: whatever still runs is handed back.
    interrupted: CancellationToken,
}

/// Why the service ended other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker is not one we can work with.
    #[error(transparent)]
    Broker(#[from] Fatal),
    /// Something could not be opened.
    #[error(transparent)]
    Open(#[from] wordmill_nats::Error),
    /// The fetcher's settings make no sense.
    #[error(transparent)]
    Fetcher(#[from] wordmill_fetch::SetupError),
}

/// Works until `shutdown`; then stops pulling, lets running work finish within the grace period, and
/// hands the rest back.
///
/// # Errors
/// See [`Error`]; a broker that is away is none.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let broker = Broker::start(&config.broker, &config.name).await?;
    let waiting = Health::Waiting("no connection to the broker: not yet".to_owned());
    let (health_sender, health) = watch::channel(waiting);
    let worker = Worker(Arc::new(Parts {
        name: config.name,
        store: Store::open(&broker, config.topology.result_ttl).await?,
        results: Results::open(&broker).await?,
        documents: Documents::open(&broker).await?,
        dead_letters: DeadLetters::open(&broker),
        webhooks: Webhooks::open(&broker).await?,
        fetcher: Fetcher::try_new(&config.fetch)?,
        metrics: Metrics::new(config.slots),
        retry: config.retry,
        attempt_deadline: config.attempt_deadline,
        interrupted: CancellationToken::new(),
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
    let liveness = Arc::new(Pulse::new());
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
    // Before the first delivery, whose acknowledgement is the first check.
    let checks = AckCheckReceiver::open(&broker).await?;
    let metrics = worker.metrics.clone();
    let vitals = Vitals { broker: broker.clone(), health, pulse: liveness, metrics };
    let presence = Presence::new(&broker);
    tokio::select! {
        result = pulling => result?,
        () = checks.watch(|queue, outcome| {
            worker.metrics.note_acknowledgement_check(queue, outcome);
        }) => {}
        () = report_presence(&worker, config.slots, &presence) => {}
        lost = broker.supervise(&needed, &health_sender) => lost?,
        () = health::serve(listener, config.client_timeout, vitals) => {}
    }
    presence.leave().await;
    broker.finish().await;
    info!("stopped");
    Ok(())
}

/// Says again and again what the worker does, for as long as it is polled.
async fn report_presence(worker: &Worker, slots: u32, presence: &Presence) {
    let mut ticks = tokio::time::interval(presence::TELL_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let [interactive, bulk] = busy(worker);
        presence
            .report(&WorkerReport { name: worker.name.clone(), slots, interactive, bulk })
            .await;
    }
}

/// Returns how many slots of each lane are busy.
fn busy(worker: &Worker) -> [u32; 2] {
    Lane::ALL.map(|lane| worker.metrics.busy_count(lane))
}

/// Returns how many jobs are running.
fn running(worker: &Worker) -> u32 {
    busy(worker).into_iter().sum()
}

/// Waits for running tasks, at most for `grace`, then interrupts them.
async fn finish(worker: &Worker, tasks: &TaskTracker, grace: Duration) {
    tasks.close();
    info!(running = running(worker), "no more jobs are taken; waiting for running ones");
    if tokio::time::timeout(grace, tasks.wait()).await.is_ok() {
        return;
    }
    info!(running = running(worker), "the grace period is over; handing jobs back");
    worker.interrupted.cancel();
    if tokio::time::timeout(HAND_BACK_MAX, tasks.wait()).await.is_err() {
        warn!(running = running(worker), "not handed back in time; the queue will notice");
    }
}
