//! Events of a job, and the result of a successful attempt.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{ExplanationRef, Progress, ResultRef, Status};
use crate::batch::BatchProgress;
use crate::failure::Failure;
use crate::histogram::{Rule, Totals, WordCount};
use crate::id::RunNonce;
use crate::raw_json::RawJson;
use crate::source::SourceInfo;
use crate::warning::Warnings;

/// Result of a successful attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// Description of the source, with its detected properties.
    pub source: SourceInfo,
    /// Totals under the requested rule.
    pub totals: Totals,
    /// Number of words under every rule, by the name of the rule.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// Number of words in each scope, under the requested rule.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// Rule that produced the histogram.
    pub rule: Rule,
    /// Most frequent words.
    pub top_words: RawJson<Vec<WordCount>>,
    /// Histogram, or the name of the object that contains it.
    pub result: ResultRef,
    /// Reasons to check the count before relying on it.
    pub warnings: Warnings,
    /// Explanation, if the option `explain` is set.
    pub explanation: Option<ExplanationRef>,
    /// Final progress of the members, if the job is a batch.
    pub members: Option<BatchProgress>,
}

/// An event in the life of a job, named in the past tense.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker started an attempt.
    Started {
        /// Nonce of the attempt.
        run: RunNonce,
        /// Name of the worker.
        worker: String,
    },
    /// A running attempt made progress.
    Advanced {
        /// Nonce of the attempt.
        run: RunNonce,
        /// New progress.
        progress: Progress,
    },
    /// A worker checked the members of a batch, and some are not final yet.
    MembersChecked {
        /// Current progress of the members.
        members: BatchProgress,
        /// Time of the next check.
        next_check_at: Timestamp,
    },
    /// An attempt counted the source.
    Counted {
        /// Nonce of the attempt.
        run: RunNonce,
        /// Result of the count.
        count: Box<Count>,
    },
    /// An attempt failed, and another one follows.
    AttemptFailed {
        /// Nonce of the attempt.
        run: RunNonce,
        /// Reason for the failure.
        failure: Failure,
        /// Earliest time of the next attempt.
        next_attempt_at: Timestamp,
    },
    /// A worker returned the job to the queue, for example at shutdown. The attempt does not count.
    Returned {
        /// Nonce of the attempt.
        run: RunNonce,
    },
    /// An attempt failed, and no other one follows.
    FailedForGood {
        /// Nonce of the attempt.
        run: RunNonce,
        /// Reason for the failure.
        failure: Failure,
        /// Whether the attempts are used up. The job is then dead-lettered. False for a permanent
        /// failure.
        dead_lettered: bool,
    },
    /// The job failed outside of an attempt: a worker found its attempts used up, or the sweeper
    /// found its message lost.
    FailedWithoutRun {
        /// Reason for the failure.
        failure: Failure,
        /// Whether the job is dead-lettered.
        dead_lettered: bool,
    },
    /// The owner cancelled the job.
    Cancelled,
}

impl Event {
    /// Returns the name of the event, as logs and errors show it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Advanced { .. } => "advanced",
            Self::MembersChecked { .. } => "members_checked",
            Self::Counted { .. } => "counted",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::Returned { .. } => "returned",
            Self::FailedForGood { .. } => "failed_for_good",
            Self::FailedWithoutRun { .. } => "failed_without_run",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An event that the current status of the job does not allow. Expected under concurrency: another
/// worker updated the job first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event {event:?} is not allowed for a job with status {}", from.as_str())]
pub struct InvalidTransition {
    /// Current status of the job.
    pub from: Status,
    /// Name of the event.
    pub event: &'static str,
}
