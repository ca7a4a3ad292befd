//! `GET /v1/queue`: what waits, what is in work, and who works.

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

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Queue")]
pub(crate) struct QueueView {
    depth: u64,
    depth_max: Option<u64>,
    size_bytes: u64,
    size_bytes_max: Option<u64>,
    lanes: Lanes<LaneView>,
    workers_seen: usize,
    workers: Vec<WorkerView>,
}

/// Something of each lane.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Lanes")]
struct Lanes<T> {
    interactive: T,
    bulk: T,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LaneLevel")]
struct LaneView {
    /// All jobs that are not done.
    depth: u64,
    /// Those that no worker has been given yet.
    waiting: u64,
    /// Those that workers say they run.
    in_work: u64,
    /// Those that were handed out and that no worker says it runs.
    waiting_for_retry: u64,
    /// Those that were handed out more than once.
    redelivered: u64,
    oldest_age_ms: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Worker")]
struct WorkerView {
    name: String,
    slots: u32,
    in_work: Lanes<u32>,
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
        presence::workers(&app.broker, now),
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
        // What workers said is seconds old: they cannot have more than was handed out.
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
