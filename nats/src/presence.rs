//! Which workers there are: each says from time to time what it does, under a key of its own in the
//! bucket `leases`, which goes away by itself when its worker does.

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
use crate::stream_read::{BATCH_MAX, batch, stored_at};
use crate::subject;
use crate::topology::LEASES_STREAM;

/// How often a worker should say that it is there.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// A worker that was not heard of for this long is not there.
const REPORT_AGE_MAX: Duration = Duration::from_secs(10);
/// Most workers that are listed.
const WORKERS_MAX: usize = 1024;

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its name, as attempts and logs have it.
    pub name: String,
    /// How many jobs it runs at most.
    pub slots: u32,
    /// Jobs of the lane `interactive` that it runs.
    pub interactive: u32,
    /// Jobs of the lane `bulk` that it runs.
    pub bulk: u32,
}

impl WorkerReport {
    /// Returns how many jobs of a lane it runs.
    #[must_use]
    pub fn running(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Interactive => self.interactive,
            Lane::Bulk => self.bulk,
        }
    }
}

/// A worker that was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// What it said.
    pub report: WorkerReport,
    /// When, by the broker's clock.
    pub at: Timestamp,
}

/// One worker's key.
#[derive(Debug, Clone)]
pub struct Presence {
    broker: Broker,
    subject: async_nats::Subject,
}

impl Presence {
    /// Names a worker anew; tells nobody yet.
    #[must_use]
    pub fn new(broker: &Broker) -> Self {
        let subject = subject::worker(&Uuid::new_v4().simple().to_string());
        Self { broker: broker.clone(), subject }
    }

    /// Says what the worker does. Nobody waits for an answer: the next time will do as well.
    pub async fn publish(&self, report: &WorkerReport) {
        match serde_json::to_vec(report) {
            Ok(payload) if self.broker.is_connected() => {
                self.send(HeaderMap::new(), payload).await;
            }
            Ok(_) => {}
            Err(error) => debug!(%error, "a worker cannot say what it does"),
        }
    }

    /// Says that the worker is gone.
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
            Ok(Err(error)) => debug!(%error, "a worker cannot say what it does"),
            Err(_) => debug!("a worker cannot say what it does in time"),
        }
    }
}

/// Returns the workers that were heard of lately, as of `now` by the broker's clock.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn workers(broker: &Broker, now: Timestamp) -> Result<Vec<WorkerStatus>, Error> {
    let mut workers = Vec::new();
    let mut from = 1;
    let subjects = subject::worker("*");
    while workers.len() < WORKERS_MAX {
        let messages = batch(broker, LEASES_STREAM, &subjects, from, BATCH_MAX).await?;
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
