//! Message that carries a job through the queue.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::clock;
use crate::id::{JobId, JobKey, Lane, Owner};
use crate::job::{FORMAT, Job, Status};
use crate::open_name::OpenName;
use crate::options::Options;
use crate::raw_json::RawJson;
use crate::source::{Source, SourceInfo};
use crate::trace_context::{TraceId, TraceState};
use crate::warning::Warnings;
use crate::webhook::Webhook;

/// Message of one job. It contains everything that a worker needs to run the job, because the
/// record of the job may not exist yet when the worker receives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMessage {
    /// Version of the format: [`FORMAT`], the same number as in the record. Readers refuse a higher
    /// one.
    pub format: u32,
    /// Id of the job; with `owner`, it is also the message id by which the stream deduplicates.
    pub job_id: JobId,
    /// Tenant that submitted the job. It is part of the message's subject.
    pub owner: Owner,
    /// Priority of the job. It is part of the message's subject, and selects the consumer.
    pub lane: Lane,
    /// Source to count, with the text or the document itself if it is small enough for the message.
    pub source: Source,
    /// Options of the count.
    pub options: Options,
    /// Labels that the client attached; see [`Job::labels`].
    pub labels: BTreeMap<String, String>,
    /// Time of the submission, by the clock of the gateway.
    pub created_at: Timestamp,
    /// Trace of the job, started or continued by the request that submitted it.
    pub trace_id: TraceId,
    /// SHA-256 of the job's parameters, in hexadecimal. The gateway sets it if the client chose the
    /// job's id or gave an idempotency key. It refuses a repeated request with another fingerprint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The final job that this one repeats, if it is a retry or a replayed dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
    /// Receiver that is notified when the job is final, if the client named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// The batch that this job is a member of. Absent for jobs that were submitted individually.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<JobId>,
}

/// Reason why a message cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The message is not the JSON of a job.
    #[error("the message is not a valid job: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A newer version of Wordmill wrote the message, in a newer format.
    #[error("the message has format {0}, but this version supports only format {FORMAT}")]
    Newer(u64),
    /// The message is valid, except for an unknown source or unknown options.
    #[error("the message has {} unknown to this version: {}", .0.part, .0.reason)]
    Unknown(Box<UnsupportedJob>),
}

/// Part of a message that is unknown to this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownPart {
    /// The source.
    Source,
    /// The options.
    Options,
}

impl UnknownPart {
    /// Returns the name of the JSON field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Options => "options",
        }
    }
}

impl fmt::Display for UnknownPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("a source"),
            Self::Options => f.write_str("options"),
        }
    }
}

/// A job with an unknown source or unknown options, submitted through a newer version. It can be
/// shown and cancelled, but not run, retried or replayed.
#[derive(Debug, Clone, PartialEq)]
pub struct UnsupportedJob {
    /// Record of the job with status `queued`.
    pub job: Job,
    /// The unknown part; the source if both are unknown.
    pub part: UnknownPart,
    /// Error message of the parser for that part.
    pub reason: String,
}

/// A parsed message, for callers that show, cancel or replay a job without running it.
#[derive(Debug, Clone, PartialEq)]
pub enum ParsedMessage {
    /// This version can run the job.
    Known(Box<JobMessage>),
    /// Only a newer version can run the job.
    Unknown(Box<UnsupportedJob>),
}

impl ParsedMessage {
    /// Parses a message.
    ///
    /// # Errors
    /// [`Error::Malformed`] and [`Error::Newer`], but not [`Error::Unknown`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        match JobMessage::parse(bytes) {
            Ok(message) => Ok(Self::Known(Box::new(message))),
            Err(Error::Unknown(unknown)) => Ok(Self::Unknown(unknown)),
            Err(error @ (Error::Malformed(_) | Error::Newer(_))) => Err(error),
        }
    }

    /// Returns the record of the job with status `queued`.
    #[must_use]
    pub fn queued_job(&self) -> Job {
        match self {
            Self::Known(message) => message.queued_job(),
            Self::Unknown(unknown) => unknown.job.clone(),
        }
    }

    /// Returns the time of the submission.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        match self {
            Self::Known(message) => message.created_at,
            Self::Unknown(unknown) => unknown.job.created_at,
        }
    }

    /// Returns the trace of the job.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        match self {
            Self::Known(message) => message.trace_id,
            Self::Unknown(unknown) => unknown.job.trace_id,
        }
    }

    /// Returns the name of the object that contains the document, if the job has one.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Known(message) => message.source.object(),
            Self::Unknown(unknown) => unknown.job.document.as_deref(),
        }
    }
}

impl JobMessage {
    /// Parses a message.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct FormatField {
            format: u64,
        }
        match serde_json::from_slice::<Self>(bytes) {
            Ok(message) if message.format == FORMAT => Ok(message),
            Ok(message) => Err(Error::Newer(message.format.into())),
            // Look for the version even if the rest is invalid: "newer format" is the more useful
            // error.
            Err(error) => match serde_json::from_slice::<FormatField>(bytes) {
                Ok(newer) if newer.format > FORMAT.into() => Err(Error::Newer(newer.format)),
                Ok(_) | Err(_) => Err(match UnsupportedJob::detect(bytes) {
                    Some(unknown) => Error::Unknown(Box::new(unknown)),
                    None => Error::Malformed(error),
                }),
            },
        }
    }

    /// Returns the record of the job with status `queued`.
    #[must_use]
    pub fn queued_job(&self) -> Job {
        Job {
            format: FORMAT,
            job_id: self.job_id,
            owner: self.owner.clone(),
            status: Status::Queued,
            lane: self.lane,
            labels: self.labels.clone(),
            source: self.source.describe(),
            options: RawJson::from(&self.options),
            attempts: Vec::new(),
            progress: None,
            created_at: self.created_at,
            started_at: None,
            finished_at: None,
            expires_at: None,
            next_attempt_at: None,
            totals: None,
            totals_by_rule: None,
            totals_by_scope: None,
            rule: None,
            top_words: None,
            result: None,
            warnings: Warnings::new(),
            explanation: None,
            failure: None,
            dead_lettered: false,
            trace_id: self.trace_id,
            traceparent: None,
            tracestate: TraceState::default(),
            fingerprint: self.fingerprint.clone(),
            retry_of: self.retry_of,
            batch: self.batch,
            members: None,
            document: self.source.object().map(str::to_owned),
            webhook: self.webhook.clone(),
        }
    }

    /// Creates the message of a job that is submitted now: in the lane `interactive`, with default
    /// options, and without labels or webhook. Callers set the other fields by struct update
    /// syntax.
    #[must_use]
    pub fn new(key: JobKey, source: Source, trace_id: TraceId) -> Self {
        Self {
            format: FORMAT,
            job_id: key.job_id,
            owner: key.owner,
            lane: Lane::default(),
            source,
            options: Options::default(),
            labels: BTreeMap::new(),
            created_at: clock::now(),
            trace_id,
            fingerprint: None,
            retry_of: None,
            webhook: None,
            batch: None,
        }
    }

    /// Returns the key of the job's record.
    #[must_use]
    pub fn key(&self) -> JobKey {
        JobKey { owner: self.owner.clone(), job_id: self.job_id }
    }
}

impl UnsupportedJob {
    /// Returns the job if the message is valid except for an unknown source or unknown options, for
    /// example `"options": {"stem": true}`. Replaces both with valid placeholders and parses the
    /// message again to find out.
    fn detect(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Parts<'a> {
            #[serde(borrow)]
            source: &'a RawValue,
            #[serde(borrow)]
            options: &'a RawValue,
        }
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        // The parts must have the right shape: a source with a kind, and an object of options.
        let parts: Parts<'_> = serde_json::from_slice(bytes).ok()?;
        let Kind { kind } = serde_json::from_str(parts.source.get()).ok()?;
        let _: Map<String, Value> = serde_json::from_str(parts.options.get()).ok()?;

        let mut message: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
        let placeholder = Source::Text { text: String::new() };
        message.insert("source".to_owned(), serde_json::to_value(placeholder).ok()?);
        message.insert("options".to_owned(), Map::new().into());
        let mut message: JobMessage = serde_json::from_value(message.into()).ok()?;

        // The rest of the message is valid. Parse both parts separately to see which one failed.
        let source = serde_json::from_str::<Source>(parts.source.get());
        let options = serde_json::from_str::<Options>(parts.options.get());
        let (part, reason) = match (&source, &options) {
            (Err(error), _) => (UnknownPart::Source, error.to_string()),
            (Ok(_), Err(error)) => (UnknownPart::Options, error.to_string()),
            (Ok(_), Ok(_)) => return None,
        };
        let description = match source {
            Ok(source) => {
                message.source = source;
                message.source.describe()
            }
            Err(_) => SourceInfo::new(OpenName::parse(kind)),
        };
        let options: RawJson<Options> = serde_json::from_str(parts.options.get()).ok()?;
        let job = Job { source: description, options, ..message.queued_job() };
        Some(Self { job, part, reason })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Returns the golden message with some fields replaced.
    fn golden_message_with(changes: &Value) -> Vec<u8> {
        let mut message: Map<String, Value> =
            serde_json::from_str(include_str!("golden/message.json")).unwrap();
        message.extend(changes.as_object().unwrap().clone());
        serde_json::to_vec(&message).unwrap()
    }

    fn unknown(changes: &Value) -> UnsupportedJob {
        match JobMessage::parse(&golden_message_with(changes)) {
            Err(Error::Unknown(unknown)) => *unknown,
            other => panic!("{changes}: {other:?}"),
        }
    }

    #[test]
    fn an_unknown_option_or_source_is_distinguished_from_a_malformed_message() {
        let message = unknown(&json!({"options": {"case": "fold", "stem": true}}));
        assert_eq!(message.part, UnknownPart::Options);
        assert!(message.reason.contains("unknown field `stem`"), "{}", message.reason);
        assert_eq!(json!(message.job)["options"], json!({"case": "fold", "stem": true}));
        assert_eq!(json!(message.job)["source"], json!({"kind": "text", "size_bytes": 18}));

        let message = unknown(&json!({"options": {"case": "upper"}}));
        assert_eq!(message.part, UnknownPart::Options);

        let message = unknown(&json!({"source": {"kind": "feed", "feed": 7}, "options": {"a": 1}}));
        assert_eq!(message.part, UnknownPart::Source);
        assert!(message.reason.contains("unknown variant `feed`"), "{}", message.reason);
        assert_eq!(json!(message.job)["source"], json!({"kind": "feed"}));
        assert_eq!(json!(message.job)["options"], json!({"a": 1}));
        assert_eq!(message.job.document, None);
    }

    #[test]
    fn a_message_with_any_other_invalid_field_is_malformed() {
        for changes in [
            json!({"source": "text"}),
            json!({"source": {"kind": 7}}),
            json!({"source": null}),
            json!({"options": null}),
            json!({"options": {"stem": true}, "lane": "fast"}),
            json!({"options": {"stem": true}, "job_id": "1"}),
            json!({"source": {"kind": "feed"}, "owner": ""}),
            json!({"source": {"kind": "feed"}, "format": "1"}),
        ] {
            let outcome = JobMessage::parse(&golden_message_with(&changes));
            assert!(matches!(outcome, Err(Error::Malformed(_))), "{changes}: {outcome:?}");
        }
    }

    #[test]
    fn a_newer_format_takes_precedence_over_unknown_parts() {
        let newer = golden_message_with(&json!({"format": 2, "options": {"stem": true}}));
        assert!(matches!(JobMessage::parse(&newer), Err(Error::Newer(2))));
        assert!(matches!(ParsedMessage::parse(&newer), Err(Error::Newer(2))));
    }

    #[test]
    fn a_message_with_unknown_options_still_yields_the_job() {
        let known = ParsedMessage::parse(&golden_message_with(&json!({}))).unwrap();
        let unknown =
            ParsedMessage::parse(&golden_message_with(&json!({"options": {"stem": true}})))
                .unwrap();
        let known_job = known.queued_job();
        let unknown_job = unknown.queued_job();
        assert_eq!(Job { options: unknown_job.options.clone(), ..known_job }, unknown_job);
        assert_eq!(known.created_at(), unknown.created_at());
        assert_eq!(known.trace_id(), unknown.trace_id());
        let document = json!({"kind": "document", "content": {"object": "a.b"}, "size_bytes": 3,
            "sha256": "00"});
        let changes = json!({"source": document, "options": {"stem": true}});
        assert_eq!(
            ParsedMessage::parse(&golden_message_with(&changes)).unwrap().object(),
            Some("a.b")
        );
    }

    #[test]
    fn a_newer_format_is_distinguished_from_a_malformed_message() {
        let newer = JobMessage::parse(br#"{"format":2,"something":"else"}"#);
        assert!(matches!(newer, Err(Error::Newer(2))));
        let malformed = JobMessage::parse(b"hello");
        assert!(matches!(malformed, Err(Error::Malformed(_))));
    }
}
