//! Job records: created, read, and changed by compare-and-set. No other module writes them.

use std::borrow::Cow;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream as JetStream;
use jiff::{SignedDuration, Timestamp};
use tracing::{Instrument, debug};
use wordmill_common::clock;
use wordmill_common::id::{JobKey, RunNonce};
use wordmill_common::job::{Event, InvalidTransition, Job};

use crate::Error;
use crate::connect::Broker;
use crate::error::{Refusal, classify_publish_error};
use crate::job_record::{
    Lookup, REFUSED_STATUS, RawRecord, STATUS_HEADER, VersionedJob, parse_raw, tombstone_headers,
};
use crate::stream_read::{ReadFrom, last_message, open_stream};
use crate::topology::{JOB_STATE_STREAM, TOMBSTONE_TTL};
use crate::{spans, subject};

/// Lifetime of the tombstone of a job that the queue refused.
const REFUSED_TOMBSTONE_TTL: Duration = Duration::from_secs(60);
/// Maximum number of times that a change is tried, after conflicts and unclear answers.
const CHANGE_TRIES: u32 = 8;
/// Delay before the leader is read after the first unclear answer; doubled for each further try. A
/// cluster refuses a write while another write of the same record is being replicated. Until that
/// has finished, the leader returns the earlier revision.
const UNCLEAR_DELAY: Duration = Duration::from_millis(10);

/// Reason why a record was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// Another writer updated the record first (revision mismatch).
    Conflict,
    /// No definite answer. The record may have been written.
    Unclear(String),
    /// The record exceeds the maximum message size.
    TooLarge,
}

impl WriteError {
    /// Waits after an unclear answer, before the leader is read. `earlier` is the number of tries
    /// before this one.
    async fn pause(&self, earlier: u32) {
        match self {
            Self::Conflict | Self::TooLarge => {}
            Self::Unclear(_) => {
                tokio::time::sleep(UNCLEAR_DELAY * 2_u32.saturating_pow(earlier)).await;
            }
        }
    }
}

/// Result of [`Store::claim`].
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimResult {
    /// This call has created the record, at this revision.
    Created(u64),
    /// The record of another request exists.
    Exists(Box<VersionedJob>),
    /// The job had a record, which was deleted or has expired.
    Gone,
}

/// Result of [`Store::apply`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The change is stored.
    Applied(Box<VersionedJob>),
    /// The current record does not allow the change.
    Refused(Box<VersionedJob>, InvalidTransition),
    /// The record was deleted or has expired.
    Gone,
}

/// The bucket of job records.
#[derive(Debug, Clone)]
pub struct Store {
    broker: Broker,
    stream: JetStream<()>,
    result_ttl: Duration,
}

impl Store {
    /// Opens the bucket. Sends no request. Final records expire after `result_ttl`.
    pub fn open(broker: &Broker, result_ttl: Duration) -> Self {
        Self { broker: broker.clone(), stream: open_stream(broker, JOB_STATE_STREAM), result_ttl }
    }

    /// Reads and parses a record.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Newer`] for a newer format, and [`Error::Corrupt`] if the
    /// value is not a record.
    pub async fn get_job(&self, key: &JobKey, read_from: ReadFrom) -> Result<Lookup, Error> {
        self.get_raw(key, read_from).await?.read(key)
    }

    /// Reads a record. Parses its JSON only if the status header is missing or unknown.
    ///
    /// # Errors
    /// [`Error::Unavailable`]. [`Error::Newer`] and [`Error::Corrupt`] only if the JSON is parsed.
    pub async fn get_raw(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<Lookup<RawRecord>, Error> {
        self.get_raw_and_revision(key, read_from).await.map(|(record, _)| record)
    }

    /// Reads a record, and the revision that a change must expect.
    async fn get_job_and_revision(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<(Lookup, u64), Error> {
        let (record, revision) = self.get_raw_and_revision(key, read_from).await?;
        Ok((record.read(key)?, revision))
    }

    /// Reads a record like [`Store::get_raw`], and the revision that a change must expect. A
    /// rolled-back record is not found, but its tombstone has a revision.
    async fn get_raw_and_revision(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<(Lookup<RawRecord>, u64), Error> {
        match last_message(&self.stream, &subject::record(key), read_from).await? {
            Some(message) => {
                let revision = message.sequence;
                Ok((parse_raw(key, &message.headers, message.payload, revision)?, revision))
            }
            None => Ok((Lookup::NotFound, 0)),
        }
    }

    /// Creates the record of a job.
    ///
    /// # Errors
    /// See [`WriteError`]. A conflict means that the job has a record or a tombstone.
    pub async fn create(&self, job: &Job) -> Result<u64, WriteError> {
        self.write(job, 0).await
    }

    /// Rewrites the record unchanged to bump its revision, so that writes that expect the
    /// old revision fail.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn rewrite(&self, current: &VersionedJob) -> Result<u64, WriteError> {
        self.write(&current.job, current.revision).await
    }

    /// Creates the record of a job unless it has one, or had one. After a conflict or an unclear
    /// answer, a read from the leader decides. A rolled-back record is treated as absent.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the leader does not answer; the record may have been written.
    /// [`Error::TooLarge`], and [`Error::Contended`] after too many conflicts.
    pub async fn claim(&self, job: &Job) -> Result<ClaimResult, Error> {
        let key = job.key();
        let mut expected = 0;
        for earlier in 0..CHANGE_TRIES {
            match self.write(job, expected).await {
                Ok(revision) => return Ok(ClaimResult::Created(revision)),
                Err(WriteError::TooLarge) => {
                    return Err(Error::TooLarge { what: format!("the record of {key}") });
                }
                Err(reason) => {
                    debug!(job.id = %key.job_id, ?reason, "cannot create a record");
                    reason.pause(earlier).await;
                }
            }
            match self.get_job_and_revision(&key, ReadFrom::Leader).await? {
                // The write without a clear answer has arrived.
                (Lookup::Job(stored), revision) if stored.job == *job => {
                    return Ok(ClaimResult::Created(revision));
                }
                (Lookup::Job(stored), _) => return Ok(ClaimResult::Exists(stored)),
                (Lookup::Deleted, _) => return Ok(ClaimResult::Gone),
                // The conflict may be with the tombstone of a rolled-back record. The next try
                // replaces it.
                (Lookup::NotFound, revision) => expected = revision,
            }
        }
        Err(Error::Contended { key: key.to_string(), tries: CHANGE_TRIES })
    }

    /// Replaces the record of a job with a tombstone that reads as *not found*. Call it only if the
    /// queue has definitely refused the job.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the record stays, as a queued job without a message.
    pub async fn roll_back(&self, key: &JobKey, revision: u64) -> Result<(), Error> {
        let mut headers = tombstone_headers();
        headers.insert(STATUS_HEADER, REFUSED_STATUS);
        let message = PublishMessage::build()
            .headers(headers)
            .expected_last_subject_sequence(revision)
            .ttl(REFUSED_TOMBSTONE_TTL);
        self.send(key, message)
            .await
            .map(drop)
            .map_err(|error| Error::unavailable("roll back a record", error))
    }

    /// Deletes a final record. Its tombstone is kept for [`TOMBSTONE_TTL`], longer than a message
    /// can wait in the queue. A worker that receives the job's message later finds the tombstone
    /// and does not run the job.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the record may have been deleted. Revision mismatches are reported
    /// like this, too, because a final record changes only by being deleted or by expiring.
    pub async fn delete(&self, stored: &VersionedJob) -> Result<(), Error> {
        let message = PublishMessage::build()
            .headers(tombstone_headers())
            .expected_last_subject_sequence(stored.revision)
            .ttl(TOMBSTONE_TTL);
        self.send(&stored.job.key(), message)
            .await
            .map(drop)
            .map_err(|error| Error::unavailable("delete a record", error))
    }

    /// Changes a record: applies `change` and writes the result by compare-and-set. After a
    /// conflict or an unclear answer, it reads the leader and tries again with the record found
    /// there.
    ///
    /// `run` identifies the writer, so that a write without a clear answer is recognized if it has
    /// arrived. A record that becomes final gets its expiry time here.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the leader does not answer, [`Error::TooLarge`], and
    /// [`Error::Contended`] after too many conflicts.
    pub async fn apply(
        &self,
        current: &VersionedJob,
        run: Option<RunNonce>,
        change: impl Fn(&mut Job, Timestamp) -> Result<(), InvalidTransition>,
    ) -> Result<Outcome, Error> {
        let key = current.job.key();
        let mut current = Cow::Borrowed(current);
        for earlier in 0..CHANGE_TRIES {
            let job = match self.apply_change(&current.job, &change) {
                Ok(job) => job,
                Err(refused) => {
                    return Ok(Outcome::Refused(Box::new(current.into_owned()), refused));
                }
            };
            match self.write(&job, current.revision).await {
                Ok(revision) => {
                    return Ok(Outcome::Applied(Box::new(VersionedJob { job, revision })));
                }
                Err(WriteError::TooLarge) => {
                    return Err(Error::TooLarge { what: format!("the record of {key}") });
                }
                Err(reason) => {
                    debug!(job.id = %key.job_id, ?reason, "cannot write a record");
                    reason.pause(earlier).await;
                }
            }
            match self.get_job_and_revision(&key, ReadFrom::Leader).await? {
                (Lookup::Deleted, _) => return Ok(Outcome::Gone),
                // The queue refused the job to one gateway, which rolled the record back, but
                // accepted it from another one. So the job exists: write its record over the
                // tombstone.
                (Lookup::NotFound, revision) => current.to_mut().revision = revision,
                (Lookup::Job(latest), _) => {
                    // An unclear write of this run has arrived if the record now has its status and
                    // its run. Applying the change again could be refused as an invalid transition.
                    let arrived = latest.revision > current.revision
                        && latest.job.status == job.status
                        && run.is_some_and(|run| latest.job.is_last_run(run));
                    if arrived {
                        return Ok(Outcome::Applied(latest));
                    }
                    current = Cow::Owned(*latest);
                }
            }
        }
        Err(Error::Contended { key: key.to_string(), tries: CHANGE_TRIES })
    }

    /// Changes a record as [`Store::apply`] does, but only at the revision that was read: a
    /// conflict is not retried. The sweeper uses it, because any other write shows that the job is
    /// alive.
    ///
    /// # Errors
    /// See [`WriteError`]. [`WriteError::Conflict`] includes a status that does not allow the
    /// event.
    pub async fn apply_if_unchanged(
        &self,
        current: &VersionedJob,
        event: &Event,
    ) -> Result<VersionedJob, WriteError> {
        let changed = self.apply_change(&current.job, |job, now| job.apply(event.clone(), now));
        let job = changed.map_err(|_| WriteError::Conflict)?;
        let revision = self.write(&job, current.revision).await?;
        Ok(VersionedJob { job, revision })
    }

    /// Returns the job after `change`. A job that becomes final gets the time at which it expires.
    fn apply_change(
        &self,
        job: &Job,
        change: impl Fn(&mut Job, Timestamp) -> Result<(), InvalidTransition>,
    ) -> Result<Job, InvalidTransition> {
        let now = clock::now();
        let mut changed = job.clone();
        change(&mut changed, now)?;
        // A change without an effect must not write a final record again: that would postpone its
        // expiry.
        if job.status.is_final() {
            return Err(InvalidTransition { from: job.status, event: "unchanged" });
        }
        if changed.status.is_final() {
            changed.expires_at = self.expires_at(now);
        }
        Ok(changed)
    }

    /// Returns the expiry time of a record that becomes final at `now`.
    fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ttl = SignedDuration::try_from(self.result_ttl).ok()?;
        now.checked_add(ttl).ok()
    }

    /// Writes a record by compare-and-set. `expected` is its current revision, 0 if it has none.
    async fn write(&self, job: &Job, expected: u64) -> Result<u64, WriteError> {
        let payload =
            serde_json::to_vec(job).map_err(|error| WriteError::Unclear(error.to_string()))?;
        let mut headers = HeaderMap::new();
        headers.insert(STATUS_HEADER, job.status.as_str());
        let mut message = PublishMessage::build()
            .headers(headers)
            .payload(payload.into())
            .expected_last_subject_sequence(expected);
        if job.status.is_final() {
            message = message.ttl(self.result_ttl);
        }
        let key = job.key();
        let sending = self.send(&key, message).instrument(spans::begin_put_span("put job_state"));
        sending.await.map_err(|error| match classify_publish_error(&error) {
            Refusal::Conflict => WriteError::Conflict,
            Refusal::TooLarge => WriteError::TooLarge,
            Refusal::Full | Refusal::NoResponders | Refusal::Unclear => {
                WriteError::Unclear(error.to_string())
            }
        })
    }

    async fn send(&self, key: &JobKey, message: PublishMessage) -> Result<u64, PublishError> {
        let sent = self.broker.jetstream.send_publish(subject::record(key), message).await?;
        Ok(sent.await?.sequence)
    }
}
