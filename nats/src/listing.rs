//! The records of one owner, newest change first.
//!
//! The bucket's own stream is the index: it keeps the last revision of each record, in the order in
//! which they were written. A record that changes moves to the front. So whoever goes down from a
//! place meets every record that has not changed since, and none twice.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderValue;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream as JetStream;
use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;
use wordmill_common::id::{JobKey, Owner};
use wordmill_common::job::Status;

use crate::Error;
use crate::backward_scan::BackwardScan;
use crate::connect::Broker;
use crate::job_record::{Lookup, RawRecord, STATUS_HEADER, raw};
use crate::stream_read::{BATCH_MAX, open};
use crate::subject;
use crate::topology::JOB_STATE_STREAM;

/// Most records that are looked at for one page.
const RECORDS_MAX: usize = 5000;
/// Most requests to the broker for one page, give or take those of one window.
const REQUESTS_MAX: u32 = 200;
/// After which time no further window is begun for a page.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Least messages that are asked for at once.
const BATCH_MIN: usize = 16;

/// Which records are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those with this status.
    pub status: Option<Status>,
    /// Only those with this label, name and value.
    pub label: Option<(String, String)>,
}

/// Some records, newest change first.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// The records, not parsed.
    pub records: Vec<(JobKey, RawRecord)>,
    /// Where to go on: below this sequence number. `None` at the end.
    pub next: Option<u64>,
}

/// The records of all owners, in the order of their last changes.
#[derive(Debug, Clone)]
pub struct Listing {
    broker: Broker,
    stream: JetStream<()>,
}

impl Listing {
    /// Opens the records; asks the broker nothing.
    pub fn open(broker: &Broker) -> Self {
        Self { broker: broker.clone(), stream: open(broker, JOB_STATE_STREAM) }
    }

    /// Returns up to `limit` records of `owner` below the sequence number `before`.
    ///
    /// The work is bounded: a page may be short, or even empty, and have a successor all the same.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(
        &self,
        owner: &Owner,
        filter: &ListFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<RecordPage, Error> {
        const OPERATION: &str = "look at the records";
        let info = self.stream.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let end = info.state.last_sequence.saturating_add(1);
        let bounds = (info.state.first_sequence, before.map_or(end, |before| before.min(end)));
        // Whoever wants all needs hardly more than the page.
        let batch = if *filter == ListFilter::default() { limit.max(BATCH_MIN) } else { BATCH_MAX };
        let stream = (&self.stream, JOB_STATE_STREAM);
        let mut walk = BackwardScan::new(&self.broker, stream, bounds, batch);

        let give_up = Instant::now() + TIME_MAX;
        let mut records = Vec::new();
        let mut looked_at = 0;
        while !walk.is_finished()
            && looked_at < RECORDS_MAX
            && walk.requests() < REQUESTS_MAX
            && Instant::now() < give_up
        {
            let window = walk.next_window().await?;
            looked_at += window.len();
            for message in window.iter().rev() {
                let Some(record) = filter.record(owner, message) else { continue };
                records.push(record);
                if records.len() >= limit {
                    // What is left of the window is for the next page.
                    return Ok(RecordPage { records, next: Some(message.sequence) });
                }
            }
        }
        let next = (!walk.is_finished()).then(|| walk.top());
        Ok(RecordPage { records, next })
    }
}

impl ListFilter {
    /// Reads a record if it is wanted. Markers of deleted and expired ones are not.
    fn record(&self, owner: &Owner, message: &StreamMessage) -> Option<(JobKey, RawRecord)> {
        let key = subject::job_of_record(&message.subject).filter(|key| key.owner == *owner)?;
        // Most that are not wanted are told by their header, and not parsed.
        let status = message.headers.get(STATUS_HEADER).map(HeaderValue::as_str);
        if let (Some(filter), Some(status)) = (self.status, status)
            && filter.as_str() != status
        {
            return None;
        }
        let record = raw(&key, &message.headers, message.payload.clone(), message.sequence);
        let accepted = record.and_then(|record| match record {
            Lookup::Job(record) => Ok(self.accepts(&key, &record)?.then_some(record)),
            Lookup::Deleted | Lookup::NotFound => Ok(None),
        });
        match accepted {
            Ok(record) => record.map(|record| (key, record)),
            Err(error) => {
                warn!(job.id = %key.job_id, %error, "a record cannot be listed");
                None
            }
        }
    }

    fn accepts(&self, key: &JobKey, record: &RawRecord) -> Result<bool, Error> {
        #[derive(Deserialize)]
        struct RecordLabels {
            labels: BTreeMap<String, String>,
        }
        if self.status.is_some_and(|status| status != record.status) {
            return Ok(false);
        }
        let Some((name, value)) = &self.label else { return Ok(true) };
        let RecordLabels { labels } = record.read_as(key)?;
        Ok(labels.get(name) == Some(value))
    }
}
