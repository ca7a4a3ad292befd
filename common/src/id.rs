//! Identifiers: job, owner, lane, run.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Maximum length of an owner name, in bytes. The name is a token of broker subjects and keys.
pub const OWNER_BYTES_MAX: usize = 64;

/// Reason why a text is not a valid identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not a UUID.
    #[error("not a UUID")]
    JobId,
    /// The text is not a valid owner name: it is empty or too long, or contains a character that is
    /// not allowed.
    #[error("an owner must be 1 to {OWNER_BYTES_MAX} characters of a-z, 0-9, _ and -")]
    Owner,
    /// The text is neither `interactive` nor `bulk`.
    #[error("a lane must be interactive or bulk")]
    Lane,
}

/// Id of a job: a UUID, of version 7 unless the client chose it or it was derived from a name, for
/// example from an idempotency key.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct JobId(Uuid);

impl JobId {
    /// Returns a new id. Ids sort by the time of their creation.
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Derives an id from an owner and a name: a UUID of version 8 with the first 128 bits of a
    /// SHA-256. The same arguments always give the same id.
    ///
    /// `purpose` separates kinds of names, for example idempotency keys and dead letters.
    #[must_use]
    pub fn derive(purpose: &str, owner: &Owner, name: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [purpose, owner.as_str(), name] {
            // The length before each part makes the input unambiguous: ("ab", "c") and ("a", "bc")
            // differ.
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, digest)| *byte = digest);
        Self(Uuid::new_v8(bytes))
    }
}

impl Default for JobId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for JobId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Uuid::try_parse(text).map(Self).map_err(|_| Error::JobId)
    }
}

/// Tenant that owns a job, taken from the API key of the request; [`Owner::public`] if the gateway
/// has no keys.
///
/// The name is a token of broker subjects and keys, so it contains only `a-z`, `0-9`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

impl Owner {
    /// Returns the owner of jobs that are submitted without an API key.
    #[must_use]
    pub fn public() -> Self {
        Self("public".to_owned())
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Owner {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        if name.is_empty() || name.len() > OWNER_BYTES_MAX || !name.bytes().all(plain) {
            return Err(Error::Owner);
        }
        Ok(Self(name))
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key of a job's record: owner and job id, displayed as `<owner>.<job_id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobKey {
    /// Owner of the job.
    pub owner: Owner,
    /// Id of the job.
    pub job_id: JobId,
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.owner, self.job_id)
    }
}

/// Priority of a job. Each lane has its own consumer, so that bulk jobs do not delay interactive
/// ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// For jobs whose client waits for the result.
    #[default]
    Interactive,
    /// For batches and other jobs that are not urgent.
    Bulk,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];

    /// Returns the name that subjects, records and metrics use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Lane {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|lane| lane.as_str() == text).ok_or(Error::Lane)
    }
}

/// Random nonce of one attempt. A worker compares it to decide whether a record contains its own
/// work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunNonce(Uuid);

impl RunNonce {
    /// Returns a new random nonce.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Returns a number from 0 to 1 that is derived from the nonce, as jitter for the backoff.
    #[must_use]
    pub fn jitter(self) -> f64 {
        // The low 32 bits of a version 4 UUID are all random.
        let low = u32::try_from(self.0.as_u64_pair().1 & u64::from(u32::MAX)).unwrap_or(0);
        f64::from(low) / f64::from(u32::MAX)
    }
}

impl fmt::Display for RunNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_subject_tokens() {
        for good in ["public", "team-7", "a_b"] {
            assert!(Owner::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "a.b", "A", "a b", "*", ">", "ä", &"x".repeat(65)] {
            assert_eq!(Owner::try_from(bad.to_owned()), Err(Error::Owner), "{bad}");
        }
    }

    #[test]
    fn derived_ids_depend_on_every_part_and_on_nothing_else() {
        let public = Owner::public();
        let other = Owner::try_from("other".to_owned()).unwrap();
        let id = JobId::derive("key", &public, "a");
        assert_eq!(id, JobId::derive("key", &public, "a"));
        assert_eq!(id.to_string().get(14..15), Some("8"));
        for different in [
            JobId::derive("key", &public, "b"),
            JobId::derive("key", &other, "a"),
            JobId::derive("dead", &public, "a"),
            JobId::derive("keyp", &Owner::try_from("ublic".to_owned()).unwrap(), "a"),
        ] {
            assert_ne!(id, different);
        }
    }

    #[test]
    fn a_key_is_owner_dot_id() {
        let job_id = "0198f0c2-0000-7000-8000-000000000000".parse().unwrap();
        let key = JobKey { owner: Owner::public(), job_id };
        assert_eq!(key.to_string(), "public.0198f0c2-0000-7000-8000-000000000000");
    }

    #[test]
    fn lanes_have_the_same_name_everywhere() {
        for lane in Lane::ALL {
            assert_eq!(lane.as_str().parse(), Ok(lane));
            assert_eq!(serde_json::to_value(lane).unwrap(), lane.as_str());
        }
    }
}
