//! HTTP in, queue out: takes jobs, tells how they are doing, hands out results. Never counts.
//!
//! [`run`] is the whole service; `routes` maps paths to handlers, and `problem` alone turns errors
//! into HTTP answers.

mod body;
mod caller;
mod cancel;
pub mod config;
pub mod cors;
mod cursor;
mod dead_letters;
mod events;
mod format;
mod gauge;
mod health;
mod jobs;
mod keyed;
mod listen;
mod listing;
mod lookup;
mod metrics;
mod problem;
mod queue_view;
mod result;
mod retry;
mod room;
mod routes;
mod standing;
mod submit;
mod sweeper;
mod trace;
mod view;
mod waiting;
mod word_count;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wordmill_nats::connect::{Broker, Fatal, Health};
use wordmill_nats::dead::Archive;
use wordmill_nats::listing::Listing;
use wordmill_nats::queue::Queue;
use wordmill_nats::results::Results;
use wordmill_nats::store::Store;
use wordmill_nats::topology::{DEAD_JOBS, JOB_STATE_STREAM, JOBS, RESULTS_STREAM, Topology};

use crate::config::Config;
use crate::gauge::Gauge;
use crate::listen::Unstalled;
use crate::metrics::Metrics;
use crate::room::Room;
use crate::standing::Standing;
use crate::waiting::Waiters;

/// Longest time that a request may spend on the broker; its answer comes within 3 s.
const BROKER_DEADLINE: Duration = Duration::from_millis(2500);

/// What every handler works with. There are dozens of clones for each connection, so they share it.
#[derive(Debug, Clone)]
struct App(Arc<Parts>);

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// The parts of an [`App`].
#[derive(Debug)]
struct Parts {
    broker: Broker,
    queue: Queue,
    store: Store,
    listing: Listing,
    results: Results,
    dead_letters: Archive,
    gauge: Gauge,
    metrics: Metrics,
    room: Room,
    waiters: Waiters,
    health: watch::Receiver<Health>,
    json_size_max: usize,
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
    /// The listener failed.
    #[error("cannot serve HTTP: {0}")]
    Serve(#[from] std::io::Error),
}

/// Serves until `shutdown`, then lets open requests finish within the grace period.
///
/// # Errors
/// See [`Error`]; a broker that is away is none.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let broker = Broker::start(&config.broker, "wordmill-gateway").await?;
    let waiting = Health::Waiting("no connection to the broker: not yet".to_owned());
    let (health_sender, health) = watch::channel(waiting);
    let (readings, gauge) = Gauge::new();
    let queue = Queue::open(&broker).await?;
    let dead_letters = Archive::open(&broker).await?;
    let standing = Standing::new(gauge.clone());
    let metrics = Metrics::new(&standing);
    let app = App(Arc::new(Parts {
        queue: queue.clone(),
        store: Store::open(&broker, config.topology.result_ttl).await?,
        listing: Listing::open(&broker).await?,
        results: Results::open(&broker).await?,
        dead_letters: dead_letters.clone(),
        gauge,
        metrics: metrics.clone(),
        room: Room::new(),
        waiters: Waiters::new(config.waiters_max, shutdown.clone()),
        broker: broker.clone(),
        health,
        json_size_max: usize::try_from(config.json_size_max).unwrap_or(usize::MAX),
    }));
    let needed =
        Topology::new(&config.topology).part(&[JOBS, JOB_STATE_STREAM, RESULTS_STREAM, DEAD_JOBS]);

    let stop = shutdown.clone();
    let serving = axum::serve(Unstalled(listener), routes::router(app, &config.cors_origins))
        .with_graceful_shutdown(async move { stop.cancelled().await });
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(config.shutdown_grace).await;
    };
    let sweeping = shutdown.child_token();
    let serving = async {
        tokio::select! {
            served = serving => served?,
            lost = broker.supervise(&needed, &health_sender) => lost?,
            () = gauge::watch(&queue, &readings) => {}
            () = standing::watch(&broker, &queue, &dead_letters, &standing) => {}
            () = drained => {
                warn!("the grace period is over; requests that are still open are cut off");
            }
        }
        Ok(())
    };
    let serving = async {
        let ended: Result<(), Error> = serving.await;
        sweeping.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(serving, sweeper::run(&config, &sweeping, &standing, &metrics));
    ended?;
    broker.finish().await;
    info!("stopped");
    Ok(())
}
