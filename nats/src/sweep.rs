//! Finds and ends lost jobs, and removes orphaned messages, results and documents.
//!
//! A lost job is unfinished, but its message is gone. Orphans are messages of cancelled jobs,
//! results that no record refers to, documents that no job will count, and chunks of objects that
//! were never finished.
//!
//! The sweeper scans streams by sequence number, with one direct get after the other: it needs no
//! consumer, and sends at most one request at a time. The server cannot omit the payload from such
//! answers, so records are transferred in full. Succeeded and failed ones are recognized by their
//! header and not parsed.
//!
//! Ages are differences of server times: the leader's current time minus the time at which a
//! message was stored. The clocks of gateways and workers do not matter.

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
use crate::stream_read::{
    ReadFrom, last_message, not_found_as_none, open_stream, stored_at, stream_info,
};
use crate::subject;
use crate::topology::{
    DEAD_JOBS, DOCUMENTS, DOCUMENTS_STREAM, JOB_STATE, JOB_STATE_STREAM, JOBS, JOBS_PREFIX,
    RESULTS, RESULTS_STREAM,
};
use crate::webhooks::Webhooks;

pub use self::objects::{Object, ObjectStore, Orphan};

/// Broker client of the sweeper.
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

/// A record that the scan has reached.
#[derive(Debug, Clone)]
pub struct ScanPosition {
    /// Sequence number of the record. The scan continues after it.
    pub sequence: u64,
    /// Time at which this revision was stored.
    pub written_at: Timestamp,
    /// The record if it is unfinished or cancelled, and can be parsed.
    pub record: Option<Box<VersionedJob>>,
}

/// An unfinished job, and the time since which it has been waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedJob {
    /// Key of the job.
    pub key: JobKey,
    /// Creation time of the record, or storage time of the message, depending on which scan found
    /// the job.
    pub since: Timestamp,
}

impl Sweep {
    /// Opens the streams. Sends no request.
    pub fn open(broker: &Broker, result_ttl: Duration) -> Self {
        Self {
            broker: broker.clone(),
            jobs: open_stream(broker, JOBS),
            records: open_stream(broker, JOB_STATE_STREAM),
            dead: open_stream(broker, DEAD_JOBS),
            results: Bucket::open(broker, RESULTS, RESULTS_STREAM),
            documents: Bucket::open(broker, DOCUMENTS, DOCUMENTS_STREAM),
            queue: Queue::open(broker),
            store: Store::open(broker, result_ttl),
            webhooks: Webhooks::open(broker),
        }
    }

    /// Returns the current time of the leader of the records.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(stream_info(&self.broker, JOB_STATE_STREAM).await?.ts)
    }

    /// Returns the first record at or after `sequence`; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next_record(&self, sequence: u64) -> Result<Option<ScanPosition>, Error> {
        let subjects = format!("$KV.{JOB_STATE}.>");
        let Some(message) = next_message(&self.records, subjects, sequence).await? else {
            return Ok(None);
        };
        let record = if may_need_work(&message) { parse_record(&message) } else { None };
        let written_at = stored_at(&message);
        Ok(Some(ScanPosition { sequence: message.sequence, written_at, record }))
    }

    /// Returns whether the queue contains no message of a job, according to its leader.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn has_no_message(&self, key: &JobKey) -> Result<bool, Error> {
        // A replica usually finds the message, which spares the leader. Only the leader can prove
        // that it does not exist.
        for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
            if self.queue.has_message(key, read_from).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fails a job with `lost` if its message is gone and its record is unfinished and still at
    /// `revision`. Returns the failed job; `None` if the job was not changed.
    ///
    /// A worker acknowledges a message only after it has written the final record. So if the leader
    /// of the queue has no message, and afterwards the leader of the records still has `revision`,
    /// no worker has finished the job and none will receive it. Any other write shows that the job
    /// is alive: then the compare-and-set fails, and is not retried.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`]: the job is left to a later sweep.
    pub async fn end_lost(&self, key: &JobKey, revision: u64) -> Result<Option<Box<Job>>, Error> {
        if !self.has_no_message(key).await? {
            return Ok(None);
        }
        let stored = match self.store.get_job(key, ReadFrom::Leader).await? {
            Lookup::Job(stored) if stored.revision == revision => *stored,
            Lookup::Job(_) | Lookup::Deleted | Lookup::NotFound => return Ok(None),
        };
        let detail = "The job's message disappeared from the queue before the job was final. \
                      Submit the job again.";
        let failure = Failure::new(FailureCode::Lost, detail);
        let event = Event::FailedWithoutRun { failure, dead_lettered: false };
        // Enqueue the webhook before the record is final, because later sweeps skip final records.
        // The worker that delivers it waits until the job is final.
        if !self.enqueue_webhook(&stored.job).await? {
            return Ok(None);
        }
        match self.store.apply_if_unchanged(&stored, &event).await {
            Ok(stored) => Ok(Some(Box::new(stored.job))),
            Err(WriteError::Conflict) => Ok(None),
            Err(reason) => Err(Error::unavailable("end a lost job", format!("{reason:?}"))),
        }
    }

    /// Removes the message of a cancelled job, and returns whether it did. The job's document is
    /// removed first: without the message, only the scan of documents would find it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`].
    pub async fn remove_cancelled(&self, key: &JobKey, lane: Lane) -> Result<bool, Error> {
        let subject = subject::job(lane, key);
        let Some(message) = last_message(&self.jobs, &subject, ReadFrom::AnyReplica).await? else {
            return Ok(false);
        };
        // The scan may have read an outdated record, from a replica and some time ago.
        match self.store.get_job(key, ReadFrom::Leader).await? {
            Lookup::Job(stored) if stored.job.status == Status::Cancelled => {
                if !self.enqueue_webhook(&stored.job).await? {
                    return Ok(false);
                }
                if let Some(name) = &stored.job.document {
                    self.documents.purge(name).await?;
                }
            }
            Lookup::Job(_) | Lookup::Deleted | Lookup::NotFound => return Ok(false),
        }
        // A worker may have removed it first. Sequence numbers are never reused, so this cannot
        // delete another message.
        Ok(self.jobs.delete_message(message.sequence).await.unwrap_or(false))
    }

    /// Enqueues the webhook of a job, if it has one. Returns `false` if the webhook queue is full:
    /// the caller then leaves the job to a later sweep, and this sweep continues.
    async fn enqueue_webhook(&self, job: &Job) -> Result<bool, Error> {
        match self.webhooks.enqueue(job, 0).await {
            Ok(()) => Ok(true),
            Err(Error::Full { what }) => {
                warn!(job.id = %job.job_id, what, "webhook queue is full; postponing the webhook of a job");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the job with the oldest message in the queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn oldest_message(&self) -> Result<Option<UnfinishedJob>, Error> {
        let message = next_message(&self.jobs, format!("{JOBS_PREFIX}.>"), 1).await?;
        Ok(message.and_then(|message| {
            let key = subject::job_of_message(&message.subject)?;
            Some(UnfinishedJob { key, since: stored_at(&message) })
        }))
    }

    /// Returns whether a job is unfinished. A job without a record is unfinished if the queue
    /// contains its message.
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

/// Returns the first message on `subjects` at or after `sequence`, from any replica.
async fn next_message(
    stream: &JetStream<()>,
    subjects: String,
    sequence: u64,
) -> Result<Option<StreamMessage>, Error> {
    not_found_as_none(stream.direct_get_next_for_subject(subjects, Some(sequence.max(1))).await)
}

/// Returns whether a record may need work, judging by its header alone.
fn may_need_work(message: &StreamMessage) -> bool {
    let status = message.headers.get(STATUS_HEADER).map(HeaderValue::as_str);
    [Status::Queued, Status::Running, Status::Cancelled]
        .into_iter()
        .any(|relevant| status == Some(relevant.as_str()))
}

fn parse_record(message: &StreamMessage) -> Option<Box<VersionedJob>> {
    let key = subject::job_of_record(&message.subject)?;
    match parse(&key, &message.headers, message.payload.clone(), message.sequence) {
        Ok(Lookup::Job(stored)) => Some(stored),
        Ok(Lookup::Deleted | Lookup::NotFound) => None,
        Err(error) => {
            warn!(job.id = %key.job_id, %error, "skipping a record that cannot be parsed");
            None
        }
    }
}
