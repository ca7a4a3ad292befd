//! A job as clients see it: the record without what is ours alone.

use std::collections::BTreeMap;

use crate::openapi::Moment;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use wordmill_common::batch::{Batch, Counts};
use wordmill_common::failure::Failure;
use wordmill_common::histogram::{Rule, Totals, WordCount};
use wordmill_common::id::{JobId, Lane};
use wordmill_common::job::{Attempt, Job, Progress, Status};
use wordmill_common::options::Options;
use wordmill_common::source::SourceInfo;
use wordmill_common::trace::TraceId;
use wordmill_common::webhook::{self, Deliveries};
use wordmill_common::written::Written;

/// The answer about one job.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub(crate) struct JobView<'a> {
    job_id: JobId,
    status: Status,
    lane: Lane,
    labels: &'a BTreeMap<String, String>,
    source: &'a SourceInfo,
    options: &'a Options,
    attempts: Vec<AttemptView<'a>>,
    progress: Option<Progress>,
    #[schemars(with = "Moment")]
    created_at: Timestamp,
    #[schemars(with = "Option<Moment>")]
    started_at: Option<Timestamp>,
    #[schemars(with = "Option<Moment>")]
    finished_at: Option<Timestamp>,
    #[schemars(with = "Option<Moment>")]
    expires_at: Option<Timestamp>,
    #[schemars(with = "Option<Moment>")]
    next_attempt_at: Option<Timestamp>,
    totals: Option<Totals>,
    totals_by_rule: Option<&'a BTreeMap<String, u64>>,
    totals_by_scope: Option<&'a BTreeMap<String, u64>>,
    rule: Option<&'a Rule>,
    #[schemars(with = "Option<Vec<WordCount>>")]
    top_words: Option<&'a Written<Vec<WordCount>>>,
    failure: Option<&'a Failure>,
    dead_lettered: bool,
    trace_id: TraceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<WebhookView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<Counts>,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
struct AttemptView<'a> {
    number: u32,
    worker: &'a str,
    #[schemars(with = "Moment")]
    started_at: Timestamp,
    #[schemars(with = "Option<Moment>")]
    ended_at: Option<Timestamp>,
    failure: Option<&'a Failure>,
}

/// Where to tell how the job ended, and in the answer about one job how that is doing.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
struct WebhookView<'a> {
    url: &'a str,
    #[serde(flatten)]
    told: Option<ToldView<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ToldView<'a> {
    status: webhook::Status,
    attempts: Vec<TriedView<'a>>,
    #[schemars(with = "Option<Moment>")]
    next_attempt_at: Option<Timestamp>,
}

/// One try at delivering: a status, or why there is none.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "WebhookAttempt")]
struct TriedView<'a> {
    number: u32,
    #[schemars(with = "Moment")]
    at: Timestamp,
    status_code: Option<u16>,
    failure: Option<&'a Failure>,
}

impl<'a> TriedView<'a> {
    fn of(attempt: &'a webhook::Attempt) -> Self {
        let webhook::Attempt { number, at, status_code, failure } = attempt;
        Self { number: *number, at: *at, status_code: *status_code, failure: failure.as_ref() }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    this: String,
    result: String,
    events: String,
    retry: String,
    cancel: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

impl<'a> JobView<'a> {
    /// Returns the answer about `job`.
    pub(crate) fn of(job: &'a Job) -> Self {
        Self {
            job_id: job.job_id,
            status: job.status,
            lane: job.lane,
            labels: &job.labels,
            source: &job.source,
            options: &job.options,
            attempts: job.attempts.iter().map(AttemptView::of).collect(),
            progress: job.progress,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            next_attempt_at: job.next_attempt_at,
            totals: job.totals,
            totals_by_rule: job.totals_by_rule.as_ref(),
            totals_by_scope: job.totals_by_scope.as_ref(),
            rule: job.rule.as_ref(),
            top_words: job.top_words.as_ref(),
            failure: job.failure.as_ref(),
            dead_lettered: job.dead_lettered,
            trace_id: job.trace_id,
            retry_of: job.retry_of,
            webhook: job.webhook.as_ref().map(|webhook| WebhookView {
                url: &webhook.url,
                told: (!job.status.is_final()).then(|| ToldView::of(None)),
            }),
            batch: job.batch,
            counts: job.source.batch.as_ref().map(|batch| counts(job, batch)),
            links: Links {
                this: format!("/v1/jobs/{}", job.job_id),
                result: format!("/v1/jobs/{}/result", job.job_id),
                events: format!("/v1/jobs/{}/events", job.job_id),
                retry: format!("/v1/jobs/{}/retry", job.job_id),
                cancel: format!("/v1/jobs/{}/cancel", job.job_id),
                batch: job.batch.map(|batch| format!("/v1/batches/{batch}")),
                trace: None,
            },
        }
    }

    /// Adds how the webhook is doing, if there is one; none if nothing was tried.
    pub(crate) fn told(mut self, deliveries: Option<&'a Deliveries>) -> Self {
        if let Some(webhook) = &mut self.webhook {
            webhook.told = Some(ToldView::of(deliveries));
        }
        self
    }

    /// Adds where a person looks at the job's trace.
    pub(crate) fn traced(mut self, url: Option<String>) -> Self {
        self.links.trace = url;
        self
    }
}

impl<'a> ToldView<'a> {
    fn of(deliveries: Option<&'a Deliveries>) -> Self {
        Self {
            status: deliveries.map_or(webhook::Status::Waiting, |told| told.status),
            attempts: deliveries
                .map_or(&[][..], |told| &told.attempts)
                .iter()
                .map(TriedView::of)
                .collect(),
            next_attempt_at: deliveries.and_then(|told| told.next_attempt_at),
        }
    }
}

/// Returns how far the members of a batch are; before anybody has looked, all of them wait.
fn counts(job: &Job, batch: &Batch) -> Counts {
    let refused = batch.refused.count();
    let queued = batch.lines.saturating_sub(refused);
    let unknown = Counts { queued, refused, ..Counts::default() };
    job.members.as_ref().map_or(unknown, |members| members.counts)
}

impl<'a> AttemptView<'a> {
    fn of(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            worker: &attempt.worker,
            started_at: attempt.started_at,
            ended_at: attempt.ended_at,
            failure: attempt.failure.as_ref(),
        }
    }
}
