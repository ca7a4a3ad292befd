//! A job's record and its life: every allowed change of state, in one pure function.
//!
//! The record is what the bucket `job_state` holds, as JSON that a person can read. Only
//! [`Job::apply`] changes it; the store persists what comes out by compare-and-set.

mod event;
mod result_ref;

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
use crate::trace_context::{TraceId, TraceParent};
use crate::webhook::Webhook;

pub use self::event::{Count, Event, InvalidTransition};
pub use self::result_ref::{ExplanationRef, ResultRef};

/// Version of the record's format. Readers refuse what is newer.
pub const FORMAT: u32 = 1;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for a worker, for the first time or for the next attempt.
    Queued,
    /// A worker counts it.
    Running,
    /// Final: there is a result.
    Succeeded,
    /// Final: `failure` says why.
    Failed,
    /// Final: withdrawn by its owner.
    Cancelled,
    /// A state that only a newer version knows. It counts as not final, refuses every event, and is
    /// never written.
    #[serde(skip)]
    Unknown,
}

impl Status {
    /// Every status that this version knows.
    pub const ALL: [Self; 5] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// Tells whether a job in this state never changes again.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Unknown => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Returns the name as clients see it.
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

    /// Reads a status that a newer version may have written.
    ///
    /// # Errors
    /// If the value is not a string.
    pub fn deserialize_or_unknown<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let status = OpenName::<Self>::deserialize(deserializer)?;
        Ok(status.known().unwrap_or(Self::Unknown))
    }

    /// Finds a status by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// One try at counting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The worker's name.
    pub worker: String,
    /// Whose attempt it is; not shown to clients.
    pub run: RunNonce,
    /// When the worker began.
    pub started_at: Timestamp,
    /// When it ended; absent while it runs.
    pub ended_at: Option<Timestamp>,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

/// What a worker does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Gets the document and counts what has arrived.
    Fetch,
    /// Counts a text or document that is at hand.
    Count,
}

/// How far a running attempt has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// What it does.
    pub stage: OpenName<Stage>,
    /// Bytes counted so far.
    pub done_bytes: u64,
    /// Bytes in all, where known.
    pub total_bytes: Option<u64>,
}

/// The record of one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Version of this format.
    pub format: u32,
    /// Which job.
    pub job_id: JobId,
    /// Whose job.
    pub owner: Owner,
    /// Where it is in its life.
    #[serde(deserialize_with = "Status::deserialize_or_unknown")]
    pub status: Status,
    /// Which queue it waits in.
    pub lane: Lane,
    /// Free marks of the client.
    pub labels: BTreeMap<String, String>,
    /// What is counted.
    pub source: SourceInfo,
    /// The options as stored JSON, so that an option unknown to this version is shown and written
    /// back unchanged.
    pub options: RawJson<Options>,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
    /// How far the running attempt has come.
    pub progress: Option<Progress>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When the first attempt began.
    pub started_at: Option<Timestamp>,
    /// When it became final.
    pub finished_at: Option<Timestamp>,
    /// When the record goes away; only final records do.
    pub expires_at: Option<Timestamp>,
    /// When a job that waits for its next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// What was counted.
    pub totals: Option<Totals>,
    /// The total of words under every rule.
    pub totals_by_rule: Option<BTreeMap<String, u64>>,
    /// The total of words in each scope, by the rule asked for. Older workers do not write it.
    #[serde(default)]
    pub totals_by_scope: Option<BTreeMap<String, u64>>,
    /// The rule that counted.
    pub rule: Option<Rule>,
    /// The most frequent words.
    pub top_words: Option<RawJson<Vec<WordCount>>>,
    /// Where the histogram is.
    pub result: Option<ResultRef>,
    /// Where the explanation is, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<ExplanationRef>,
    /// Why the job failed.
    pub failure: Option<Failure>,
    /// Whether the job is also kept in `DEAD_JOBS`.
    pub dead_lettered: bool,
    /// The trace of the job.
    pub trace_id: TraceId,
    /// The span in that trace which made the job: the parent of what happens to it later, outside of
    /// the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
    /// As in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// As in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// As in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
    /// What is known of a batch's members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<BatchProgress>,
    /// The object in the bucket `documents` that holds what is to be counted. It goes when the job
    /// is final, unless the job is also a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// As in the message. How it is doing is kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

impl Job {
    /// Returns the job's key.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey { owner: self.owner.clone(), job_id: self.job_id }
    }

    /// Tells whether the newest attempt is that of `run`: after an unclear write, whether the
    /// record that is found is the writer's own work.
    #[must_use]
    pub fn last_run_is(&self, run: RunNonce) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.run == run)
    }

    /// Tells whether `run` has an attempt in the record.
    #[must_use]
    pub fn has_attempt_of(&self, run: RunNonce) -> bool {
        self.attempts.iter().any(|attempt| attempt.run == run)
    }

    /// Tells whether `run` need not be started any more. On a final record nothing has begun: its
    /// start is refused, as everything is.
    #[must_use]
    pub fn has_begun(&self, run: RunNonce) -> bool {
        !self.status.is_final() && self.has_attempt_of(run)
    }

    /// Returns the number of attempts, the open one included.
    #[must_use]
    pub fn attempt_count(&self) -> u32 {
        u32::try_from(self.attempts.len()).unwrap_or(u32::MAX)
    }

    /// Applies `event` at `now`.
    ///
    /// # Errors
    /// [`InvalidTransition`] if the state does not allow the event, or if the event speaks of a
    /// run that is not the current one. The record is unchanged then.
    pub fn apply(&mut self, event: Event, now: Timestamp) -> Result<(), InvalidTransition> {
        use Status::{Cancelled, Failed, Queued, Running, Succeeded};

        let refused = InvalidTransition { from: self.status, event: event.name() };
        match (self.status, event) {
            // A redelivery finds the job still running: that is a start, too.
            (Queued | Running, Event::Started { run, worker }) => {
                self.close_attempt(now, Some(Failure::worker_crashed()));
                self.open_attempt(run, worker, now);
                self.status = Running;
            }
            (Running, Event::Advanced { run, progress }) if self.is_running(run) => {
                self.progress = Some(progress);
            }
            // Looking at the members is no attempt: it may happen as often as it takes.
            (Queued, Event::MembersChecked { members, next_look_at }) => {
                self.members = Some(members);
                self.next_attempt_at = Some(next_look_at);
            }
            // A result is a result, even if the job was given to somebody else meanwhile.
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
            (Running, Event::HandedBack { run }) if self.is_running(run) => {
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
            (Queued | Running, Event::FailedWithoutRun { failure, dead_lettered }) => {
                self.close_attempt(now, Some(Failure::worker_crashed()));
                self.fail(failure, dead_lettered, now);
            }
            (Queued | Running, Event::Cancelled) => {
                self.close_attempt(now, None);
                self.finish(Cancelled, now);
            }
            (Queued | Running | Succeeded | Failed | Cancelled | Status::Unknown, _) => {
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Tells whether the attempt of `run` is the newest one and has not ended.
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

    /// Ends the attempt that counted, which need not be the newest one, and whatever still ran.
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
