//! The message that carries a job through the queue.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{JobId, JobKey, Lane, Owner};
use crate::job::FORMAT;
use crate::options::Options;
use crate::source::Source;
use crate::trace::TraceId;

/// Everything that a worker needs to do a job, even if its record was never written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMessage {
    /// Version of this format, the same number as the record's.
    pub format: u32,
    /// Which job.
    pub job_id: JobId,
    /// Whose job.
    pub owner: Owner,
    /// Which queue.
    pub lane: Lane,
    /// What to count.
    pub source: Source,
    /// How.
    pub options: Options,
    /// Free marks of the client.
    pub labels: BTreeMap<String, String>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// The trace of the job.
    pub trace_id: TraceId,
    /// SHA-256 of what was asked for, in hexadecimal, if the client named the job or gave an
    /// idempotency key: a repeat has to ask for the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The job that this one tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// The batch that this job is a member of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
}

/// Tells why a message cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the JSON of a job.
    #[error("the message is not a job: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It was written by a newer version.
    #[error("the message has format {0}, and this worker knows only {FORMAT}")]
    Newer(u64),
}

impl JobMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            format: u64,
        }
        match serde_json::from_slice::<Self>(bytes) {
            Ok(message) if message.format == FORMAT => Ok(message),
            Ok(message) => Err(Error::Newer(message.format.into())),
            // The version decides what to say, so it is looked for even if the rest is strange.
            Err(error) => match serde_json::from_slice::<Versioned>(bytes) {
                Ok(newer) if newer.format > FORMAT.into() => Err(Error::Newer(newer.format)),
                Ok(_) | Err(_) => Err(Error::Malformed(error)),
            },
        }
    }

    /// Returns the job's key.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey { owner: self.owner.clone(), job_id: self.job_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_format_is_told_from_nonsense() {
        let newer = JobMessage::parse(br#"{"format":2,"something":"else"}"#);
        assert!(matches!(newer, Err(Error::Newer(2))));
        let nonsense = JobMessage::parse(b"hello");
        assert!(matches!(nonsense, Err(Error::Malformed(_))));
    }
}
