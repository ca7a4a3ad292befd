//! `GET /v1/queue`: reports the state of the queue and the workers.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use wordmill_common::clock::age;
use wordmill_common::id::Lane;
use wordmill_nats::Error;
use wordmill_nats::presence::{self, WorkerStatus};
use wordmill_nats::queue::LaneLevel;

use crate::App;
use crate::http::deadline::with_broker_deadline;
use crate::http::problem::Problem;
use crate::http::schema::Moment;

/// State of the queue, of its lanes and of the workers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub(crate) struct QueueView {
    /// Number of unfinished jobs in the queue.
    depth: u64,
    /// Maximum number of jobs in the queue; null if it is unlimited.
    depth_max: Option<u64>,
    /// Size of the queue, in bytes.
    size_bytes: u64,
    /// Maximum size of the queue in bytes; null if it is unlimited.
    size_bytes_max: Option<u64>,
    /// State of each lane.
    lanes: Lanes<LaneView>,
    /// Number of workers that have reported within the last seconds.
    workers_seen: usize,
    /// The workers that have reported within the last seconds.
    workers: Vec<WorkerView>,
}

/// One value for each lane.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Lanes")]
struct Lanes<T> {
    interactive: T,
    bulk: T,
}

/// State of one lane.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LaneLevel")]
struct LaneView {
    /// Number of unfinished jobs.
    depth: u64,
    /// Number of jobs that were not delivered yet.
    waiting: u64,
    /// Number of jobs that workers report as running.
    in_work: u64,
    /// Number of delivered jobs that no worker reports as running, for example because they wait
    /// for their next attempt.
    waiting_for_retry: u64,
    /// Number of unfinished jobs that were delivered more than once.
    redelivered: u64,
    /// Age of the oldest unfinished job in milliseconds; null if the lane is empty.
    oldest_age_ms: Option<u64>,
}

/// A worker, according to its last report.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Worker")]
struct WorkerView {
    /// Name of the worker.
    name: String,
    /// Maximum number of jobs that it runs concurrently. Small texts run in addition.
    slots: u32,
    /// Number of jobs that it runs in each lane.
    in_work: Lanes<u32>,
    /// Time of its last report.
    #[schemars(with = "Moment")]
    seen_at: Timestamp,
}

/// `GET /v1/queue`.
pub(crate) async fn get_queue(State(app): State<App>) -> Result<Json<QueueView>, Problem> {
    Ok(Json(with_broker_deadline(read_queue(&app)).await?))
}

async fn read_queue(app: &App) -> Result<QueueView, Error> {
    let (level, now) = tokio::try_join!(app.queue.level(), app.queue.now())?;
    let (interactive, bulk, workers) = tokio::try_join!(
        app.queue.lane_level(Lane::Interactive),
        app.queue.lane_level(Lane::Bulk),
        presence::list_workers(&app.broker, now),
    )?;
    Ok(QueueView {
        depth: level.messages,
        depth_max: level.messages_max,
        size_bytes: level.bytes,
        size_bytes_max: level.bytes_max,
        lanes: Lanes {
            interactive: LaneView::of(Lane::Interactive, &interactive, &workers, now),
            bulk: LaneView::of(Lane::Bulk, &bulk, &workers, now),
        },
        workers_seen: workers.len(),
        workers: workers.into_iter().map(WorkerView::of).collect(),
    })
}

impl LaneView {
    fn of(lane: Lane, level: &LaneLevel, workers: &[WorkerStatus], now: Timestamp) -> Self {
        let reported: u64 =
            workers.iter().map(|worker| u64::from(worker.report.running(lane))).sum();
        // Reports are seconds old, so cap the number: workers cannot run more jobs than were
        // delivered.
        let in_work = reported.min(level.in_flight);
        let age = level.oldest.map(|since| age(since, now).as_millis());
        Self {
            depth: level.waiting.saturating_add(level.in_flight),
            waiting: level.waiting,
            in_work,
            waiting_for_retry: level.in_flight - in_work,
            redelivered: level.redelivered,
            oldest_age_ms: age.map(|ms| u64::try_from(ms).unwrap_or(u64::MAX)),
        }
    }
}

impl WorkerView {
    fn of(status: WorkerStatus) -> Self {
        let report = status.report;
        let in_work = Lanes { interactive: report.interactive, bulk: report.bulk };
        Self { name: report.name, slots: report.slots, in_work, seen_at: status.at }
    }
}
