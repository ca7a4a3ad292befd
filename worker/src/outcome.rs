//! Results of counting and of attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use wordmill_common::batch::BatchProgress;
use wordmill_common::explanation::Explanation;
use wordmill_common::failure::Failure;
use wordmill_common::histogram::{Histogram, Rule, Totals};
use wordmill_common::source::SourceInfo;
use wordmill_common::warning::Warnings;
use wordmill_nats::job_record::VersionedJob;
use wordmill_nats::store::Outcome;

/// Result of counting a source.
#[derive(Debug)]
pub(crate) struct CountResult {
    pub(crate) totals: Totals,
    pub(crate) totals_by_rule: BTreeMap<String, u64>,
    pub(crate) totals_by_scope: BTreeMap<String, u64>,
    pub(crate) histogram: Histogram,
    pub(crate) explanation: Option<Explanation>,
    pub(crate) warnings: Warnings,
    pub(crate) rule: Rule,
    /// The source, with its detected properties.
    pub(crate) source: SourceInfo,
    /// For a batch: the members that were added up.
    pub(crate) members: Option<BatchProgress>,
}

/// Failure of an attempt.
#[derive(Debug)]
pub(crate) struct AttemptFailure {
    pub(crate) failure: Failure,
    /// Delay before the next request, from the host's `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// Whether the job needs a newer worker. If so, the attempt is not counted.
    pub(crate) needs_newer_version: bool,
}

impl From<Failure> for AttemptFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after: None, needs_newer_version: false }
    }
}

/// Outcome of an attempt, with the record as it was last read.
pub(crate) enum JobAttemptOutcome {
    /// The source was counted.
    Counted(Box<VersionedJob>, Box<CountResult>),
    /// The attempt failed.
    Failed(Box<VersionedJob>, AttemptFailure),
    /// A shutdown interrupted the attempt.
    Interrupted(Box<VersionedJob>),
    /// The job needs a newer worker.
    NeedsNewerVersion(Box<VersionedJob>),
    /// The record has become final, or another run owns the job.
    Overtaken(Box<Outcome>),
}
