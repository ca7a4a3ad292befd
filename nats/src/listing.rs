//! Lists the records of one owner, most recently changed first.
//!
//! The stream of the bucket is the index: it keeps the last revision of each record, in the order
//! of the writes, and a record that changes moves to its end. So a scan down from a sequence number
//! finds every record that has not changed since, and none twice.

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
use crate::job_record::{Lookup, RawRecord, STATUS_HEADER, parse_raw};
use crate::stream_read::{BATCH_MAX, open_stream};
use crate::subject;
use crate::topology::JOB_STATE_STREAM;

/// Maximum number of records that are read for one page.
const RECORDS_MAX: usize = 5000;
/// Maximum number of requests for one page. The last window may exceed it.
const REQUESTS_MAX: u32 = 200;
/// Time after which no further window is read for a page.
const TIME_MAX: Duration = Duration::from_secs(1);
/// Minimum number of messages per request.
const MESSAGES_PER_REQUEST_MIN: usize = 16;

/// Filter of a list of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only records with this status.
    pub status: Option<Status>,
    /// Only records with this label: its name and its value.
    pub label: Option<(String, String)>,
}

/// One page of records, most recently changed first.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// The records, not parsed.
    pub records: Vec<(JobKey, RawRecord)>,
    /// The next page continues below this sequence number. `None` if this is the last page.
    pub next: Option<u64>,
}

/// The records of all owners, in the order of their last writes.
#[derive(Debug, Clone)]
pub struct Listing {
    broker: Broker,
    stream: JetStream<()>,
}

impl Listing {
    /// Opens the bucket of records. Sends no request.
    pub fn open(broker: &Broker) -> Self {
        Self { broker: broker.clone(), stream: open_stream(broker, JOB_STATE_STREAM) }
    }

    /// Returns up to `limit` records of `owner` with sequence numbers below `before`.
    ///
    /// The work per page is bounded, so a page may have fewer records, or none, even if another
    /// page follows.
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
        const OPERATION: &str = "list the records";
        let info = self.stream.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let end = info.state.last_sequence.saturating_add(1);
        let bounds = (info.state.first_sequence, before.map_or(end, |before| before.min(end)));
        // Without a filter, a page needs few messages beyond its own.
        let batch = if *filter == ListFilter::default() {
            limit.max(MESSAGES_PER_REQUEST_MIN)
        } else {
            BATCH_MAX
        };
        let stream = (&self.stream, JOB_STATE_STREAM);
        let mut scan = BackwardScan::new(&self.broker, stream, bounds, batch);

        let deadline = Instant::now() + TIME_MAX;
        let mut records = Vec::new();
        let mut records_read = 0;
        while !scan.is_finished()
            && records_read < RECORDS_MAX
            && scan.requests() < REQUESTS_MAX
            && Instant::now() < deadline
        {
            let window = scan.next_window().await?;
            records_read += window.len();
            for message in window.iter().rev() {
                let Some(record) = filter.parse_if_accepted(owner, message) else { continue };
                records.push(record);
                if records.len() >= limit {
                    // The rest of the window belongs to the next page.
                    return Ok(RecordPage { records, next: Some(message.sequence) });
                }
            }
        }
        let next = (!scan.is_finished()).then(|| scan.top());
        Ok(RecordPage { records, next })
    }
}

impl ListFilter {
    /// Returns the record in a message if it matches. Tombstones never match.
    fn parse_if_accepted(
        &self,
        owner: &Owner,
        message: &StreamMessage,
    ) -> Option<(JobKey, RawRecord)> {
        let key = subject::job_of_record(&message.subject).filter(|key| key.owner == *owner)?;
        // Most other records are excluded by their header, without parsing.
        let status = message.headers.get(STATUS_HEADER).map(HeaderValue::as_str);
        if let (Some(filter), Some(status)) = (self.status, status)
            && filter.as_str() != status
        {
            return None;
        }
        let record = parse_raw(&key, &message.headers, message.payload.clone(), message.sequence);
        let accepted = record.and_then(|record| match record {
            Lookup::Job(record) => Ok(self.accepts(&key, &record)?.then_some(record)),
            Lookup::Deleted | Lookup::NotFound => Ok(None),
        });
        match accepted {
            Ok(record) => record.map(|record| (key, record)),
            Err(error) => {
                warn!(job.id = %key.job_id, %error, "omitting a record that cannot be parsed");
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
