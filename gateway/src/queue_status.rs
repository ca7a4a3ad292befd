//! Gauges of the queue. Every gateway reads them from the broker and reports the same values.
//!
//! A reading that is too old is not reported: alerts notice a missing value, but not a stale one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::debug;
use wordmill_common::clock::age;
use wordmill_common::id::Lane;
use wordmill_nats::Error;
use wordmill_nats::dead_letters::{Archive, ChangeMarker};
use wordmill_nats::presence;
use wordmill_nats::queue::LaneLevel;
use wordmill_nats::webhooks;
use wordmill_service::metrics::{LaneLabel, encode_gauges};

use crate::App;
use crate::enqueue::backpressure::Backpressure;

/// Interval between two readings. Prometheus scrapes less often (every 15 s in `observability/`).
const READ_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum age of a reading that is reported.
const READING_AGE_MAX: Duration = Duration::from_secs(15);
/// Maximum rate at which dead letters are listed to count them, averaged over time.
const LISTED_PER_S_MAX: u64 = 10_000;

type EncodeResult = Result<(), std::fmt::Error>;

/// The latest readings of the queue and the sweeper. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct QueueStatus {
    backpressure: Backpressure,
    readings: Arc<Mutex<QueueReadings>>,
}

#[derive(Debug, Default)]
struct QueueReadings {
    queue: Option<Reading>,
    sweeping: Option<OldestJob>,
}

/// State of the queue at one moment, as the broker reported it.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    /// The same moment on the broker's clock.
    now: Timestamp,
    lanes: [(Lane, LaneLevel); 2],
    /// Jobs in flight that no worker reports as running.
    retries: [(Lane, u64); 2],
    dead_letters: [(Lane, u64); 2],
    webhooks: webhooks::Level,
}

/// Age of the oldest unfinished job that the sweeper found; `None` if it found none.
#[derive(Debug, Clone, Copy)]
struct OldestJob {
    at: Instant,
    age: Option<Duration>,
}

/// The empty label set.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NoLabels {}

impl QueueStatus {
    pub(crate) fn new(backpressure: Backpressure) -> Self {
        Self { backpressure, readings: Arc::default() }
    }

    /// Records that this gateway sweeps, and the age of the oldest unfinished job.
    pub(crate) fn record_sweep(&self, age: Option<Duration>) {
        self.update(|readings| readings.sweeping = Some(OldestJob { at: Instant::now(), age }));
    }

    /// Records that this gateway has stopped sweeping.
    pub(crate) fn record_sweep_end(&self) {
        self.update(|readings| readings.sweeping = None);
    }

    fn update<T>(&self, act: impl FnOnce(&mut QueueReadings) -> T) -> T {
        // Each field is replaced as a whole, so the data behind a poisoned lock is consistent.
        act(&mut self.readings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn encode_queue(&self, reading: Reading, encoder: &mut DescriptorEncoder<'_>) -> EncodeResult {
        // Ages keep growing between the reading and the scrape.
        let later = reading.at.elapsed();
        let mut lanes = |name, help, value: &dyn Fn(&LaneLevel) -> f64| {
            let values =
                reading.lanes.iter().map(|(lane, level)| (LaneLabel::of(*lane), value(level)));
            encode_gauges(encoder, name, help, values)
        };
        lanes("wordmill_queue_depth", "Unfinished jobs in the queue", &|level| {
            to_f64(level.waiting.saturating_add(level.in_flight))
        })?;
        lanes("wordmill_jobs_waiting", "Jobs that were not delivered yet", &|level| {
            to_f64(level.waiting)
        })?;
        lanes(
            "wordmill_jobs_in_flight",
            "Delivered jobs that are not final: running, or waiting for their next attempt",
            &|level| to_f64(level.in_flight),
        )?;
        lanes(
            "wordmill_jobs_redelivered",
            "Jobs in flight that were delivered more than once",
            &|level| to_f64(level.redelivered),
        )?;
        lanes(
            "wordmill_queue_oldest_age_seconds",
            "Age of the oldest job in the queue; 0 if the queue is empty",
            &|level| {
                level.oldest.map_or(0.0, |since| (age(since, reading.now) + later).as_secs_f64())
            },
        )?;
        let retries = reading.retries.map(|(lane, count)| (LaneLabel::of(lane), to_f64(count)));
        let help = "Jobs in flight that no worker reports as running";
        encode_gauges(encoder, "wordmill_jobs_waiting_for_retry", help, retries)?;
        let dead = reading.dead_letters.map(|(lane, count)| (LaneLabel::of(lane), to_f64(count)));
        encode_gauges(encoder, "wordmill_dead_letters", "Stored dead letters", dead)?;
        let waiting = to_f64(reading.webhooks.waiting);
        let help = "Undelivered webhooks";
        encode_gauges(encoder, "wordmill_webhooks_waiting", help, [(NoLabels {}, waiting)])?;
        let untried = to_f64(reading.webhooks.untried);
        let help = "Webhooks without a first attempt";
        encode_gauges(encoder, "wordmill_webhooks_untried", help, [(NoLabels {}, untried)])?;
        let oldest = reading.webhooks.oldest;
        let age = oldest.map_or(0.0, |since| (age(since, reading.now) + later).as_secs_f64());
        let help = "Age of the oldest undelivered webhook; 0 if there is none";
        encode_gauges(encoder, "wordmill_webhooks_oldest_age_seconds", help, [(NoLabels {}, age)])
    }
}

impl Collector for QueueStatus {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> EncodeResult {
        let (queue, sweeping) = self.update(|readings| (readings.queue, readings.sweeping));
        if let Some(reading) = queue.filter(|reading| reading.at.elapsed() < READING_AGE_MAX) {
            self.encode_queue(reading, &mut encoder)?;
        }
        let fill = self.backpressure.fill_ratio().map(|ratio| (NoLabels {}, ratio));
        if fill.is_some() {
            let help =
                "Fill level of the queue from 0 to 1, by jobs or by bytes, whichever is higher";
            encode_gauges(&mut encoder, "wordmill_queue_fill_ratio", help, fill)?;
        }
        let active = if sweeping.is_some() { 1.0 } else { 0.0 };
        let help = "Whether this gateway is the active sweeper: 1 or 0";
        encode_gauges(&mut encoder, "wordmill_sweeper_active", help, [(NoLabels {}, active)])?;
        let Some(oldest) = sweeping else { return Ok(()) };
        let age = oldest.age.map_or(0.0, |age| (age + oldest.at.elapsed()).as_secs_f64());
        let help = "Age of the oldest unfinished job, read from its record; 0 if there is none";
        let name = "wordmill_oldest_unfinished_job_age_seconds";
        encode_gauges(&mut encoder, name, help, [(NoLabels {}, age)])
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 jobs")]
fn to_f64(count: u64) -> f64 {
    count as f64
}

/// Reads the state of the queue at each interval, until the future is dropped.
pub(crate) async fn poll_status(app: &App, status: &QueueStatus) {
    let mut ticks = tokio::time::interval(READ_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut dead_letters = DeadLetters::default();
    loop {
        ticks.tick().await;
        match read_status(app, &mut dead_letters).await {
            Ok(reading) => status.update(|readings| readings.queue = Some(reading)),
            // Keep the last reading; it expires after `READING_AGE_MAX`.
            Err(error) => debug!(%error, "cannot read the state of the queue"),
        }
    }
}

async fn read_status(app: &App, dead_letters: &mut DeadLetters) -> Result<Reading, Error> {
    let queue = &app.queue;
    let [first, second] = Lane::ALL;
    let at = Instant::now();
    let now = queue.now().await?;
    let lanes =
        [(first, queue.lane_level(first).await?), (second, queue.lane_level(second).await?)];
    let workers = presence::list_workers(&app.broker, now).await?;
    let retries = lanes.map(|(lane, level)| {
        let reported = workers.iter().map(|worker| u64::from(worker.report.running(lane))).sum();
        (lane, level.in_flight.saturating_sub(reported))
    });
    Ok(Reading {
        at,
        now,
        lanes,
        retries,
        dead_letters: dead_letters.count(&app.dead_letters).await?,
        webhooks: app.webhooks.level().await?,
    })
}

/// Number of dead letters by lane. To count them, the broker has to list their subjects. They are
/// therefore counted only after a change, and the more there are, the less often.
#[derive(Debug, Default)]
struct DeadLetters {
    counted: Option<(ChangeMarker, [(Lane, u64); 2])>,
    not_before: Option<Instant>,
}

impl DeadLetters {
    async fn count(&mut self, archive: &Archive) -> Result<[(Lane, u64); 2], Error> {
        let marker = archive.change_marker().await?;
        let is_early = self.not_before.is_some_and(|time| Instant::now() < time);
        if let Some((last, counts)) = self.counted
            && (last == marker || is_early)
        {
            return Ok(counts);
        }
        let [first, second] = Lane::ALL;
        let counts = if marker.count == 0 {
            [(first, 0), (second, 0)]
        } else {
            [(first, archive.count(first).await?), (second, archive.count(second).await?)]
        };
        self.counted = Some((marker, counts));
        self.not_before =
            Some(Instant::now() + Duration::from_secs(marker.count / LISTED_PER_S_MAX));
        Ok(counts)
    }
}
