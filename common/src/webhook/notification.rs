//! Body of a webhook. It depends on the final record only, so every attempt sends the same bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;
use crate::histogram::{Rule, Totals};
use crate::id::{JobId, Lane};
use crate::job::{Job, Status};
use crate::open_name::OpenName;
use crate::source::SourceKind;
use crate::trace_context::TraceId;
use crate::warning::Warnings;

/// Maximum size of the body, in bytes. Receivers can rely on it and need not stream the body.
pub const BODY_BYTES_MAX: usize = 20_000;

/// Body of the request.
#[derive(Debug, Serialize)]
struct Notification<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

/// The final job, without the parts that may be large: words, options and attempts.
#[derive(Debug, Serialize)]
struct Data<'a> {
    job_id: JobId,
    status: Status,
    lane: Lane,
    labels: &'a BTreeMap<String, String>,
    source: Source<'a>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    totals: Option<Totals>,
    totals_by_rule: Option<&'a BTreeMap<String, u64>>,
    rule: Option<&'a Rule>,
    warnings: &'a Warnings,
    failure: Option<&'a Failure>,
    dead_lettered: bool,
    trace_id: TraceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    links: Links,
}

#[derive(Debug, Serialize)]
struct Source<'a> {
    kind: &'a OpenName<SourceKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Links {
    #[serde(rename = "self")]
    this: String,
    result: String,
}

/// Serializes the webhook payload of a final job; returns `None` if the job is not final. The bytes
/// are the same for every attempt.
///
/// # Errors
/// If the job cannot be serialized.
pub fn serialize_body(job: &Job) -> Result<Option<Vec<u8>>, serde_json::Error> {
    let kind = match job.status {
        Status::Queued | Status::Running | Status::Unknown => return Ok(None),
        Status::Succeeded => "job.succeeded",
        Status::Failed => "job.failed",
        Status::Cancelled => "job.cancelled",
    };
    let url = job.source.url.as_deref();
    let whole = serde_json::to_vec(&build_notification(job, kind, url))?;
    if whole.len() <= BODY_BYTES_MAX {
        return Ok(Some(whole));
    }
    // The URL is the only part that can exceed the bound. The receiver can get it from the job.
    serde_json::to_vec(&build_notification(job, kind, None)).map(Some)
}

fn build_notification<'a>(
    job: &'a Job,
    kind: &'static str,
    url: Option<&'a str>,
) -> Notification<'a> {
    Notification {
        kind,
        timestamp: job.finished_at.unwrap_or(job.created_at),
        data: Data {
            job_id: job.job_id,
            status: job.status,
            lane: job.lane,
            labels: &job.labels,
            source: Source {
                kind: &job.source.kind,
                url,
                size_bytes: job.source.size_bytes,
                sha256: job.source.sha256.as_deref(),
            },
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            totals: job.totals,
            totals_by_rule: job.totals_by_rule.as_ref(),
            rule: job.rule.as_ref(),
            warnings: &job.warnings,
            failure: job.failure.as_ref(),
            dead_lettered: job.dead_lettered,
            trace_id: job.trace_id,
            retry_of: job.retry_of,
            links: Links {
                this: format!("/v1/jobs/{}", job.job_id),
                result: format!("/v1/jobs/{}/result", job.job_id),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Event;
    use crate::message::JobMessage;
    use crate::warning::{LOCATION_BYTES_MAX, WARNINGS_MAX};

    fn job() -> Job {
        let message = include_str!("../golden/message.json");
        let message: JobMessage = serde_json::from_str(message).unwrap();
        message.queued_job()
    }

    #[test]
    fn the_body_matches_the_documentation() {
        let mut job = job();
        assert_eq!(serialize_body(&job).unwrap(), None);
        job.apply(Event::Cancelled, Timestamp::UNIX_EPOCH).unwrap();
        let value: serde_json::Value =
            serde_json::from_slice(&serialize_body(&job).unwrap().unwrap()).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(pretty, include_str!("../golden/webhook.json").trim_end());
    }

    #[test]
    fn the_webhook_body_is_bounded() {
        let mut job = job();
        job.labels = (0..16).map(|n| (format!("{n:064}"), "\"".repeat(256))).collect();
        for number in 0..WARNINGS_MAX {
            let code = OpenName::Other(format!("{number:024}"));
            job.warnings.add(code, u64::MAX, Some(&"\"".repeat(LOCATION_BYTES_MAX)));
        }
        job.source.url = Some(format!("https://example.org/{}", "a".repeat(30_000)));
        job.apply(Event::Cancelled, Timestamp::UNIX_EPOCH).unwrap();
        let body = serialize_body(&job).unwrap().unwrap();
        assert!(body.len() <= BODY_BYTES_MAX, "{}", body.len());
    }
}
