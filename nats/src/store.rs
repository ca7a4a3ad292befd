//! Job records: read, created, and changed by compare-and-set, here and nowhere else.

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
use crate::error::{Refusal, refusal};
use crate::job_record::{
    Lookup, REFUSED_STATUS, RawRecord, STATUS_HEADER, VersionedJob, raw, tombstone_headers,
};
use crate::stream_read::{ReadFrom, last, open};
use crate::topology::{JOB_STATE_STREAM, TOMBSTONE_TTL};
use crate::{spans, subject};

/// How long the marker of a job that was never accepted stays.
const REFUSED_TOMBSTONE_TTL: Duration = Duration::from_secs(60);
/// How often a change is tried against other writers.
const CHANGE_TRIES: u32 = 8;
/// Wait before the first of these tries is repeated because its answer decided nothing; every
/// further wait is twice as long. A cluster refuses a write while another one of the same record is
/// on its way to the replicas, and until that has arrived the leader shows what was before.
const UNCLEAR_PAUSE: Duration = Duration::from_millis(10);

/// Why a record was not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError {
    /// Another writer was faster.
    Conflict,
    /// No answer that decides.
    Unclear(String),
    /// The record is too large.
    TooLarge,
}

impl WriteError {
    /// Waits, if need be, before the leader is asked what is there, after so many `earlier` tries.
    async fn pause(&self, earlier: u32) {
        match self {
            Self::Conflict | Self::TooLarge => {}
            Self::Unclear(_) => {
                tokio::time::sleep(UNCLEAR_PAUSE * 2_u32.saturating_pow(earlier)).await;
            }
        }
    }
}

/// What became of the wish to be the first to write a record.
#[derive(Debug, Clone, PartialEq)]
pub enum ClaimResult {
    /// The record is ours, at this revision.
    Created(u64),
    /// Somebody else's is there.
    Exists(Box<VersionedJob>),
    /// There was one, which was deleted or has expired.
    Gone,
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is stored.
    Applied(Box<VersionedJob>),
    /// The record, as it is now, does not allow it.
    Refused(Box<VersionedJob>, InvalidTransition),
    /// The record is gone.
    Gone,
}

/// The records.
#[derive(Debug, Clone)]
pub struct Store {
    broker: Broker,
    stream: JetStream<()>,
    result_ttl: Duration,
}

impl Store {
    /// Opens the records; asks the broker nothing. Final records are kept for `result_ttl`.
    pub fn open(broker: &Broker, result_ttl: Duration) -> Self {
        Self { broker: broker.clone(), stream: open(broker, JOB_STATE_STREAM), result_ttl }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no record.
    pub async fn get_job(&self, key: &JobKey, read_from: ReadFrom) -> Result<Lookup, Error> {
        self.get_raw(key, read_from).await?.read(key)
    }

    /// Gets a record as it is there.
    ///
    /// # Errors
    /// As [`Store::get_job`].
    pub async fn get_raw(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<Lookup<RawRecord>, Error> {
        self.get_raw_and_revision(key, read_from).await.map(|(record, _)| record)
    }

    /// Reads a record, and the revision that a change has to name.
    async fn get_job_and_revision(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<(Lookup, u64), Error> {
        let (record, revision) = self.get_raw_and_revision(key, read_from).await?;
        Ok((record.read(key)?, revision))
    }

    /// Gets a record, and the revision that a change has to name: a job that was never accepted
    /// has left a marker, which has one, too.
    async fn get_raw_and_revision(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<(Lookup<RawRecord>, u64), Error> {
        match last(&self.stream, &subject::record(key), read_from).await? {
            Some(message) => {
                let revision = message.sequence;
                Ok((raw(key, &message.headers, message.payload, revision)?, revision))
            }
            None => Ok((Lookup::NotFound, 0)),
        }
    }

    /// Writes the record of a job that has none.
    ///
    /// # Errors
    /// See [`WriteError`]; a conflict means that somebody was faster.
    pub async fn create(&self, job: &Job) -> Result<u64, WriteError> {
        self.write(job, 0).await
    }

    /// Writes a record again as it was read, so that nobody changes it who read it before.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn rewrite(&self, current: &VersionedJob) -> Result<u64, WriteError> {
        self.write(&current.job, current.revision).await
    }

    /// Writes the record of a job unless there is, or was, one; decides every case of doubt on the
    /// leader. The marker of a job that was never accepted does not count.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the leader does not answer: the record may have been written.
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
                    debug!(job.id = %key.job_id, ?reason, "record not created");
                    reason.pause(earlier).await;
                }
            }
            match self.get_job_and_revision(&key, ReadFrom::Leader).await? {
                // The write that was not answered had arrived.
                (Lookup::Job(stored), revision) if stored.job == *job => {
                    return Ok(ClaimResult::Created(revision));
                }
                (Lookup::Job(stored), _) => return Ok(ClaimResult::Exists(stored)),
                (Lookup::Deleted, _) => return Ok(ClaimResult::Gone),
                (Lookup::NotFound, revision) => expected = revision,
            }
        }
        Err(Error::Contended { key: key.to_string(), tries: CHANGE_TRIES })
    }

    /// Takes back the record of a job that the queue certainly refused.
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
            .map_err(|error| Error::unavailable("take back a record", error))
    }

    /// Deletes a final record. Its tombstone stays for [`TOMBSTONE_TTL`], longer than a message can
    /// wait, so that a worker that receives the job's message later does not run it.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may have been deleted. Also if it is at another revision, which
    /// means that it was deleted or has expired.
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

    /// Changes a record: applies `change`, writes by compare-and-set, and after a conflict or an
    /// unclear answer reads the leader and tries again on what it finds there.
    ///
    /// `run` tells whose change it is, so that an unanswered write that did arrive is recognised.
    /// A final record gets its time to live here.
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
                    debug!(job.id = %key.job_id, ?reason, "record not written");
                    reason.pause(earlier).await;
                }
            }
            match self.get_job_and_revision(&key, ReadFrom::Leader).await? {
                (Lookup::Deleted, _) => return Ok(Outcome::Gone),
                // A gateway that was declined took the record back while another one, asked for
                // the same job, was not: the job exists.
                (Lookup::NotFound, revision) => current.to_mut().revision = revision,
                (Lookup::Job(latest), _) => {
                    let arrived = latest.revision > current.revision
                        && latest.job.status == job.status
                        && run.is_some_and(|run| latest.job.last_run_is(run));
                    if arrived {
                        return Ok(Outcome::Applied(latest));
                    }
                    current = Cow::Owned(*latest);
                }
            }
        }
        Err(Error::Contended { key: key.to_string(), tries: CHANGE_TRIES })
    }

    /// Changes a record as [`Store::apply`] does, but only at the revision that was read: after a
    /// conflict it does not read the record and try again. The sweeper uses it, because any other
    /// write shows that the job is alive.
    ///
    /// # Errors
    /// See [`WriteError`]; [`WriteError::Conflict`] also if the state does not allow the event.
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
        // A change without an effect would write a final record again, with a later expiry.
        if job.status.is_final() {
            return Err(InvalidTransition { from: job.status, event: "unchanged" });
        }
        if changed.status.is_final() {
            changed.expires_at = self.expires_at(now);
        }
        Ok(changed)
    }

    /// Returns the time at which a record expires that becomes final now.
    fn expires_at(&self, now: Timestamp) -> Option<Timestamp> {
        let ttl = SignedDuration::try_from(self.result_ttl).ok()?;
        now.checked_add(ttl).ok()
    }

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
        sending.await.map_err(|error| match refusal(&error) {
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
