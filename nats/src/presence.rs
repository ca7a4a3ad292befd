//! Presence: each worker reports every few seconds, under its own key in the bucket `leases`. The
//! key expires when the worker stops reporting.

use std::time::Duration;

use async_nats::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::debug;
use uuid::Uuid;
use wordmill_common::clock::age;
use wordmill_common::id::Lane;

use crate::Error;
use crate::connect::{Broker, REQUEST_TIMEOUT};
use crate::headers::OPERATION_HEADER;
use crate::stream_read::{BATCH_MAX, read_batch, stored_at};
use crate::subject;
use crate::topology::LEASES_STREAM;

/// Interval at which a worker should report.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Age at which a report is ignored, because its worker has probably stopped.
const REPORT_AGE_MAX: Duration = Duration::from_secs(10);
/// Maximum number of workers that are listed.
const WORKERS_MAX: usize = 1024;

/// Report of a worker, stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Name of the worker, as in attempts and logs.
    pub name: String,
    /// Maximum number of jobs that the worker runs concurrently.
    pub slots: u32,
    /// Number of jobs of the lane `interactive` that the worker runs.
    pub interactive: u32,
    /// Number of jobs of the lane `bulk` that the worker runs.
    pub bulk: u32,
}

impl WorkerReport {
    /// Returns the number of jobs of a lane that the worker runs.
    #[must_use]
    pub fn running(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Interactive => self.interactive,
            Lane::Bulk => self.bulk,
        }
    }
}

/// A worker with a recent report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Its last report.
    pub report: WorkerReport,
    /// Time at which the report was stored, by the broker's clock.
    pub at: Timestamp,
}

/// The key of one worker.
#[derive(Debug, Clone)]
pub struct Presence {
    broker: Broker,
    subject: async_nats::Subject,
}

impl Presence {
    /// Creates a key with a random id. Sends no request.
    #[must_use]
    pub fn new(broker: &Broker) -> Self {
        let subject = subject::worker(&Uuid::new_v4().simple().to_string());
        Self { broker: broker.clone(), subject }
    }

    /// Publishes a report without waiting for an acknowledgement: the next report replaces a lost
    /// one.
    pub async fn publish(&self, report: &WorkerReport) {
        match serde_json::to_vec(report) {
            Ok(payload) if self.broker.is_connected() => {
                self.send(HeaderMap::new(), payload).await;
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "cannot publish the presence of this worker"),
        }
    }

    /// Removes the worker from the list when it stops.
    pub async fn remove(&self) {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION_HEADER, "DEL");
        self.send(headers, Vec::new()).await;
    }

    async fn send(&self, headers: HeaderMap, payload: Vec<u8>) {
        let client = &self.broker.client;
        let sending = client.publish_with_headers(self.subject.clone(), headers, payload.into());
        match tokio::time::timeout(REQUEST_TIMEOUT, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "cannot publish the presence of this worker"),
            Err(_) => debug!("timed out publishing the presence of this worker"),
        }
    }
}

/// Returns the workers with a recent report. `now` is the time by the broker's clock.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn list_workers(broker: &Broker, now: Timestamp) -> Result<Vec<WorkerStatus>, Error> {
    let mut workers = Vec::new();
    let mut from = 1;
    let subjects = subject::worker("*");
    while workers.len() < WORKERS_MAX {
        let messages = read_batch(broker, LEASES_STREAM, &subjects, from, BATCH_MAX).await?;
        let Some(last) = messages.last() else { break };
        from = last.sequence + 1;
        workers.extend(messages.iter().filter_map(|message| {
            let at = stored_at(message);
            let report = serde_json::from_slice(&message.payload).ok()?;
            (age(at, now) < REPORT_AGE_MAX).then_some(WorkerStatus { report, at })
        }));
        if messages.len() < BATCH_MAX {
            break;
        }
    }
    Ok(workers)
}
