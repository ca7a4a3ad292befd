//! `POST /v1/jobs/{id}/retry`: repeats a final job as a new job with `retry_of`.
//!
//! The old job does not change. Its URL or its batch is stored in its record. Its text or document
//! is stored only while its message is in the queue or is a dead letter.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use wordmill_common::id::JobId;
use wordmill_common::job::Job;
use wordmill_common::message::{JobMessage, ParsedMessage};
use wordmill_common::source::Source;
use wordmill_common::trace_context::TraceContext;
use wordmill_nats::dead_letters::DeadLetterId;
use wordmill_nats::stream_read::ReadFrom;

use crate::App;
use crate::api::{document_copy, submit};
use crate::auth::caller::Caller;
use crate::enqueue::{idempotent, publish};
use crate::http::deadline::with_broker_deadline;
use crate::http::problem::{Code, Problem};
use crate::intake::{idempotency_key, upload};
use crate::read::find_job::{self, JobPath};
use crate::read::follow::PreferWait;

/// `POST /v1/jobs/{id}/retry`. A repeated request with the same `Idempotency-Key` finds the first
/// new job; without a key, each request creates another one.
pub(crate) async fn retry_job(
    State(app): State<App>,
    caller: Caller,
    JobPath(key): JobPath,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = idempotency_key::read(&headers)?;
    let old = find_job::require_final(&app, &key).await?.job;
    let source = find_source(&app, &old).await?;
    // If an unknown option were dropped, the result of the new job would be wrong.
    let options = old.options.read().map_err(|_| Problem::newer_version_needed())?;
    let job_id = match &name {
        Some(name) => JobId::derive("key", &caller.owner, name),
        None => JobId::new(),
    };
    let mut message = JobMessage {
        lane: old.lane,
        options,
        labels: old.labels,
        retry_of: Some(old.job_id),
        webhook: old.webhook,
        ..JobMessage::new(caller.job_key(job_id), source, trace.trace_id())
    };
    let copy = document_copy::copy_document(&app, &mut message).await?;
    let preference = PreferWait::of(&app, &message.key(), &headers).await;
    let accepted = match name {
        Some(_) => idempotent::accept(&app, message, &trace).await,
        None => publish::accept(&app, &message, &trace).await,
    };
    upload::remove_unless_owned(&app, copy, &accepted);
    Ok(submit::respond(&app, preference, accepted?).await)
}

/// Returns the source of a job.
///
/// # Errors
/// `source_gone` for a text or a document that is no longer stored, `broker_unavailable` if only a
/// newer version can submit the job again.
async fn find_source(app: &App, job: &Job) -> Result<Source, Problem> {
    if job.source.kind.known().is_none() {
        return Err(Problem::newer_version_needed());
    }
    if let Some(url) = &job.source.url {
        return Ok(Source::Url { url: url.clone() });
    }
    if let Some(batch) = &job.source.batch {
        return Ok(Source::Batch(batch.clone()));
    }
    let key = job.key();
    // The message may belong to an earlier job with the same id.
    let belongs_to_job = |message: &ParsedMessage| message.created_at() == job.created_at;
    let letter =
        with_broker_deadline(app.dead_letters.find(&key.owner, DeadLetterId::Job(key.job_id)))
            .await?;
    let message = match letter.and_then(|letter| letter.message).filter(belongs_to_job) {
        Some(message) => Some(message),
        None => with_broker_deadline(app.queue.find(&key, ReadFrom::Leader))
            .await?
            .filter(belongs_to_job),
    };
    match message {
        Some(ParsedMessage::Known(message)) => Ok(message.source),
        Some(ParsedMessage::Unknown(_)) => Err(Problem::newer_version_needed()),
        None => {
            let detail = "The source of the job is no longer stored. Submit it again.";
            Err(Problem::new(Code::SourceGone, detail))
        }
    }
}
