//! Submission of batches: many jobs in one request, each accepted or refused individually.
//!
//! The jobs are read while the body arrives, and many of them are enqueued concurrently. The batch
//! itself, a job that merges their results (`worker/src/batch_merge.rs`), is enqueued last. So when
//! the client gets the response, all its jobs are enqueued. A request that ends early leaves single
//! jobs, but no batch. With an idempotency key, the ids of the jobs are derived from the key and
//! their line numbers, so a repeated request runs no job twice.
//!
//! Query, headers and key are validated before the body is read. If one of them is invalid, no job
//! is enqueued. If the key already has a batch, the lines are only compared with its jobs. If the
//! queue fills up or the body ends early, the batch is interrupted: the response lists the jobs
//! that were enqueued.

mod intake;
mod lines;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Duration, Instant};
use tracing::{debug, info};
use wordmill_common::batch::Batch;
use wordmill_common::id::{JobId, JobKey, Lane};
use wordmill_common::job::Job;
use wordmill_common::message::JobMessage;
use wordmill_common::source::{Source, SourceKind};
use wordmill_common::trace_context::TraceContext;
use wordmill_nats::Error;
use wordmill_nats::job_record::{Lookup, check_status};
use wordmill_nats::store::Outcome;
use wordmill_nats::stream_read::ReadFrom;

pub(crate) use self::intake::LINE_OPTIONS;
use self::intake::{Intake, IntakeReport};
use self::lines::Shape;
use crate::App;
use crate::api::jobs::{self, POLL_AFTER_S};
use crate::api::results;
use crate::auth::caller::Caller;
use crate::enqueue::{idempotent, publish};
use crate::http::deadline::{self, BROKER_DEADLINE};
use crate::http::problem::{Code, Problem};
use crate::intake::query::SubmitQuery;
use crate::intake::{idempotency_key, json_body, new_job, query};
use crate::read::find_job::{self, JobPath};

/// Maximum number of jobs in one batch.
const LINES_MAX: u32 = 10_000;
/// Content types of a body with one job per line.
const LINES_TYPES: [&str; 3] = ["application/x-ndjson", "application/ndjson", "application/jsonl"];
/// Maximum number of members that are cancelled concurrently.
const CANCELS_MAX: usize = 64;
/// Time limit for cancelling the members of a batch.
const CANCEL_TIME_MAX: Duration = Duration::from_secs(20);

/// How a batch request handles its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchMode {
    /// No key: enqueues every job.
    WithoutKey,
    /// New key: enqueues the jobs that are missing.
    NewKey,
    /// The batch exists: only compares the lines with its jobs.
    ExistingBatch,
}

/// `POST /v1/batches`, with `Idempotency-Key` or without.
pub(crate) async fn submit_batch(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let shape = parse_shape(&headers)?;
    let name = idempotency_key::read(&headers)?;
    let query = query::parse_submit_query(uri.query().unwrap_or_default())?;
    if query.lane == Some(Lane::Interactive) {
        return Err(Problem::new(
            Code::InvalidQuery,
            "Batches use the lane bulk: omit the parameter lane.",
        ));
    }
    let webhook =
        query.webhook.as_deref().map(|url| new_job::parse_webhook(&app, url)).transpose()?;
    let batch_id = match &name {
        Some(name) => JobId::derive("batch", &caller.owner, name),
        None => JobId::new(),
    };
    let mode = match &name {
        Some(_) => match find_mode(&app, &caller.job_key(batch_id)).await {
            Ok(mode) => mode,
            Err(problem) => {
                json_body::drain(body).await;
                return Err(problem);
            }
        },
        None => BatchMode::WithoutKey,
    };
    let intake =
        Intake { app: &app, caller: &caller, trace: &trace, batch_id, query: &query, mode };
    let mut report = intake.enqueue_lines(body, shape).await;
    if let Some(problem) = report.interrupted.take() {
        return Err(interrupted_problem(problem, batch_id, mode, &report));
    }
    if report.accepted == 0 && mode == BatchMode::ExistingBatch {
        let detail = "The idempotency key was already used for a batch with different lines or \
                      parameters. See \"lines\" for the differences.";
        let problem = Problem::new(Code::IdempotencyKeyReused, detail);
        return Err(problem.with_member("lines", report.lines.into()));
    }
    if report.accepted == 0 {
        let detail = "The batch has no valid job. See \"lines\" for the reasons.";
        return Err(
            Problem::new(Code::EmptyBatch, detail).with_member("lines", report.lines.into())
        );
    }
    let message =
        JobMessage { webhook, ..build_message(&caller, &trace, batch_id, &query, &report) };
    let accepted = match mode {
        BatchMode::WithoutKey => publish::accept(&app, &message, &trace).await,
        BatchMode::NewKey => idempotent::accept(&app, message, &trace).await,
        BatchMode::ExistingBatch => idempotent::find(&app, message, &trace).await,
    };
    // The jobs are enqueued even if the batch is missing or unconfirmed, so the problem lists them.
    let job = accepted.map_err(|problem| interrupted_problem(problem, batch_id, mode, &report))?;
    info!(
        job.id = %batch_id,
        accepted = report.accepted,
        refused = report.refused.count(),
        "batch accepted"
    );
    Ok(render_accepted(&job, &report))
}

/// Returns the mode of a request with a key. The record of a batch is created last, so if it
/// exists, all jobs of the batch were enqueued.
///
/// # Errors
/// `result_expired` if the batch has expired or is deleted, and `broker_unavailable`.
async fn find_mode(app: &App, key: &JobKey) -> Result<BatchMode, Problem> {
    publish::wait_for_connection(app, Instant::now() + BROKER_DEADLINE).await?;
    match deadline::with_broker_deadline(app.store.get_job(key, ReadFrom::Leader)).await? {
        Lookup::Job(_) => Ok(BatchMode::ExistingBatch),
        Lookup::NotFound => Ok(BatchMode::NewKey),
        Lookup::Deleted => Err(Problem::result_expired()),
    }
}

/// Selects the format of the body by its content type.
fn parse_shape(headers: &HeaderMap) -> Result<Shape, Problem> {
    if json_body::is_json(headers) {
        return Ok(Shape::Array);
    }
    let content_type = json_body::essence(headers);
    if LINES_TYPES.contains(&content_type.as_str()) {
        return Ok(Shape::Lines);
    }
    let detail = "Send one job per line, with Content-Type: application/x-ndjson, or an array of \
                  jobs, with Content-Type: application/json.";
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// Returns the message of the batch itself, the job that merges the results of its members.
fn build_message(
    caller: &Caller,
    trace: &TraceContext,
    batch_id: JobId,
    query: &SubmitQuery,
    report: &IntakeReport,
) -> JobMessage {
    let batch = Batch { batch_id, lines: report.count, refused: report.refused.clone() };
    JobMessage {
        lane: Lane::Bulk,
        options: query.options.clone(),
        labels: query.labels.clone(),
        ..JobMessage::new(caller.job_key(batch_id), Source::Batch(batch), trace.trace_id())
    }
}

fn render_accepted(job: &Job, report: &IntakeReport) -> Response {
    let id = job.job_id;
    let location = format!("/v1/batches/{id}");
    let retry_after = POLL_AFTER_S.to_string();
    let body = json!({
        "batch_id": id,
        "accepted": report.accepted,
        "refused": report.refused.count(),
        "lines": report.lines,
        "trace_id": job.trace_id,
        "links": {
            "self": location,
            "result": format!("/v1/batches/{id}/result"),
            "events": format!("/v1/jobs/{id}/events"),
            "cancel": format!("/v1/jobs/{id}/cancel"),
        },
    });
    (StatusCode::ACCEPTED, [(LOCATION, location), (RETRY_AFTER, retry_after)], Json(body))
        .into_response()
}

/// Completes the problem of an interrupted batch: adds advice, the batch id and the outcome of the
/// lines.
fn interrupted_problem(
    problem: Problem,
    batch_id: JobId,
    mode: BatchMode,
    report: &IntakeReport,
) -> Problem {
    let is_reused = problem.has_code(Code::IdempotencyKeyReused);
    let advice = match mode {
        // This request enqueued nothing.
        BatchMode::ExistingBatch => return problem,
        BatchMode::NewKey if is_reused => {
            "Another request created the batch at the same time. Accepted lines that are not in \
             that batch run as single jobs; see \"lines\"."
        }
        BatchMode::NewKey => {
            "Send the whole batch again with the same Idempotency-Key: lines that were already \
             accepted are not run again."
        }
        BatchMode::WithoutKey => {
            "The accepted lines run as single jobs. With an Idempotency-Key, a repeated request \
             would have continued the batch."
        }
    };
    let state = if is_reused {
        ""
    } else if problem.has_job_id() {
        " The broker has not confirmed the batch."
    } else {
        " The batch has not been created yet."
    };
    let detail = format!("{}{state} {advice}", problem.detail());
    problem
        .with_detail(detail)
        .with_member("batch_id", json!(batch_id))
        .with_member("accepted", report.accepted.into())
        .with_member("lines", report.lines.clone().into())
}

/// `GET /v1/batches/{id}`: like `GET /v1/jobs/{id}`, for batches only.
pub(crate) async fn get_batch(
    State(app): State<App>,
    JobPath(key): JobPath,
    query: jobs::Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    require_batch(&app, &key).await?;
    jobs::get_job(State(app), JobPath(key), query, headers).await
}

/// `GET /v1/batches/{id}/result`: like `GET /v1/jobs/{id}/result`, for batches only.
pub(crate) async fn get_batch_result(
    State(app): State<App>,
    caller: Caller,
    JobPath(key): JobPath,
    selection: results::Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    require_batch(&app, &key).await?;
    results::get_result(State(app), caller, JobPath(key), selection, headers).await
}

async fn require_batch(app: &App, key: &JobKey) -> Result<(), Problem> {
    let stored = find_job::require_job(app, key).await?;
    if stored.job.source.kind == SourceKind::Batch {
        return Ok(());
    }
    let detail = "The job is not a batch: get it at /v1/jobs.";
    Err(Problem::new(Code::JobNotFound, detail))
}

/// Cancels the unfinished members of a cancelled batch. Idempotent.
///
/// # Errors
/// `broker_unavailable` if not all of them are cancelled within [`CANCEL_TIME_MAX`].
pub(crate) async fn cancel_members(app: &App, job: &Job) -> Result<(), Problem> {
    let Some(batch) = &job.source.batch else { return Ok(()) };
    let deadline = Instant::now() + CANCEL_TIME_MAX;
    let members: Vec<_> = batch.members(&job.owner).map(|(_, job_id)| job_id).collect();
    for chunk in members.chunks(CANCELS_MAX) {
        let cancelling = chunk.iter().map(|job_id| {
            let key = JobKey { owner: job.owner.clone(), job_id: *job_id };
            async move { cancel_member(app, &key).await }
        });
        let outcomes = tokio::time::timeout_at(deadline, join_all(cancelling)).await;
        let incomplete = || {
            let detail = "The batch was cancelled, but some of its members were not. Repeat the \
                          request.";
            Problem::new(Code::BrokerUnavailable, detail)
        };
        for outcome in outcomes.map_err(|_| incomplete())? {
            outcome.map_err(|error| {
                debug!(%error, "cannot cancel a member of a batch");
                incomplete()
            })?;
        }
    }
    Ok(())
}

/// Cancels one member, unless it is final or deleted.
async fn cancel_member(app: &App, key: &JobKey) -> Result<(), Error> {
    let event = |job: &mut Job, now| job.apply(wordmill_common::job::Event::Cancelled, now);
    let current = match app.store.get_job(key, ReadFrom::AnyReplica).await? {
        Lookup::Job(stored) if stored.job.status.is_final() => return Ok(()),
        Lookup::Job(stored) => *stored,
        Lookup::Deleted => return Ok(()),
        // The record was never written or is lost, but the job may be in the queue.
        Lookup::NotFound => match app.queue.find(key, ReadFrom::Leader).await? {
            Some(message) => {
                // Revision 0: the write creates the record.
                wordmill_nats::job_record::VersionedJob { job: message.queued_job(), revision: 0 }
            }
            None => return Ok(()),
        },
    };
    match app.store.apply(&current, None, event).await? {
        Outcome::Applied(stored) => app.metrics.record_cancelled_job(&stored.job),
        Outcome::Refused(stored, _) => check_status(&stored.job)?,
        Outcome::Gone => {}
    }
    Ok(())
}
