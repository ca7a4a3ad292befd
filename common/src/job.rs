//! The record of a job, and the state machine that changes it.
//!
//! The bucket `job_state` holds one record per job, as readable JSON. Only [`Job::apply`] changes a
//! record, and the store persists the changed record by compare-and-set.

mod event;
mod result_ref;
mod trace;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::batch::BatchProgress;
use crate::failure::Failure;
use crate::histogram::{Rule, Totals, WordCount};
use crate::id::{JobId, JobKey, Lane, Owner, RunNonce};
use crate::open_name::OpenName;
use crate::options::Options;
use crate::raw_json::RawJson;
use crate::source::SourceInfo;
use crate::trace_context::{TraceId, TraceParent, TraceState};
use crate::warning::Warnings;
use crate::webhook::Webhook;

pub use self::event::{Count, Event, InvalidTransition};
pub use self::result_ref::{ExplanationRef, ResultRef};

/// Version of the record format. Readers refuse records with a higher version.
pub const FORMAT: u32 = 1;

/// Status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The job waits for its first or its next attempt.
    Queued,
    /// A worker is counting the source.
    Running,
    /// Final: the job has a result.
    Succeeded,
    /// Final: the job failed, and `failure` contains the reason.
    Failed,
    /// Final: the owner cancelled the job.
    Cancelled,
    /// A status that this version does not support, written by a newer one. It is not final, allows
    /// no event, and cannot be serialized.
    #[serde(skip)]
    Unknown,
}

impl Status {
    /// All statuses except [`Status::Unknown`].
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Returns whether the status is final. A final job never changes again.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Unknown => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Returns the name that the API uses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// Deserializes a status. An unknown name, for example from a newer version, becomes
    /// [`Status::Unknown`].
    ///
    /// # Errors
    /// If the value is not a string.
    pub fn deserialize_or_unknown<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let status = OpenName::<Self>::deserialize(deserializer)?;
        Ok(status.known().unwrap_or(Self::Unknown))
    }

    /// Returns the status with this name, or `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// One attempt to count the source of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the attempt in the job, from 1.
    pub number: u32,
    /// Name of the worker that runs the attempt.
    pub worker: String,
    /// Nonce of the run, set by the worker. Only an event with this nonce can advance, fail or
    /// return the attempt, so that two workers cannot interfere with each other. The API does not
    /// show it.
    pub run: RunNonce,
    /// Time at which the worker started the attempt.
    pub started_at: Timestamp,
    /// Time at which the attempt ended; absent while it runs.
    pub ended_at: Option<Timestamp>,
    /// Reason for the failure. Absent while the attempt runs, after a success and after a
    /// cancellation.
    pub failure: Option<Failure>,
}

/// Stage of a running attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Downloads the document and counts the part that has arrived.
    Fetch,
    /// Counts a text or an uploaded document, or adds up the results of a batch. Nothing is
    /// downloaded.
    Count,
}

/// Progress of a running attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Current stage of the attempt.
    pub stage: OpenName<Stage>,
    /// Number of bytes that are counted so far. For a batch: total size of the documents whose
    /// results are added up so far.
    pub done_bytes: u64,
    /// Total number of bytes; absent if it is unknown.
    pub total_bytes: Option<u64>,
}

/// Record of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Version of the record format, [`FORMAT`].
    pub format: u32,
    /// Id of the job, chosen by the client (`PUT`), derived from its idempotency key, or generated
    /// by the gateway. It never changes.
    pub job_id: JobId,
    /// Tenant that submitted the job, taken from its API key. Only callers with the same owner can
    /// see the job.
    pub owner: Owner,
    /// Current status. Only [`Job::apply`] sets it.
    #[serde(deserialize_with = "Status::deserialize_or_unknown")]
    pub status: Status,
    /// Priority of the job, set by the client. It selects the consumer that delivers the job to
    /// workers.
    pub lane: Lane,
    /// Labels that the client attached, by which lists of jobs can be filtered. The gateway allows
    /// at most 16, with names up to 64 bytes and values up to 256 bytes.
    pub labels: BTreeMap<String, String>,
    /// Description of the source. The gateway fills in the part that the client sent. A successful
    /// attempt adds the properties that it detected, for example the charset.
    pub source: SourceInfo,
    /// Options of the count, as the JSON that was stored. They are not parsed, so that options of a
    /// newer version are shown and written back unchanged.
    pub options: RawJson<Options>,
    /// All attempts, the oldest first. At most the number that the retry policy of the workers
    /// allows: a job that has used up its attempts fails.
    pub attempts: Vec<Attempt>,
    /// Progress of the running attempt, updated by its worker every few seconds. Absent until the
    /// first update, and while the job is not running.
    pub progress: Option<Progress>,
    /// Time of the submission, by the clock of the gateway.
    pub created_at: Timestamp,
    /// Time at which the first attempt started. Later attempts do not change it.
    pub started_at: Option<Timestamp>,
    /// Time at which the job became final.
    pub finished_at: Option<Timestamp>,
    /// Time at which the broker deletes the record, set by the store when the job becomes final.
    /// Records of unfinished jobs do not expire.
    pub expires_at: Option<Timestamp>,
    /// Earliest time of the next attempt, set when an attempt fails and another one follows. For a
    /// batch: time of the next check of its members. Absent while an attempt runs, and when the job
    /// is final.
    pub next_attempt_at: Option<Timestamp>,
    /// Totals under the requested rule, set on success.
    pub totals: Option<Totals>,
    /// Number of words under every rule, by the name of the rule. Set on success; depends on the
    /// options `scope` and `language` only.
    pub totals_by_rule: Option<BTreeMap<String, u64>>,
    /// Number of words in each scope (`page`, `main`) under the requested rule. Set on success;
    /// absent in records of workers that do not support it.
    #[serde(default)]
    pub totals_by_scope: Option<BTreeMap<String, u64>>,
    /// Name and version of the rule that produced the histogram, set on success.
    pub rule: Option<Rule>,
    /// Most frequent words, at most the number in the option `top`, in the order of the histogram.
    /// Set on success.
    pub top_words: Option<RawJson<Vec<WordCount>>>,
    /// Histogram, or the name of the object that contains it. Set on success.
    pub result: Option<ResultRef>,
    /// Reasons to check the count before relying on it: at most
    /// [`WARNINGS_MAX`](crate::warning::WARNINGS_MAX), each with a different code. Set on success.
    /// Empty if there are none, and in records of workers that do not support them.
    #[serde(default, skip_serializing_if = "Warnings::is_empty")]
    pub warnings: Warnings,
    /// Explanation of the differences between rules, or the name of the object that contains it.
    /// Set on success if the option `explain` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationRef>,
    /// Reason for the final failure, set if the job is `failed`.
    pub failure: Option<Failure>,
    /// Whether the job failed because its attempts are used up. Its message is then archived in
    /// `DEAD_JOBS` and can be replayed.
    pub dead_lettered: bool,
    /// Trace of the job, started or continued by the request that submitted it.
    pub trace_id: TraceId,
    /// Span that created the job, in the trace `trace_id`. Spans that do not belong to a delivery,
    /// for example of a cancellation, have it as their parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// Trace state of the caller whose trace the job continues, at most 512 bytes. The gateway sets
    /// it when it creates the record. Absent if the caller sent none, or if an older worker has
    /// updated the record.
    #[serde(default, skip_serializing_if = "TraceState::is_empty")]
    pub tracestate: TraceState,
    /// Same as [`JobMessage::fingerprint`](crate::message::JobMessage::fingerprint).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Same as [`JobMessage::retry_of`](crate::message::JobMessage::retry_of).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Same as [`JobMessage::batch`](crate::message::JobMessage::batch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
    /// Progress of the members, if the job is a batch. Updated at each check of the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<BatchProgress>,
    /// Name of the object in the bucket `documents` that contains the document to count. The object
    /// is removed when the job is final, but kept for a replay if the job is dead-lettered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// Same as [`JobMessage::webhook`](crate::message::JobMessage::webhook). The state of its
    /// delivery is stored elsewhere, because a final record never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

impl Job {
    /// Returns the key of the record.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey { owner: self.owner.clone(), job_id: self.job_id }
    }

    /// Returns whether the newest attempt belongs to `run`. A worker calls it after a write with an
    /// unclear outcome, to find out whether the stored record is its own.
    #[must_use]
    pub fn is_last_run(&self, run: RunNonce) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.run == run)
    }

    /// Returns whether the record contains an attempt of `run`.
    #[must_use]
    pub fn has_attempt_of(&self, run: RunNonce) -> bool {
        self.attempts.iter().any(|attempt| attempt.run == run)
    }

    /// Returns whether `run` has started and the job is not final. On a final record it returns
    /// `false`, so the caller applies the start and gets the refusal.
    #[must_use]
    pub fn has_begun(&self, run: RunNonce) -> bool {
        !self.status.is_final() && self.has_attempt_of(run)
    }

    /// Returns the number of attempts, including a running one.
    #[must_use]
    pub fn attempt_count(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// Applies `event` at `now`.
    ///
    /// # Errors
    /// [`InvalidTransition`] if the status does not allow the event, or if the event belongs to a
    /// run other than the current one. The record is then unchanged.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Result<(), InvalidTransition> {
        use Status::{Cancelled, Failed, Queued, Running, Succeeded};

        let refused = InvalidTransition { from: self.status, event: event.name() };
        match (self.status, event) {
            // A redelivery finds the status `running`: the previous worker crashed or lost its
            // connection. That attempt ends as crashed, and a new one starts.
            (Queued | Running, Event::Started { run, worker }) => {
                self.close_attempt(now, Some(Failure::worker_crashed()));
                self.open_attempt(run, worker, now);
                self.status = Running;
            }
            (Running, Event::Advanced { run, progress }) if self.is_running(run) => {
                self.progress = Some(progress);
            }
            // A check of the members is not an attempt, so it may happen any number of times.
            (Queued, Event::MembersChecked { members, next_check_at }) => {
                self.members = Some(members);
                self.next_attempt_at = Some(next_check_at);
            }
            // Accepts the result of any run, even if the job has been redelivered to another
            // worker: both counted the same source, so the first result is as good as a later one.
            (Queued | Running, Event::Counted { run, count }) => {
                self.close_counted(run, now);
                self.set_result(*count);
                self.finish(Succeeded, now);
            }
            (Running, Event::AttemptFailed { run, failure, next_attempt_at })
                if self.is_running(run) =>
            {
                self.close_attempt(now, Some(failure));
                self.next_attempt_at = Some(next_attempt_at);
                self.progress = None;
                self.status = Queued;
            }
            (Running, Event::Returned { run }) if self.is_running(run) => {
                // A returned attempt does not count: remove it, so that restarts of workers cannot
                // use up the attempts.
                self.attempts.pop();
                self.progress = None;
                self.status = Queued;
            }
            (Running, Event::FailedForGood { run, failure, dead_lettered })
                if self.is_running(run) =>
            {
                self.close_attempt(now, Some(failure.clone()));
                self.fail(failure, dead_lettered, now);
            }
            // No run reports this event, so an attempt that is still open was lost with its worker.
            (Queued | Running, Event::FailedWithoutRun { failure, dead_lettered }) => {
                self.close_attempt(now, Some(Failure::worker_crashed()));
                self.fail(failure, dead_lettered, now);
            }
            // A worker that still counts the job finds the record final at its next write, and
            // stops.
            (Queued | Running, Event::Cancelled) => {
                self.close_attempt(now, None);
                self.finish(Cancelled, now);
            }
            // All statuses are listed, so that a new one does not compile until its events are
            // decided.
            (Queued | Running | Succeeded | Failed | Cancelled | Status::Unknown, _) => {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Returns whether the newest attempt belongs to `run` and has not ended.
    #[must_use]
    pub fn is_running(&self, run: RunNonce) -> bool {
        self.attempts.last().is_some_and(|last| last.run == run && last.ended_at.is_none())
    }

    fn open_attempt(&mut self, run: RunNonce, worker: String, now: Timestamp) {
        let number = self.attempt_count().saturating_add(1);
        let attempt =
            Attempt { number, worker, run, started_at: now, ended_at: None, failure: None };
        self.attempts.push(attempt);
        self.started_at.get_or_insert(now);
        self.next_attempt_at = None;
        self.progress = None;
    }

    fn close_attempt(&mut self, now: Timestamp, failure: Option<Failure>) {
        if let Some(open) = self.attempts.last_mut().filter(|last| last.ended_at.is_none()) {
            open.ended_at = Some(now);
            open.failure = failure;
        }
    }

    /// Ends the newest attempt without a failure. Then marks the attempt of `run` as successful,
    /// which may be an earlier one that is recorded as crashed.
    fn close_counted(&mut self, run: RunNonce, now: Timestamp) {
        self.close_attempt(now, None);
        if let Some(own) = self.attempts.iter_mut().find(|attempt| attempt.run == run) {
            own.ended_at = Some(now);
            own.failure = None;
        }
    }

    fn set_result(&mut self, count: Count) {
        self.source = count.source;
        self.totals = Some(count.totals);
        self.totals_by_rule = Some(count.totals_by_rule);
        self.totals_by_scope = Some(count.totals_by_scope);
        self.rule = Some(count.rule);
        self.top_words = Some(count.top_words);
        self.result = Some(count.result);
        self.warnings = count.warnings;
        self.explanation = count.explanation;
        self.members = count.members;
    }

    fn fail(&mut self, failure: Failure, dead_lettered: bool, now: Timestamp) {
        self.failure = Some(failure);
        self.dead_lettered = dead_lettered;
        self.finish(Status::Failed, now);
    }

    fn finish(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.progress = None;
        self.next_attempt_at = None;
        self.finished_at = Some(now);
    }
}

#[cfg(test)]
mod tests;
