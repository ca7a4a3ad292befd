//! The HTTP API of Wordmill: validates and enqueues jobs, reports their state and serves results.
//! The workers do the counting.
//!
//! [`run`] is the whole service. `routes` maps paths to handlers, and `http::problem` maps every
//! error to an HTTP response.

mod api;
pub mod auth;
pub mod config;
mod enqueue;
pub mod http;
pub mod intake;
mod metrics;
mod queue_status;
mod read;
mod routes;
mod spec;
mod sweeper;
mod ui;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use wordmill_common::id::JobKey;
use wordmill_common::job::Job;
use wordmill_nats::connect::{Broker, ConnectError};
use wordmill_nats::dead_letters::Archive;
use wordmill_nats::documents::Documents;
use wordmill_nats::job_record::RawRecord;
use wordmill_nats::listing::Listing;
use wordmill_nats::queue::Queue;
use wordmill_nats::results::Results;
use wordmill_nats::store::Store;
use wordmill_nats::supervise::Health;
use wordmill_nats::topology::{
    DEAD_JOBS, DOCUMENTS_STREAM, JOB_STATE_STREAM, JOBS, RESULTS_STREAM, Topology,
    WEBHOOK_STATE_STREAM, WEBHOOKS,
};
use wordmill_nats::webhooks::Webhooks;
use wordmill_service::server::serve;

use crate::auth::api_keys::{self, Keys};
use crate::config::Config;
use crate::enqueue::backpressure::{self, Backpressure};
use crate::enqueue::in_flight_budget::InFlightBudget;
use crate::http::browser::BrowserPolicy;
use crate::http::reload::{self, FileWatch};
use crate::http::tls::{self, Tls};
use crate::http::{request_trace, server};
use crate::intake::upload::Uploads;
use crate::metrics::Metrics;
use crate::queue_status::QueueStatus;
use crate::read::follow::Waiters;
use crate::read::job_view::JobView;
use crate::spec::openapi::{Access, Description};

/// Maximum time at shutdown for removing the documents of interrupted uploads.
const CLEAN_UP_TIME_MAX: Duration = Duration::from_secs(5);

/// Streams that must exist before the gateway is ready.
const REQUIRED_STREAMS: [&str; 7] = [
    JOBS,
    JOB_STATE_STREAM,
    RESULTS_STREAM,
    DOCUMENTS_STREAM,
    DEAD_JOBS,
    WEBHOOKS,
    WEBHOOK_STATE_STREAM,
];

/// State that all handlers share. Each connection makes dozens of clones, so it is reference
/// counted.
#[derive(Debug, Clone)]
struct App(Arc<AppState>);

impl Deref for App {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0
    }
}

/// The fields of an [`App`].
#[derive(Debug)]
struct AppState {
    keys: Keys,
    /// Checks requests from browsers. Used only if the gateway has no API keys.
    browser_policy: BrowserPolicy,
    broker: Broker,
    queue: Queue,
    store: Store,
    listing: Listing,
    results: Results,
    dead_letters: Archive,
    backpressure: Backpressure,
    metrics: Metrics,
    in_flight_budget: InFlightBudget,
    description: Description,
    trace: request_trace::Settings,
    /// URL scheme that spans record: `http`, or `https` with a certificate.
    scheme: &'static str,
    uploads: Uploads,
    waiters: Waiters,
    webhooks: Webhooks,
    /// Whether `WORDMILL_WEBHOOK_SECRETS` is set. If not, jobs with a webhook are refused.
    webhooks_enabled: bool,
    health: watch::Receiver<Health>,
    json_size_max: usize,
    /// Number of replicas of each record. With more than one, a read from a replica may be
    /// outdated.
    replicas: u32,
}

impl App {
    /// Returns the API representation of a job.
    fn view<'a>(&self, job: &'a Job) -> JobView<'a> {
        JobView::of(job).with_trace_link(&self.trace)
    }

    /// Returns the API representation of a stored record.
    ///
    /// # Errors
    /// [`Corrupt`](wordmill_nats::Error::Corrupt) if the value is not a valid record, and
    /// [`Newer`](wordmill_nats::Error::Newer) if its format is newer than this version.
    fn view_record<'a>(
        &self,
        record: &'a RawRecord,
        key: &JobKey,
    ) -> Result<JobView<'a>, wordmill_nats::Error> {
        Ok(JobView::read(record, key)?.with_trace_link(&self.trace))
    }
}

/// Reason why the service stopped without a shutdown signal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker cannot be used, for example because it is too old or has no JetStream.
    #[error(transparent)]
    Broker(#[from] ConnectError),
    /// A request to the broker failed.
    #[error(transparent)]
    Open(#[from] wordmill_nats::Error),
    /// The API keys or the TLS certificate cannot be used.
    #[error(transparent)]
    Files(#[from] reload::Error),
}

/// Runs the gateway until `shutdown` is cancelled, then drains open requests within the grace
/// period.
///
/// # Errors
/// See [`Error`]. An unreachable broker is not an error: the gateway reports that it is not ready,
/// and keeps trying.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let (keys, following_keys) = open_keys(&config).await?;
    let (tls, following_certificate) = open_tls(&config).await?;
    // From here on, SIGHUP reloads the keys and the certificate.
    log_start(&listener, &config);
    let broker = Broker::start(&config.broker, "wordmill-gateway").await?;
    let waiting = Health::not_connected_yet();
    let (health_sender, health) = watch::channel(waiting);
    let (readings, backpressure) = Backpressure::new();
    let queue_status = QueueStatus::new(backpressure.clone());
    let metrics = Metrics::new(&queue_status);
    let access = if keys.table().is_some() { Access::Keyed } else { Access::Open };
    let app = App(Arc::new(AppState {
        browser_policy: BrowserPolicy::new(config.hosts.clone(), config.cors_origins.clone()),
        description: Description::new(access),
        keys,
        queue: Queue::open(&broker),
        store: Store::open(&broker, config.topology.result_ttl),
        listing: Listing::open(&broker),
        results: Results::open(&broker),
        dead_letters: Archive::open(&broker),
        backpressure,
        metrics: metrics.clone(),
        in_flight_budget: InFlightBudget::new(),
        trace: config.trace.clone(),
        scheme: if config.tls.is_some() { "https" } else { "http" },
        uploads: Uploads::new(Documents::open(&broker), config.uploads),
        waiters: Waiters::new(config.waiters_max, shutdown.clone()),
        webhooks: Webhooks::open(&broker),
        webhooks_enabled: config.webhooks.is_some(),
        broker: broker.clone(),
        health,
        json_size_max: usize::try_from(config.json_size_max).unwrap_or(usize::MAX),
        replicas: config.topology.replicas,
    }));
    let needed = Topology::new(&config.topology).part(&REQUIRED_STREAMS);
    let serving = serve_http(listener, app.clone(), &config, tls, shutdown.clone());
    let grace_expired = wait_for_grace(&shutdown, config.shutdown_grace);
    let sweeping = shutdown.child_token();
    let serving = async {
        tokio::select! {
            () = serving => {}
            lost = broker.supervise(&needed, &health_sender) => lost?,
            () = backpressure::poll_level(&app.queue, &readings) => {}
            () = follow(following_keys) => {}
            () = follow(following_certificate) => {}
            () = queue_status::poll_status(&app, &queue_status) => {}
            () = grace_expired => {
                warn!("grace period expired; closing open requests");
            }
        }
        Ok(())
    };
    // Stop the sweeper even if the server fails.
    let serving = async {
        let ended: Result<(), Error> = serving.await;
        sweeping.cancel();
        ended
    };
    let (ended, ()) =
        tokio::join!(serving, sweeper::run(&config, &sweeping, &queue_status, &metrics));
    ended?;
    if tokio::time::timeout(CLEAN_UP_TIME_MAX, app.uploads.finish()).await.is_err() {
        warn!(
            "cannot remove documents of interrupted uploads in time; leaving them to the sweeper"
        );
    }
    broker.finish().await;
    info!("gateway stopped");
    Ok(())
}

/// Logs the address on which the gateway listens.
fn log_start(listener: &TcpListener, config: &Config) {
    info!(
        address = listener.local_addr().ok().map(tracing::field::display),
        broker = config.broker.url,
        version = env!("CARGO_PKG_VERSION"),
        "gateway listening"
    );
}

/// Serves HTTP until `shutdown` is cancelled.
async fn serve_http(
    listener: TcpListener,
    app: App,
    config: &Config,
    tls: Option<Tls>,
    shutdown: CancellationToken,
) {
    let service = routes::service(app, config);
    let make_service = |connection| routes::connection_service(service.clone(), connection);
    let settings = server::settings(config.connections_max, config.client_timeout, tls);
    serve(listener, make_service, settings, shutdown).await;
}

/// Waits for `shutdown` and then for the grace period.
async fn wait_for_grace(shutdown: &CancellationToken, grace: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(grace).await;
}

/// Reads the API keys, if `WORDMILL_KEYS_FILE` is set.
async fn open_keys(config: &Config) -> Result<(Keys, Option<FileWatch<api_keys::Table>>), Error> {
    let Some(path) = &config.keys_file else {
        info!("no API keys configured: every client has full access as the owner public");
        return Ok((Keys(None), None));
    };
    let opened = FileWatch::open("API keys", vec![path.clone()], api_keys::parse).await?;
    let (followed, table) = opened;
    Ok((Keys(Some(table)), Some(followed)))
}

/// Reads the TLS certificate and its key, if they are configured.
async fn open_tls(
    config: &Config,
) -> Result<(Option<Tls>, Option<FileWatch<tls::ServerConfig>>), Error> {
    let Some(files) = &config.tls else { return Ok((None, None)) };
    let paths = vec![files.certificate.clone(), files.key.clone()];
    let (followed, current) = FileWatch::open("TLS certificate", paths, tls::parse).await?;
    Ok((Some(Tls(current)), Some(followed)))
}

/// Reloads the files whenever they change; waits forever if there are none.
async fn follow<T>(followed: Option<FileWatch<T>>) {
    match followed {
        Some(followed) => followed.follow().await,
        None => std::future::pending().await,
    }
}
