//! Jobs as the API represents them: the fields that are printed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::client::Response;
use crate::error::Error;
use crate::warning::Warning;

/// A job, with the complete JSON of the response.
#[derive(Debug, Clone)]
pub(crate) struct FetchedJob {
    pub(crate) job: Job,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    pub(crate) job_id: String,
    pub(crate) status: String,
    pub(crate) lane: String,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) source: Source,
    #[serde(default)]
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) progress: Option<Progress>,
    /// Number of members of a batch by status.
    pub(crate) counts: Option<BTreeMap<String, u64>>,
    pub(crate) created_at: String,
    pub(crate) finished_at: Option<String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) next_attempt_at: Option<String>,
    pub(crate) totals: Option<Totals>,
    pub(crate) totals_by_rule: Option<BTreeMap<String, u64>>,
    pub(crate) rule: Option<Rule>,
    /// Reasons to check the count. Servers of older versions send none.
    #[serde(default)]
    pub(crate) warnings: Vec<Warning>,
    pub(crate) failure: Option<Failure>,
    #[serde(default)]
    pub(crate) dead_lettered: bool,
    pub(crate) trace_id: String,
    pub(crate) retry_of: Option<String>,
    #[serde(default)]
    pub(crate) links: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Source {
    kind: String,
    url: Option<String>,
    file_name: Option<String>,
    size_bytes: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) number: u32,
    pub(crate) worker: String,
    pub(crate) failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Progress {
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
pub(crate) struct Totals {
    pub(crate) words: u64,
    pub(crate) unique_words: u64,
    pub(crate) characters: u64,
    pub(crate) characters_no_spaces: u64,
    #[serde(default)]
    pub(crate) overlong_words: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, serde::Serialize)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) unicode: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) detail: String,
}

impl FetchedJob {
    /// Parses a response with one job.
    ///
    /// # Errors
    /// [`Error::UnexpectedResponse`] if it is not a job.
    pub(crate) fn parse(response: &Response) -> Result<Self, Error> {
        Self::from_value(response.json()?).map_err(|error| response.unexpected(error))
    }

    /// Parses one job.
    pub(crate) fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        Ok(Self { job: Job::deserialize(&value)?, value })
    }
}

impl Job {
    /// Returns whether the job is final.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed" | "cancelled")
    }

    /// Returns whether the job has a result.
    pub(crate) fn has_succeeded(&self) -> bool {
        self.status == "succeeded"
    }

    /// Returns the reason why there is no result, for a failed or cancelled job.
    pub(crate) fn failure_text(&self) -> Option<String> {
        let job_id = &self.job_id;
        let trace_id = &self.trace_id;
        match (&self.failure, self.status.as_str()) {
            (Some(failure), "failed") => {
                let Failure { code, detail } = failure;
                Some(format!("failed: {detail} ({code}, job {job_id}, trace {trace_id})"))
            }
            (_, "failed" | "cancelled") => {
                Some(format!("{} (job {job_id}, trace {trace_id})", self.status))
            }
            _ => None,
        }
    }

    /// Returns the progress in thousandths, or `None` if it is unknown. The progress of a batch is
    /// its share of final members, that of other jobs the share of counted bytes.
    pub(crate) fn progress_thousandths(&self) -> Option<u64> {
        if let Some(counts) = &self.counts {
            let count = |status: &str| counts.get(status).copied().unwrap_or_default();
            let all = counts.values().sum::<u64>().saturating_sub(count("refused"));
            let final_members =
                all.saturating_sub(count("queued")).saturating_sub(count("running"));
            return (all > 0).then(|| final_members.saturating_mul(1000) / all);
        }
        let progress = self.progress?;
        let total = progress.total_bytes.filter(|total| *total > 0)?;
        Some((progress.done_bytes.saturating_mul(1000) / total).min(1000))
    }
}

impl Source {
    /// Returns the URL, the file name, or else the kind, for example `(text)`.
    pub(crate) fn name(&self) -> String {
        let name = self.url.as_ref().or(self.file_name.as_ref());
        name.map_or_else(|| format!("({})", self.kind), Clone::clone)
    }

    /// Returns the size in bytes, if it is known.
    pub(crate) fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }
}
