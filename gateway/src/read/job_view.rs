//! A job as clients see it: the record without what is ours alone.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
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
use wordmill_common::webhook::{self, Deliveries};
use wordmill_nats::job_record::{RawRecord, check_format, corrupt};

use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::http::schema::Moment;

/// Room for an answer in bytes: as much as most take.
const ANSWER_BYTES_USUAL: usize = 2048;

/// The answer about one job.
// Of a record that is read for it, most is passed on as it is there.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
#[schemars(rename = "Job")]
pub(crate) struct JobView<'a> {
    #[serde(skip_serializing)]
    #[schemars(skip)]
    format: u32,
    job_id: JobId,
    status: OpenName<Status>,
    lane: Lane,
    labels: Part<'a, BTreeMap<String, String>>,
    source: Part<'a, SourceInfo>,
    options: Part<'a, RawJson<Options>>,
    attempts: Vec<AttemptView<'a>>,
    progress: Option<Part<'a, Progress>>,
    #[schemars(with = "Moment")]
    created_at: Part<'a, Timestamp>,
    #[schemars(with = "Option<Moment>")]
    started_at: Option<Part<'a, Timestamp>>,
    #[schemars(with = "Option<Moment>")]
    finished_at: Option<Part<'a, Timestamp>>,
    #[schemars(with = "Option<Moment>")]
    expires_at: Option<Part<'a, Timestamp>>,
    #[schemars(with = "Option<Moment>")]
    next_attempt_at: Option<Part<'a, Timestamp>>,
    totals: Option<Part<'a, Totals>>,
    totals_by_rule: Option<Part<'a, BTreeMap<String, u64>>>,
    totals_by_scope: Option<Part<'a, BTreeMap<String, u64>>>,
    rule: Option<Part<'a, Rule>>,
    #[schemars(with = "Option<Vec<WordCount>>")]
    top_words: Option<Part<'a, RawJson<Vec<WordCount>>>>,
    failure: Option<Part<'a, Failure>>,
    dead_lettered: bool,
    trace_id: TraceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<JobId>,
    #[serde(
        default,
        rename(deserialize = "members"),
        deserialize_with = "deserialize_counts",
        skip_serializing_if = "Option::is_none"
    )]
    counts: Option<Counts>,
    #[serde(skip_deserializing)]
    #[schemars(with = "Links", !skip_deserializing)]
    links: Option<Links>,
}

/// A part of a job: one that is known, or one that is passed on as it stands in the record.
#[derive(Debug)]
enum Part<'a, T> {
    Known(&'a T),
    Written(&'a RawValue),
}

impl<T: Serialize> Serialize for Part<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Known(value) => value.serialize(serializer),
            Self::Written(json) => json.serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a, T> Deserialize<'de> for Part<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Self::Written)
    }
}

impl<T: JsonSchema> JsonSchema for Part<'_, T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
#[schemars(rename = "Attempt")]
struct AttemptView<'a> {
    number: u32,
    worker: Part<'a, String>,
    #[schemars(with = "Moment")]
    started_at: Part<'a, Timestamp>,
    #[schemars(with = "Option<Moment>")]
    ended_at: Option<Part<'a, Timestamp>>,
    failure: Option<Part<'a, Failure>>,
}

/// Where to tell how the job ended, and in the answer about one job how that is doing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Address<'a>", bound(deserialize = "'de: 'a"))]
#[schemars(rename = "Webhook")]
struct WebhookView<'a> {
    url: Part<'a, String>,
    #[serde(flatten)]
    status: Option<WebhookStatusView<'a>>,
}

/// What of a record's webhook is shown.
#[derive(Deserialize, JsonSchema)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Address<'a> {
    url: Part<'a, String>,
}

impl<'a> From<Address<'a>> for WebhookView<'a> {
    fn from(Address { url }: Address<'a>) -> Self {
        Self { url, status: None }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct WebhookStatusView<'a> {
    status: OpenName<webhook::Status>,
    attempts: Vec<WebhookAttemptView<'a>>,
    #[schemars(with = "Option<Moment>")]
    next_attempt_at: Option<Timestamp>,
}

/// One try at delivering: a status, or why there is none.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookAttempt")]
struct WebhookAttemptView<'a> {
    number: u32,
    #[schemars(with = "Moment")]
    at: Timestamp,
    status_code: Option<u16>,
    failure: Option<&'a Failure>,
}

impl<'a> WebhookAttemptView<'a> {
    fn of(attempt: &'a webhook::Attempt) -> Self {
        let webhook::Attempt { number, at, status_code, failure } = attempt;
        Self { number: *number, at: *at, status_code: *status_code, failure: failure.as_ref() }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    this: Link,
    result: Link,
    events: Link,
    retry: Link,
    cancel: Link,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// A path with an id in it.
#[derive(Debug)]
struct Link(&'static str, JobId, &'static str);

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(before, id, after) = self;
        serializer.collect_str(&format_args!("{before}{id}{after}"))
    }
}

impl JsonSchema for Link {
    fn inline_schema() -> bool {
        String::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl Links {
    fn of(job_id: JobId, batch: Option<JobId>) -> Self {
        let to = |part| Link("/v1/jobs/", job_id, part);
        Self {
            this: to(""),
            result: to("/result"),
            events: to("/events"),
            retry: to("/retry"),
            cancel: to("/cancel"),
            batch: batch.map(|batch| Link("/v1/batches/", batch, "")),
            trace: None,
        }
    }
}

impl<'a> JobView<'a> {
    /// Returns the answer about `job`.
    pub(crate) fn of(job: &'a Job) -> Self {
        let view = Self {
            format: job.format,
            job_id: job.job_id,
            status: status_name(job.status),
            lane: job.lane,
            labels: Part::Known(&job.labels),
            source: Part::Known(&job.source),
            options: Part::Known(&job.options),
            attempts: job.attempts.iter().map(AttemptView::of).collect(),
            progress: job.progress.as_ref().map(Part::Known),
            created_at: Part::Known(&job.created_at),
            started_at: job.started_at.as_ref().map(Part::Known),
            finished_at: job.finished_at.as_ref().map(Part::Known),
            expires_at: job.expires_at.as_ref().map(Part::Known),
            next_attempt_at: job.next_attempt_at.as_ref().map(Part::Known),
            totals: job.totals.as_ref().map(Part::Known),
            totals_by_rule: job.totals_by_rule.as_ref().map(Part::Known),
            totals_by_scope: job.totals_by_scope.as_ref().map(Part::Known),
            rule: job.rule.as_ref().map(Part::Known),
            top_words: job.top_words.as_ref().map(Part::Known),
            failure: job.failure.as_ref().map(Part::Known),
            dead_lettered: job.dead_lettered,
            trace_id: job.trace_id,
            retry_of: job.retry_of,
            webhook: job
                .webhook
                .as_ref()
                .map(|webhook| WebhookView { url: Part::Known(&webhook.url), status: None }),
            batch: job.batch,
            counts: job.members.as_ref().map(|members| members.counts),
            links: None,
        };
        view.with_derived_fields(job.source.batch.as_ref())
    }

    /// Returns the answer that a record holds.
    ///
    /// # Errors
    /// [`Error::Corrupt`](wordmill_nats::Error::Corrupt) for what is no record.
    pub(crate) fn read(record: &'a RawRecord, key: &JobKey) -> Result<Self, wordmill_nats::Error> {
        let view: Self = record.read_as(key)?;
        check_format(view.format, key)?;
        let batch = match (&view.counts, &view.source) {
            (None, Part::Written(source)) => members(source, key)?,
            (None, Part::Known(_)) | (Some(_), _) => None,
        };
        Ok(view.with_derived_fields(batch.as_ref()))
    }

    /// Adds what follows from the rest.
    fn with_derived_fields(mut self, batch: Option<&Batch>) -> Self {
        self.counts = self.counts.or_else(|| batch.map(initial_counts));
        self.links = Some(Links::of(self.job_id, self.batch));
        if !self.is_final() {
            self = self.with_deliveries(None);
        }
        self
    }

    /// Tells whether there is more to know: how the webhook is doing.
    pub(crate) fn has_ended_with_webhook(&self) -> bool {
        self.is_final() && self.webhook.is_some()
    }

    fn is_final(&self) -> bool {
        self.status.known().is_some_and(Status::is_final)
    }

    /// Adds how the webhook is doing, if there is one; none if nothing was tried.
    pub(crate) fn with_deliveries(mut self, deliveries: Option<&'a Deliveries>) -> Self {
        if let Some(webhook) = &mut self.webhook {
            webhook.status = Some(WebhookStatusView::of(deliveries));
        }
        self
    }

    /// Adds where a person looks at the job's trace.
    pub(crate) fn with_trace_link(mut self, settings: &request_trace::Settings) -> Self {
        if let Some(links) = &mut self.links {
            links.trace = settings.url_of(self.trace_id);
        }
        self
    }
}

impl IntoResponse for JobView<'_> {
    fn into_response(self) -> Response {
        let mut json = Vec::with_capacity(ANSWER_BYTES_USUAL);
        match serde_json::to_writer(&mut json, &self) {
            Ok(()) => ([(CONTENT_TYPE, "application/json")], json).into_response(),
            Err(error) => {
                error!(%error, "a job cannot be written as an answer");
                Problem::new(Code::Internal, "The job cannot be written.").into_response()
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

/// Returns a status for an answer. [`Status::Unknown`] becomes `unknown`: a parsed [`Job`] does not
/// keep the original name, only its raw record does.
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

/// Returns how far the members of a batch are before anybody has looked: all of them wait.
fn initial_counts(batch: &Batch) -> Counts {
    let refused = batch.refused.count();
    Counts { queued: batch.lines.saturating_sub(refused), refused, ..Counts::default() }
}

/// Reads how far the members are from what is known of them.
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

/// Reads which members a source has, if it is a batch.
fn members(source: &RawValue, key: &JobKey) -> Result<Option<Batch>, wordmill_nats::Error> {
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
            worker: Part::Known(&attempt.worker),
            started_at: Part::Known(&attempt.started_at),
            ended_at: attempt.ended_at.as_ref().map(Part::Known),
            failure: attempt.failure.as_ref().map(Part::Known),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wordmill_common::id::Owner;

    use super::*;

    /// Returns a record that is like the golden one but for some fields.
    fn job(changes: Value) -> Job {
        let golden = include_str!("../../../common/src/golden/record.json");
        let mut record: Value = serde_json::from_str(golden).unwrap();
        let Value::Object(changes) = changes else { panic!("{changes} is no object") };
        record.as_object_mut().unwrap().extend(changes);
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_raw_record_and_its_job_render_alike() {
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
            "top_words": [{"word": "mill", "count": 3}], "result": {"place": "object", "name": "a.b"},
            "retry_of": JobId::new(), "batch": JobId::new(), "fingerprint": "00",
        });
        for (changes, has_ended_with_webhook, shown) in [
            (json!({}), false, "\"worker-2\""),
            (counted, false, "\"mill\""),
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
            assert_eq!(from_job.has_ended_with_webhook(), has_ended_with_webhook);
            assert_eq!(read.has_ended_with_webhook(), has_ended_with_webhook);
            let json = serde_json::to_string(&read).unwrap();
            assert_eq!(json, serde_json::to_string(&from_job).unwrap());
            assert!(json.contains(shown), "{shown} in {json}");
            for ours in ["\"format\"", "\"run\"", "\"members\"", "\"result\":{", "\"fingerprint\""]
            {
                assert!(!json.contains(ours), "{ours} in {json}");
            }
        }
    }

    #[test]
    fn unknown_parts_are_shown_as_written() {
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
        assert!(!view.has_ended_with_webhook());
        let shown = json!(view);
        for (name, value) in members.iter().filter(|(name, _)| *name != "webhook") {
            assert_eq!(shown[name], *value, "{name}");
        }
    }

    #[test]
    fn a_record_of_a_later_format_or_none_is_refused() {
        for (changes, says) in [
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
            assert!(error.contains(says), "{error}");
        }
    }
}
