//! What nobody else cleans up: jobs whose message is gone, messages of cancelled jobs, results that no
//! record points to, and documents that no job will count.
//!
//! It walks streams by sequence, one direct get after the other: no consumer, and no more than one
//! request at a time. The server can leave headers out of such answers but never the payload, so
//! records come whole; those that are done are told by their header and not parsed.
//!
//! Age is what the server says: the leader's time of now against the time a message was stored. No
//! clock of a gateway or worker decides.

mod objects;

use std::time::Duration;

use async_nats::HeaderValue;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream as JetStream;
use jiff::Timestamp;
use tracing::warn;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::id::{JobKey, Lane};
use wordmill_common::job::{Event, Job, Status};

use crate::Error;
use crate::connect::Broker;
use crate::job_record::{Lookup, STATUS_HEADER, VersionedJob, parse};
use crate::objects::Bucket;
use crate::queue::Queue;
use crate::store::{Store, WriteError};
use crate::stream_read::{ReadFrom, info, last, not_found_as_none, open, stored_at};
use crate::subject;
use crate::topology::{
    DEAD_JOBS, DOCUMENTS, DOCUMENTS_STREAM, JOB_STATE, JOB_STATE_STREAM, JOBS, JOBS_PREFIX,
    RESULTS, RESULTS_STREAM,
};
use crate::webhooks::Webhooks;

pub use self::objects::{Object, ObjectStore, Orphan};

/// Reads and ends what the sweeper is there for.
#[derive(Debug, Clone)]
pub struct Sweep {
    broker: Broker,
    jobs: JetStream<()>,
    records: JetStream<()>,
    dead: JetStream<()>,
    results: Bucket,
    documents: Bucket,
    queue: Queue,
    store: Store,
    webhooks: Webhooks,
}

/// A place in the walk over the records.
#[derive(Debug, Clone)]
pub struct ScanPosition {
    /// Where the walk is; it goes on one further.
    pub sequence: u64,
    /// When this revision was stored.
    pub written_at: Timestamp,
    /// The record, if there may be something to do about it: unfinished or cancelled.
    pub record: Option<Box<VersionedJob>>,
}

/// A job that is not finished, and since when it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedJob {
    /// Which job.
    pub key: JobKey,
    /// Since when.
    pub since: Timestamp,
}

impl Sweep {
    /// Opens the streams; asks the broker nothing.
    pub fn open(broker: &Broker, result_ttl: Duration) -> Self {
        Self {
            broker: broker.clone(),
            jobs: open(broker, JOBS),
            records: open(broker, JOB_STATE_STREAM),
            dead: open(broker, DEAD_JOBS),
            results: Bucket::open(broker, RESULTS, RESULTS_STREAM),
            documents: Bucket::open(broker, DOCUMENTS, DOCUMENTS_STREAM),
            queue: Queue::open(broker),
            store: Store::open(broker, result_ttl),
            webhooks: Webhooks::open(broker),
        }
    }

    /// Returns the time of the leader of the records.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(info(&self.broker, JOB_STATE_STREAM).await?.ts)
    }

    /// Returns the first record from `sequence` on; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next_record(&self, sequence: u64) -> Result<Option<ScanPosition>, Error> {
        let subjects = format!("$KV.{JOB_STATE}.>");
        let Some(message) = next(&self.records, subjects, sequence).await? else {
            return Ok(None);
        };
        let record = if is_of_interest(&message) { record(&message) } else { None };
        let written_at = stored_at(&message);
        Ok(Some(ScanPosition { sequence: message.sequence, written_at, record }))
    }

    /// Tells whether the queue has no message of a job, as its leader says.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn has_no_message(&self, key: &JobKey) -> Result<bool, Error> {
        for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
            if self.queue.has_message(key, read_from).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fails a job with `lost` if its message is gone and its record is unfinished and still at
    /// `revision`, and returns the job if it did.
    ///
    /// A message is acknowledged only after the final record was written. So if the leader of the
    /// queue has none, and after that the leader of the records has the revision that was there
    /// before, nobody has finished the job, and nobody will be given it. Whoever writes meanwhile
    /// is alive: the compare-and-set fails, and it is not tried again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`]: nothing is known, nothing was done.
    pub async fn end_lost(&self, key: &JobKey, revision: u64) -> Result<Option<Box<Job>>, Error> {
        if !self.has_no_message(key).await? {
            return Ok(None);
        }
        let stored = match self.store.get_job(key, ReadFrom::Leader).await? {
            Lookup::Job(stored) if stored.revision == revision => *stored,
            Lookup::Job(_) | Lookup::Deleted | Lookup::NotFound => return Ok(None),
        };
        let detail = "The job's message disappeared from the queue before the job was done.";
        let failure = Failure::new(FailureCode::Lost, detail);
        let event = Event::FailedWithoutRun { failure, dead_lettered: false };
        // Before the record is final, because nobody looks at it afterwards. Whoever is to deliver it
        // waits for the end of the job.
        if !self.order_webhook(&stored.job).await? {
            return Ok(None);
        }
        match self.store.apply_if_unchanged(&stored, &event).await {
            Ok(stored) => Ok(Some(Box::new(stored.job))),
            Err(WriteError::Conflict) => Ok(None),
            Err(reason) => Err(Error::unavailable("end a lost job", format!("{reason:?}"))),
        }
    }

    /// Removes the message of a cancelled job, if there still is one, and tells whether there was. Its
    /// document goes first: after the message nobody would look for it before the walk over documents.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`].
    pub async fn remove_cancelled(&self, key: &JobKey, lane: Lane) -> Result<bool, Error> {
        let subject = subject::job(lane, key);
        let Some(message) = last(&self.jobs, &subject, ReadFrom::AnyReplica).await? else {
            return Ok(false);
        };
        // The record may have come from a replica, and long ago.
        match self.store.get_job(key, ReadFrom::Leader).await? {
            Lookup::Job(stored) if stored.job.status == Status::Cancelled => {
                if !self.order_webhook(&stored.job).await? {
                    return Ok(false);
                }
                if let Some(name) = &stored.job.document {
                    self.documents.purge(name).await?;
                }
            }
            Lookup::Job(_) | Lookup::Deleted | Lookup::NotFound => return Ok(false),
        }
        // A worker may have been faster; the sequence is never given to another message.
        Ok(self.jobs.delete_message(message.sequence).await.unwrap_or(false))
    }

    /// Orders the webhook of a job, if it has one, and tells whether the job may be ended: where there
    /// is no room it waits for a later sweep, and holds up nothing else.
    async fn order_webhook(&self, job: &Job) -> Result<bool, Error> {
        match self.webhooks.order(job, 0).await {
            Ok(()) => Ok(true),
            Err(Error::Full { what }) => {
                warn!(job.id = %job.job_id, what, "a job waits for room to be ended");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the job whose message has been in the queue for longest.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn oldest_message(&self) -> Result<Option<UnfinishedJob>, Error> {
        let message = next(&self.jobs, format!("{JOBS_PREFIX}.>"), 1).await?;
        Ok(message.and_then(|message| {
            let key = subject::job_of_message(&message.subject)?;
            Some(UnfinishedJob { key, since: stored_at(&message) })
        }))
    }

    /// Tells whether a job is unfinished, as its record says, or the lack of one.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`].
    pub async fn is_unfinished(&self, key: &JobKey) -> Result<bool, Error> {
        Ok(match self.store.get_raw(key, ReadFrom::AnyReplica).await? {
            Lookup::Job(record) => !record.status.is_final(),
            Lookup::NotFound => !self.has_no_message(key).await?,
            Lookup::Deleted => false,
        })
    }
}

async fn next(
    stream: &JetStream<()>,
    subjects: String,
    sequence: u64,
) -> Result<Option<StreamMessage>, Error> {
    not_found_as_none(stream.direct_get_next_for_subject(subjects, Some(sequence.max(1))).await)
}

/// Tells by the header alone whether there may be something to do.
fn is_of_interest(message: &StreamMessage) -> bool {
    let status = message.headers.get(STATUS_HEADER).map(HeaderValue::as_str);
    [Status::Queued, Status::Running, Status::Cancelled]
        .into_iter()
        .any(|interesting| status == Some(interesting.as_str()))
}

fn record(message: &StreamMessage) -> Option<Box<VersionedJob>> {
    let key = subject::job_of_record(&message.subject)?;
    match parse(&key, &message.headers, message.payload.clone(), message.sequence) {
        Ok(Lookup::Job(stored)) => Some(stored),
        Ok(Lookup::Deleted | Lookup::NotFound) => None,
        Err(error) => {
            warn!(job.id = %key.job_id, %error, "a record is skipped");
            None
        }
    }
}
