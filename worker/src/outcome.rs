//! The results of counting and of attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use wordmill_common::batch::BatchProgress;
use wordmill_common::explanation::Explanation;
use wordmill_common::failure::Failure;
use wordmill_common::histogram::{Histogram, Rule, Totals};
use wordmill_common::source::SourceInfo;
use wordmill_nats::job_record::VersionedJob;
use wordmill_nats::store::Outcome;

/// The counted words of a source.
#[derive(Debug)]
pub(crate) struct CountResult {
    pub(crate) totals: Totals,
    pub(crate) totals_by_rule: BTreeMap<String, u64>,
    pub(crate) totals_by_scope: BTreeMap<String, u64>,
    pub(crate) histogram: Histogram,
    pub(crate) explanation: Option<Explanation>,
    pub(crate) rule: Rule,
    /// The source, with everything that was detected about it.
    pub(crate) source: SourceInfo,
    /// The progress of the members whose results were added up, for a batch.
    pub(crate) members: Option<BatchProgress>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) struct AttemptFailure {
    pub(crate) failure: Failure,
    /// The pause that a host asks for before the next request, as in `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// Only a worker of a newer version can process the job: the attempt does not count.
    pub(crate) needs_newer_version: bool,
}

impl From<Failure> for AttemptFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, retry_after: None, needs_newer_version: false }
    }
}

/// How an attempt ended, with the record as last read.
pub(crate) enum AttemptOutcome {
    /// The source was counted.
    Counted(Box<VersionedJob>, Box<CountResult>),
    /// The attempt failed.
    Failed(Box<VersionedJob>, AttemptFailure),
    /// A shutdown interrupted the attempt.
    Interrupted(Box<VersionedJob>),
    /// The job needs a worker of a newer version.
    NeedsNewerVersion(Box<VersionedJob>),
    /// Meanwhile the record became final, or another run took the job.
    Overtaken(Box<Outcome>),
}
