//! Baselines other than the raw broker: an HTTP server with minimal handlers (empty, one direct
//! get, or one publish and create), and pages counted without a broker.

use std::env;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use async_nats::jetstream;
use async_nats::jetstream::stream::Stream as JetStream;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::net::TcpListener;
use tokio::sync::{OnceCell, mpsc};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;
use wordmill_count::{Hints, Options};
use wordmill_fetch::{Fetcher, Settings};

use crate::measure::Slice;
use crate::pages::Site;
use crate::process::Process;
use crate::raw_broker::{JobTemplates, RawBroker};
use crate::{INTERACTIVE, stack};

/// Command-line argument that starts this program as the baseline server.
pub const SERVE_ARGUMENT: &str = "serve-baseline";
/// Maximum number of buffered chunks of a page, as in the worker.
const CHUNKS_WAITING_MAX: usize = 4;

/// Starts the server in its own process, like the gateway.
pub async fn start(nats: &str) -> Result<(Process, SocketAddr)> {
    let address = stack::free_address()?;
    let mut command = Command::new(env::current_exe()?);
    command.args([SERVE_ARGUMENT, &address.to_string(), nats]);
    let process = Process::start("baseline", command)?;
    stack::wait_until_ready(address).await?;
    Ok((process, address))
}

/// Runs the server.
pub async fn serve(address: &str, nats: &str) -> Result<()> {
    let jetstream = stack::connect(nats).await?;
    let records = jetstream.get_stream_no_info("KV_job_state").await?;
    let raw = RawBroker::connect(nats).await?;
    let state =
        Baseline(Arc::new(BaselineState { jetstream, records, raw, templates: OnceCell::new() }));
    let router = Router::new()
        .route("/readyz", get(|| async {}))
        .route("/empty", get(|| async {}))
        .route("/get/{id}", get(direct_get))
        .route("/submit/{id}", post(submit))
        .with_state(state);
    Ok(axum::serve(TcpListener::bind(address).await?, router).await?)
}

/// The state of the server.
#[derive(Clone)]
struct Baseline(Arc<BaselineState>);

struct BaselineState {
    jetstream: jetstream::Context,
    records: JetStream<()>,
    raw: RawBroker,
    /// Templates, loaded from the job in the path of the first request.
    templates: OnceCell<JobTemplates>,
}

async fn direct_get(
    State(Baseline(baseline)): State<Baseline>,
    Path(id): Path<String>,
) -> Response {
    match baseline.records.direct_get_last_for_subject(format!("$KV.job_state.public.{id}")).await {
        Ok(record) => record.payload.into_response(),
        Err(error) => (StatusCode::NOT_FOUND, error.to_string()).into_response(),
    }
}

/// Reads a body, ignores it, and submits a copy of the queued job `id`.
async fn submit(
    State(Baseline(baseline)): State<Baseline>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let submission = async {
        let load_templates = || JobTemplates::of_queued_job(&baseline.jetstream, INTERACTIVE, &id);
        let templates = baseline.templates.get_or_try_init(load_templates).await?;
        baseline.raw.submit_one(templates, &Uuid::now_v7().to_string()).await
    };
    match submission.await {
        Ok(()) => (StatusCode::ACCEPTED, body).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

/// Creates a fetcher like that of the worker, which may fetch from loopback.
pub fn make_fetcher() -> Result<Fetcher> {
    let allow = vec!["127.0.0.0/8".parse()?];
    Ok(Fetcher::try_new(&Settings { allow, ..Settings::default() })?)
}

/// Fetches and counts a page `count` times, `depth` times concurrently, with the code of the
/// worker.
pub async fn fetch_and_count(
    fetcher: &Fetcher,
    site: &Site,
    count: usize,
    depth: usize,
) -> Result<Slice> {
    let started = Instant::now();
    let latencies: Vec<_> = stream::iter(0..count)
        .map(|number| async move {
            let sent = Instant::now();
            count_page(fetcher, &Url::parse(site.url(number))?).await?;
            Ok::<_, anyhow::Error>(sent.elapsed())
        })
        .buffer_unordered(depth)
        .try_collect()
        .await?;
    Ok(Slice { count, elapsed: started.elapsed(), latencies })
}

/// Counts a page like the worker: chunks go through a channel to a thread that counts.
async fn count_page(fetcher: &Fetcher, url: &Url) -> Result<u64> {
    let mut page = fetcher.get(url, &|_| ()).await?;
    let content_type = page.content_type.clone();
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let counting = tokio::task::spawn_blocking(move || {
        let hints = Hints { content_type: content_type.as_deref(), host_tld: None };
        let reader = ChunkReader { receiver, current: Bytes::new() };
        wordmill_count::count(reader, &hints, &Options::default(), &|_| true)
    });
    while let Some(chunk) = page.chunk().await? {
        sender.send(chunk).await.context("the counting thread has stopped")?;
    }
    drop(sender);
    Ok(counting.await??.totals.words)
}

struct ChunkReader {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.split_to(length).copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}
