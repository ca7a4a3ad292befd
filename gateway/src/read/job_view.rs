//! The API representation of a job: the stored record without internal fields.

mod links;
mod part;

use std::collections::BTreeMap;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tracing::error;
use wordmill_common::batch::{Batch, Counts};
use wordmill_common::failure::Failure;
use wordmill_common::histogram::{Rule, Totals, WordCount};
use wordmill_common::id::{JobId, JobKey, Lane};
use wordmill_common::job::{Attempt, Job, Progress, Status};
use wordmill_common::open_name::OpenName;
use wordmill_common::options::Options;
use wordmill_common::raw_json::RawJson;
use wordmill_common::source::SourceInfo;
use wordmill_common::trace_context::TraceId;
use wordmill_common::warning::Warnings;
use wordmill_common::webhook::{self, Deliveries};
use wordmill_nats::job_record::{RawRecord, check_format, corrupt};

use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::http::schema::Moment;
use crate::read::job_view::links::Links;
use crate::read::job_view::part::Part;

/// Initial capacity of a response, in bytes. It suffices for most jobs.
const RESPONSE_BYTES_USUAL: usize = 2048;

/// A job: its source and options, its status and attempts and, once it has succeeded, its totals.
// Most parts of a stored record are passed on as raw JSON, without parsing them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
#[schemars(rename = "Job")]
pub(crate) struct JobView<'a> {
    #[serde(skip_serializing)]
    #[schemars(skip)]
    format: u32,
    /// Id of the job, a UUID.
    job_id: JobId,
    /// Status of the job. A job that is `succeeded`, `failed` or `cancelled` is final: it never
    /// changes again.
    status: OpenName<Status>,
    /// Lane that the job waits in.
    lane: Lane,
    /// Labels that the client attached to the job.
    labels: Part<'a, BTreeMap<String, String>>,
    /// Source of the words. A text or document is described, but not included.
    source: Part<'a, SourceInfo>,
    /// Options that the client set.
    options: Part<'a, RawJson<Options>>,
    /// All attempts to count the source, in order.
    attempts: Vec<AttemptView<'a>>,
    /// Progress of the running attempt.
    progress: Option<Part<'a, Progress>>,
    /// Time of the submission.
    #[schemars(with = "Moment")]
    created_at: Part<'a, Timestamp>,
    /// Time at which the first attempt began.
    #[schemars(with = "Option<Moment>")]
    started_at: Option<Part<'a, Timestamp>>,
    /// Time at which the job became final.
    #[schemars(with = "Option<Moment>")]
    finished_at: Option<Part<'a, Timestamp>>,
    /// Time at which a final job and its result are deleted.
    #[schemars(with = "Option<Moment>")]
    expires_at: Option<Part<'a, Timestamp>>,
    /// Time at which the next attempt is due, if the job waits for one.
    #[schemars(with = "Option<Moment>")]
    next_attempt_at: Option<Part<'a, Timestamp>>,
    /// Totals of the source, once the job has succeeded.
    totals: Option<Part<'a, Totals>>,
    /// Number of words under each rule, once the job has succeeded.
    totals_by_rule: Option<Part<'a, BTreeMap<String, u64>>>,
    /// Number of words in each scope under the rule of the job, once the job has succeeded. Null if
    /// an older version counted the job.
    totals_by_scope: Option<Part<'a, BTreeMap<String, u64>>>,
    /// Rule that counted the words, once the job has succeeded.
    rule: Option<Part<'a, Rule>>,
    /// The most frequent words, once the job has succeeded. The option `top` sets their number.
    #[schemars(with = "Option<Vec<WordCount>>")]
    top_words: Option<Part<'a, RawJson<Vec<WordCount>>>>,
    /// Reasons to check the count before relying on it. Empty if there are none, if the job has not
    /// succeeded, or if an older version counted it.
    #[serde(default)]
    #[schemars(!default)]
    warnings: Part<'a, Warnings>,
    /// Reason why the job failed.
    failure: Option<Part<'a, Failure>>,
    /// Whether the job is also stored as a dead letter.
    dead_lettered: bool,
    /// Id of the job's trace.
    trace_id: TraceId,
    /// Id of the job that this job repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    /// Webhook that reports the final job, if one was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookView<'a>>,
    /// Id of the batch that this job is a member of.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<JobId>,
    /// Number of members by status, if the job is a batch.
    #[serde(
        default,
        rename(deserialize = "members"),
        deserialize_with = "deserialize_counts",
        skip_serializing_if = "Option::is_none"
    )]
    counts: Option<Counts>,
    /// URLs of related requests.
    #[serde(skip_deserializing)]
    #[schemars(with = "Links", !skip_deserializing)]
    links: Option<Links>,
}

/// One attempt to count a source.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
#[schemars(rename = "Attempt")]
struct AttemptView<'a> {
    /// Number of the attempt, from 1.
    number: u32,
    /// Name of the worker.
    worker: Part<'a, String>,
    /// Time at which the attempt began.
    #[schemars(with = "Moment")]
    started_at: Part<'a, Timestamp>,
    /// Time at which the attempt ended; null while it runs.
    #[schemars(with = "Option<Moment>")]
    ended_at: Option<Part<'a, Timestamp>>,
    /// Reason why the attempt failed.
    failure: Option<Part<'a, Failure>>,
}

/// The webhook of a job. The response about a single job also contains the state of its delivery.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(from = "StoredWebhook<'a>", bound(deserialize = "'de: 'a"))]
#[schemars(rename = "Webhook")]
struct WebhookView<'a> {
    /// URL of the receiver.
    url: Part<'a, String>,
    #[serde(flatten)]
    status: Option<WebhookStatusView<'a>>,
}

/// The stored webhook, of which only the URL is shown.
#[derive(Deserialize, JsonSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
struct StoredWebhook<'a> {
    url: Part<'a, String>,
}

impl<'a> From<StoredWebhook<'a>> for WebhookView<'a> {
    fn from(StoredWebhook { url }: StoredWebhook<'a>) -> Self {
        Self { url, status: None }
    }
}

/// State of the delivery of a webhook.
#[derive(Debug, Serialize, JsonSchema)]
struct WebhookStatusView<'a> {
    /// Status of the delivery.
    status: OpenName<webhook::Status>,
    /// All attempts to deliver the webhook, in order.
    attempts: Vec<WebhookAttemptView<'a>>,
    /// Time at which the next attempt is due. During an attempt, time after which it is treated as
    /// lost.
    #[schemars(with = "Option<Moment>")]
    next_attempt_at: Option<Timestamp>,
}

/// One attempt to deliver a webhook. It has a status code or a failure; while it is in flight, it
/// has neither.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookAttempt")]
struct WebhookAttemptView<'a> {
    /// Number of the attempt, from 1.
    number: u32,
    /// Time at which the attempt began.
    #[schemars(with = "Moment")]
    at: Timestamp,
    /// Status code of the receiver's response.
    status_code: Option<u16>,
    /// Reason why there was no response.
    failure: Option<&'a Failure>,
}

impl<'a> WebhookAttemptView<'a> {
    fn of(attempt: &'a webhook::Attempt) -> Self {
        let webhook::Attempt { number, at, status_code, failure } = attempt;
        Self { number: *number, at: *at, status_code: *status_code, failure: failure.as_ref() }
    }
}

impl<'a> JobView<'a> {
    /// Returns the representation of `job`.
    pub(crate) fn of(job: &'a Job) -> Self {
        let view = Self {
            format: job.format,
            job_id: job.job_id,
            status: status_name(job.status),
            lane: job.lane,
            labels: Part::Typed(&job.labels),
            source: Part::Typed(&job.source),
            options: Part::Typed(&job.options),
            attempts: job.attempts.iter().map(AttemptView::of).collect(),
            progress: job.progress.as_ref().map(Part::Typed),
            created_at: Part::Typed(&job.created_at),
            started_at: job.started_at.as_ref().map(Part::Typed),
            finished_at: job.finished_at.as_ref().map(Part::Typed),
            expires_at: job.expires_at.as_ref().map(Part::Typed),
            next_attempt_at: job.next_attempt_at.as_ref().map(Part::Typed),
            totals: job.totals.as_ref().map(Part::Typed),
            totals_by_rule: job.totals_by_rule.as_ref().map(Part::Typed),
            totals_by_scope: job.totals_by_scope.as_ref().map(Part::Typed),
            rule: job.rule.as_ref().map(Part::Typed),
            top_words: job.top_words.as_ref().map(Part::Typed),
            warnings: Part::Typed(&job.warnings),
            failure: job.failure.as_ref().map(Part::Typed),
            dead_lettered: job.dead_lettered,
            trace_id: job.trace_id,
            retry_of: job.retry_of,
            webhook: job
                .webhook
                .as_ref()
                .map(|webhook| WebhookView { url: Part::Typed(&webhook.url), status: None }),
            batch: job.batch,
            counts: job.members.as_ref().map(|members| members.counts),
            links: None,
        };
        view.with_derived_fields(job.source.batch.as_ref())
    }

    /// Returns the representation of a stored record. Only the necessary parts are parsed.
    ///
    /// # Errors
    /// [`Error::Corrupt`](wordmill_nats::Error::Corrupt) if the value is not a valid record, and
    /// [`Error::Newer`](wordmill_nats::Error::Newer) if its format is newer than this version.
    pub(crate) fn read(record: &'a RawRecord, key: &JobKey) -> Result<Self, wordmill_nats::Error> {
        let view: Self = record.read_as(key)?;
        check_format(view.format, key)?;
        let batch = match (&view.counts, &view.source) {
            (None, Part::Raw(source)) => parse_batch(source, key)?,
            (None, Part::Typed(_)) | (Some(_), _) => None,
        };
        Ok(view.with_derived_fields(batch.as_ref()))
    }

    /// Adds the derived fields: the links, the counts of a new batch, and the webhook of an
    /// unfinished job.
    fn with_derived_fields(mut self, batch: Option<&Batch>) -> Self {
        self.counts = self.counts.or_else(|| batch.map(initial_counts));
        self.links = Some(Links::of(self.job_id, self.batch));
        if !self.is_final() {
            self = self.with_deliveries(None);
        }
        self
    }

    /// Returns whether the response includes the state of a webhook: the job is final and has a
    /// webhook.
    pub(crate) fn is_final_with_webhook(&self) -> bool {
        self.is_final() && self.webhook.is_some()
    }

    fn is_final(&self) -> bool {
        self.status.known().is_some_and(Status::is_final)
    }

    /// Adds the state of the webhook, if the job has one. Without `deliveries`, its status is
    /// `waiting`.
    pub(crate) fn with_deliveries(mut self, deliveries: Option<&'a Deliveries>) -> Self {
        if let Some(webhook) = &mut self.webhook {
            webhook.status = Some(WebhookStatusView::of(deliveries));
        }
        self
    }

    /// Adds the link to the job's trace, if the gateway has a trace viewer.
    pub(crate) fn with_trace_link(mut self, settings: &request_trace::Settings) -> Self {
        if let Some(links) = &mut self.links {
            links.trace = settings.url_of(self.trace_id);
        }
        self
    }
}

impl IntoResponse for JobView<'_> {
    fn into_response(self) -> Response {
        let mut json = Vec::with_capacity(RESPONSE_BYTES_USUAL);
        match serde_json::to_writer(&mut json, &self) {
            Ok(()) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
            Err(error) => {
                error!(%error, "cannot serialize a job");
                Problem::new(Code::Internal, "Internal error while preparing the response.")
                    .into_response()
            }
        }
    }
}

impl<'a> WebhookStatusView<'a> {
    fn of(deliveries: Option<&'a Deliveries>) -> Self {
        Self {
            status: deliveries.map_or_else(
                || webhook::Status::Waiting.into(),
                |deliveries| deliveries.status.clone(),
            ),
            attempts: deliveries
                .map_or(&[][..], |deliveries| &deliveries.attempts)
                .iter()
                .map(WebhookAttemptView::of)
                .collect(),
            next_attempt_at: deliveries.and_then(|deliveries| deliveries.next_attempt_at),
        }
    }
}

/// Returns the status that clients see. [`Status::Unknown`] becomes `unknown`: a parsed [`Job`]
/// does not keep the original name, only its raw record does.
pub(crate) fn status_name(status: Status) -> OpenName<Status> {
    match status {
        Status::Unknown => OpenName::Other(status.as_str().to_owned()),
        Status::Queued
        | Status::Running
        | Status::Succeeded
        | Status::Failed
        | Status::Cancelled => status.into(),
    }
}

/// Returns the counts of a batch whose members were not checked yet: all of them are queued.
fn initial_counts(batch: &Batch) -> Counts {
    let refused = batch.refused.count();
    Counts { queued: batch.lines.saturating_sub(refused), refused, ..Counts::default() }
}

/// Deserializes the counts from the stored state of the members.
fn deserialize_counts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Counts>, D::Error> {
    #[derive(Deserialize)]
    struct Members {
        counts: Counts,
    }
    let members = Option::<Members>::deserialize(deserializer)?;
    Ok(members.map(|members| members.counts))
}

/// Deserializes the batch of a source; `None` if the source is of another kind.
fn parse_batch(source: &RawValue, key: &JobKey) -> Result<Option<Batch>, wordmill_nats::Error> {
    #[derive(Deserialize)]
    struct Members {
        batch: Option<Batch>,
    }
    let read = serde_json::from_str::<Members>(source.get());
    read.map(|members| members.batch).map_err(|error| corrupt(key, error))
}

impl<'a> AttemptView<'a> {
    fn of(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            worker: Part::Typed(&attempt.worker),
            started_at: Part::Typed(&attempt.started_at),
            ended_at: attempt.ended_at.as_ref().map(Part::Typed),
            failure: attempt.failure.as_ref().map(Part::Typed),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wordmill_common::id::Owner;

    use super::*;

    /// Returns the golden record with some fields replaced.
    fn job(changes: Value) -> Job {
        let golden = include_str!("../../../common/src/golden/record.json");
        let mut record: Value = serde_json::from_str(golden).unwrap();
        let Value::Object(changes) = changes else { panic!("{changes} is not an object") };
        record.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_raw_record_and_its_job_render_the_same() {
        let batch = json!({"kind": "batch",
            "batch": {"batch_id": JobId::new(), "lines": 9, "refused": [[2, 2], [7, 8]]}});
        let failure = json!({"code": "lost", "detail": "Gone.", "retryable": false});
        let counts = json!({"queued": 1, "running": 2, "succeeded": 3, "failed": 0,
            "cancelled": 0, "gone": 0, "refused": 3});
        let webhook = json!({"url": "https://example.com/hook"});
        let counted = json!({
            "status": "succeeded", "progress": null, "labels": {"a\"b": "\u{e9}\n"},
            "finished_at": "2026-01-01T00:00:00.12Z", "expires_at": "2026-01-02T00:00:00.12Z",
            "source": {"kind": "url", "url": "http://a/?b", "charset": "utf-8", "size_bytes": 3,
                "extractor": {"name": "html", "version": 1}},
            "totals": Totals::default(), "totals_by_rule": {"unicode": 3},
            "totals_by_scope": {"page": 3, "main": 2},
            "rule": {"name": "unicode", "version": 1, "unicode": "18.0"},
            "warnings": [{"code": "font_missing", "count": 2, "where": null}],
            "top_words": [{"word": "mill", "count": 3}], "result": {"place": "object", "name": "a.b"},
            "retry_of": JobId::new(), "batch": JobId::new(), "fingerprint": "00",
        });
        for (changes, is_final_with_webhook, shown) in [
            (json!({}), false, "\"worker-2\""),
            (counted.clone(), false, "\"mill\""),
            (
                counted,
                false,
                "\"warnings\":[{\"code\":\"font_missing\",\"count\":2,\"where\":null}]",
            ),
            (json!({}), false, "\"warnings\":[]"),
            (json!({"source": batch}), false, "\"queued\":6"),
            (
                json!({"source": batch, "members": {"counts": counts, "settled": [[1, 3]]}}),
                false,
                "\"succeeded\":3",
            ),
            (json!({"webhook": webhook}), false, "\"status\":\"waiting\""),
            (json!({"webhook": webhook, "status": "failed", "failure": failure}), true, "Gone."),
        ] {
            let job = job(changes);
            let record = RawRecord::of_new_job(&job).unwrap();
            let key = job.key();
            let from_job = JobView::of(&job);
            let read = JobView::read(&record, &key).unwrap();
            assert_eq!(from_job.is_final_with_webhook(), is_final_with_webhook);
            assert_eq!(read.is_final_with_webhook(), is_final_with_webhook);
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(json, serde_json::to_string(&from_job).unwrap());
            assert!(json.contains(shown), "{shown} in {json}");
            for internal in
                ["\"format\"", "\"run\"", "\"members\"", "\"result\":{", "\"fingerprint\""]
            {
                assert!(!json.contains(internal), "{internal} in {json}");
            }
        }
    }

    #[test]
    fn unknown_values_are_passed_on_unchanged() {
        let golden = include_str!("../../../common/src/golden/record.json");
        let mut record: Value = serde_json::from_str(golden).unwrap();
        let failure = json!({"code": "fetch_quic", "detail": "No.", "retryable": true});
        let newer = json!({
            "status": "paused", "options": {"stem": true}, "failure": failure,
            "source": {"kind": "feed", "items": 3}, "webhook": {"url": "https://example.org/"},
            "progress": {"stage": "unpack", "done_bytes": 1, "total_bytes": null},
        });
        let members = newer.as_object().unwrap();
        record.as_object_mut().unwrap().extend(members.clone());
        let raw =
            RawRecord { json: record.to_string().into(), status: Status::Unknown, revision: 1 };
        let key = JobKey { owner: Owner::public(), job_id: JobId::new() };
        let view = JobView::read(&raw, &key).unwrap();
        assert!(!view.is_final_with_webhook());
        let shown = json!(view);
        for (name, value) in members.iter().filter(|(name, _)| *name != "webhook") {
            assert_eq!(shown[name], *value, "{name}");
        }
    }

    #[test]
    fn newer_and_invalid_records_are_refused() {
        for (changes, expected) in [
            (json!({"format": 2}), "it has format 2"),
            (json!({"format": 2, "members": 7}), "it has format 2"),
            (json!({"members": 7}), "invalid type"),
        ] {
            let record = job(json!({}));
            let mut json = serde_json::to_value(&record).unwrap();
            json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let raw =
                RawRecord { json: json.to_string().into(), status: record.status, revision: 1 };
            let error = JobView::read(&raw, &record.key()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
