//! What can happen to a job, and what an attempt finds.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{ExplanationRef, Progress, ResultRef, Status};
use crate::batch::BatchProgress;
use crate::failure::Failure;
use crate::histogram::{Rule, Totals, WordCount};
use crate::id::RunNonce;
use crate::raw_json::RawJson;
use crate::source::SourceInfo;

/// What a successful attempt found.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    /// The source, with what was learnt about it.
    pub source: SourceInfo,
    /// The totals under the rule asked for.
    pub totals: Totals,
    /// The total of words under every rule.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// The total of words in each scope, by the rule asked for.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// The rule that counted.
    pub rule: Rule,
    /// The most frequent words.
    pub top_words: RawJson<Vec<WordCount>>,
    /// Where the histogram is.
    pub result: ResultRef,
    /// Where the explanation is, if one was asked for.
    pub explanation: Option<ExplanationRef>,
    /// The members that were added up, if the job is a batch.
    pub members: Option<BatchProgress>,
}

/// Facts about a job, in the past tense.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A worker began an attempt.
    Started {
        /// The attempt's nonce.
        run: RunNonce,
        /// The worker's name.
        worker: String,
    },
    /// The attempt came further.
    Advanced {
        /// Whose progress.
        run: RunNonce,
        /// How far.
        progress: Progress,
    },
    /// A batch's members were looked at, and not all of them are final.
    MembersChecked {
        /// What was seen.
        members: BatchProgress,
        /// When to look again.
        next_look_at: Timestamp,
    },
    /// The attempt counted the source.
    Counted {
        /// Whose result.
        run: RunNonce,
        /// The result.
        count: Box<Count>,
    },
    /// The attempt failed and there will be another.
    AttemptFailed {
        /// Whose failure.
        run: RunNonce,
        /// Why.
        failure: Failure,
        /// When the next attempt is due.
        next_attempt_at: Timestamp,
    },
    /// The attempt was interrupted by a shutdown: it does not count.
    HandedBack {
        /// Whose attempt.
        run: RunNonce,
    },
    /// The attempt failed and there will be no other.
    FailedForGood {
        /// Whose failure.
        run: RunNonce,
        /// Why.
        failure: Failure,
        /// Whether retries were exhausted, so that the job is dead-lettered.
        dead_lettered: bool,
    },
    /// Somebody who runs no attempt found that the job cannot be finished.
    FailedWithoutRun {
        /// Why.
        failure: Failure,
        /// Whether the job is dead-lettered.
        dead_lettered: bool,
    },
    /// The owner withdrew the job.
    Cancelled,
}

impl Event {
    /// Returns the event's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Advanced { .. } => "advanced",
            Self::MembersChecked { .. } => "surveyed",
            Self::Counted { .. } => "counted",
            Self::AttemptFailed { .. } => "attempt_failed",
            Self::HandedBack { .. } => "handed_back",
            Self::FailedForGood { .. } => "gave_up",
            Self::FailedWithoutRun { .. } => "abandoned",
            Self::Cancelled => "withdrawn",
        }
    }
}

/// An event that does not apply: an ordinary outcome, another worker was faster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {} refuses the event {event:?}", from.as_str())]
pub struct InvalidTransition {
    /// The state the job is in.
    pub from: Status,
    /// The event's name.
    pub event: &'static str,
}
