//! Idempotent submission of jobs with an `Idempotency-Key`, or with an id that the client chose
//! (`PUT`): a repeated request gets the same job.
//!
//! The record is created first. The request that creates it publishes the job. A request that finds
//! the record makes sure that the job is queued or was already received by a worker. If a request
//! or a gateway crashes in between, the next repetition completes the submission. Message ids are
//! not sufficient to deduplicate jobs, because the stream forgets them after two minutes and when
//! the server restarts.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::{Instrument, debug, warn};
use wordmill_common::id::JobKey;
use wordmill_common::job::{Job, Status};
use wordmill_common::message::JobMessage;
use wordmill_common::options::Options;
use wordmill_common::source::Source;
use wordmill_common::trace_context::{TraceContext, TraceParent};
use wordmill_nats::Error;
use wordmill_nats::job_record::{Lookup, VersionedJob};
use wordmill_nats::queue::{Envelope, PublishAck};
use wordmill_nats::spans;
use wordmill_nats::store::ClaimResult;
use wordmill_nats::stream_read::ReadFrom;
use wordmill_service::telemetry;

use crate::App;
use crate::auth::limits;
use crate::enqueue::publish::{self, PUBLISH_RETRY_DELAY, PublishOutcome};
use crate::http::deadline::{self, BROKER_DEADLINE};
use crate::http::problem::{Code, Problem};
use crate::http::request_trace;

/// Returns the SHA-256 of the job's parameters, in hexadecimal.
///
/// It covers the source (a normalized URL; a document by its SHA-256, size, type and name), the
/// labels, the lane, the webhook if there is one, and the options that differ from their defaults,
/// so that a new option does not change existing fingerprints. The input is JSON with sorted names.
/// The owner, the time and the trace are not included.
fn compute_fingerprint(message: &JobMessage) -> String {
    let mut options = json!(message.options);
    let defaults = json!(Options::default());
    if let Some(options) = options.as_object_mut() {
        options.retain(|name, value| defaults.get(name) != Some(value));
    }
    let source = match &message.source {
        source @ (Source::Url { .. } | Source::Text { .. } | Source::Batch(_)) => json!(source),
        // The object with the bytes has another name in each request.
        source @ Source::Document(_) => json!(source.describe()),
    };
    let mut parameters: Value = json!({
        "labels": message.labels,
        "lane": message.lane,
        "options": options,
        "source": source,
    });
    if let (Some(webhook), Some(parameters)) = (&message.webhook, parameters.as_object_mut()) {
        parameters.insert("webhook".to_owned(), json!(webhook.url));
    }
    HEXLOWER.encode(&Sha256::digest(parameters.to_string()))
}

/// Accepts a named job, or returns the existing one.
///
/// # Errors
/// Those of [`publish::accept`], `idempotency_key_reused` and `result_expired`.
pub(crate) async fn accept(
    app: &App,
    message: JobMessage,
    trace: &TraceContext,
) -> Result<Job, Problem> {
    let lane = message.lane;
    let created_at = message.created_at;
    let accepted = accept_or_find(app, message, trace, ClaimMode::CreateOrFind).await;
    app.metrics.record_submission(lane, created_at, &accepted);
    accepted
}

/// Returns the job of an earlier request, and publishes it if its message is missing. Does not
/// create a record.
///
/// # Errors
/// Those of [`accept`], and `broker_unavailable` if the record was rolled back in the meantime.
pub(crate) async fn find(
    app: &App,
    message: JobMessage,
    trace: &TraceContext,
) -> Result<Job, Problem> {
    let lane = message.lane;
    let created_at = message.created_at;
    let accepted = accept_or_find(app, message, trace, ClaimMode::Find).await;
    app.metrics.record_submission(lane, created_at, &accepted);
    accepted
}

/// Returns the job of an earlier request if it has the same fingerprint. Publishes nothing.
///
/// # Errors
/// `idempotency_key_reused`, `overloaded`, `broker_unavailable`, and `result_expired` if the record
/// was deleted, has expired or never existed.
pub(crate) async fn compare(app: &App, message: &JobMessage) -> Result<Job, Problem> {
    let key = JobKey { owner: message.owner.clone(), job_id: message.job_id };
    let comparing = async {
        let _reservation = app.in_flight_budget.reserve(&message.source)?;
        match deadline::with_broker_deadline(app.store.get_job(&key, ReadFrom::Leader)).await? {
            Lookup::Job(stored) if stored.job.fingerprint == Some(compute_fingerprint(message)) => {
                Ok(stored.job)
            }
            Lookup::Job(_) => Err(idempotency_key_reused()),
            Lookup::Deleted | Lookup::NotFound => Err(Problem::result_expired()),
        }
    };
    let compared = comparing.await;
    app.metrics.record_submission(message.lane, message.created_at, &compared);
    compared
}

fn idempotency_key_reused() -> Problem {
    let detail = "The idempotency key or job id was already used for a job with a different body.";
    Problem::new(Code::IdempotencyKeyReused, detail)
}

/// Whether to create a missing record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClaimMode {
    CreateOrFind,
    Find,
}

async fn accept_or_find(
    app: &App,
    mut message: JobMessage,
    trace: &TraceContext,
    mode: ClaimMode,
) -> Result<Job, Problem> {
    message.fingerprint = Some(compute_fingerprint(&message));
    let _reservation = app.in_flight_budget.reserve(&message.source)?;
    let deadline = Instant::now() + BROKER_DEADLINE;
    publish::wait_for_connection(app, deadline).await?;
    request_trace::record_job_id(message.job_id);
    let job = message.queued_job().with_trace_context(Some(trace.clone()));
    let claimed = match mode {
        ClaimMode::CreateOrFind => claim(app, &job, deadline).await?,
        ClaimMode::Find => find_record(app, &job, deadline).await?.ok_or_else(|| {
            let detail =
                "The request that created this batch was rolled back. Send the batch again.";
            Problem::new(Code::BrokerUnavailable, detail)
        })?,
    };
    match claimed {
        ClaimResult::Created(revision) => {
            enqueue_if_missing(
                app,
                VersionedJob { job, revision },
                message,
                trace,
                deadline,
                RecordCreator::ThisRequest,
            )
            .await
        }
        ClaimResult::Exists(stored) if stored.job.fingerprint == job.fingerprint => {
            enqueue_if_missing(
                app,
                *stored,
                message,
                trace,
                deadline,
                RecordCreator::EarlierRequest,
            )
            .await
        }
        ClaimResult::Exists(_) => Err(idempotency_key_reused()),
        ClaimResult::Gone => Err(Problem::result_expired()),
    }
}

/// Request that created the record. Only that request may roll it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordCreator {
    /// This request created it, and has not confirmed the job to a client yet.
    ThisRequest,
    /// An earlier request created it, and may have confirmed the job to its client.
    EarlierRequest,
}

/// Creates the record or finds the existing one, until the deadline.
async fn claim(app: &App, job: &Job, deadline: Instant) -> Result<ClaimResult, Problem> {
    let admitted = match app.backpressure.admit(job.lane) {
        Ok(()) => limits::admit(app, &job.owner).await,
        refusal => refusal,
    };
    // A request that may not enqueue (queue nearly full, quota exhausted) still gets an existing
    // job.
    if let Err(refusal) = admitted {
        return find_record(app, job, deadline).await?.ok_or(refusal);
    }
    loop {
        match before_deadline(deadline, job, app.store.claim(job)).await {
            Ok(claimed) => return Ok(claimed),
            // A record that cannot be parsed now cannot be parsed later either.
            Err(problem) if problem.has_code(Code::Internal) || problem.needs_newer_version() => {
                return Err(problem);
            }
            Err(problem) if Instant::now() + PUBLISH_RETRY_DELAY >= deadline => {
                return Err(problem);
            }
            Err(_) => tokio::time::sleep(PUBLISH_RETRY_DELAY).await,
        }
    }
}

/// Returns the record that an earlier request created, or `None`.
async fn find_record(
    app: &App,
    job: &Job,
    deadline: Instant,
) -> Result<Option<ClaimResult>, Problem> {
    let key = job.key();
    Ok(match before_deadline(deadline, job, app.store.get_job(&key, ReadFrom::Leader)).await? {
        Lookup::Job(stored) => Some(ClaimResult::Exists(stored)),
        Lookup::Deleted => Some(ClaimResult::Gone),
        Lookup::NotFound => None,
    })
}

/// Publishes a job with a record unless the queue or a worker has it, and returns the job.
async fn enqueue_if_missing(
    app: &App,
    mut stored: VersionedJob,
    mut message: JobMessage,
    trace: &TraceContext,
    deadline: Instant,
    creator: RecordCreator,
) -> Result<Job, Problem> {
    // Take these fields from the record, so that every request for the job publishes the same
    // message.
    message.created_at = stored.job.created_at;
    message.trace_id = stored.job.trace_id;
    if let Some(object) = &stored.job.document {
        message.source.replace_object(object);
    }
    // Continue the trace of the first request. A repeated request is only linked to it.
    let parent = stored
        .job
        .trace_context()
        .unwrap_or_else(|| TraceParent { trace_id: stored.job.trace_id, ..trace.parent }.into());
    // A record that this request has just created has no message yet. If another request publishes
    // it first, the stream reports a duplicate.
    let mut must_check_queue = creator == RecordCreator::EarlierRequest;
    // Try the usual message id first. If the stream reports a duplicate although the message is
    // gone, publish once more with the second id.
    for is_second_try in [false, true] {
        if must_check_queue {
            stored = match check_queue(app, stored, deadline).await? {
                QueueCheck::Present(job) => return Ok(*job),
                QueueCheck::Missing(rewritten) => *rewritten,
            };
        }
        let publish_span = spans::begin_publish_span(&message, &parent);
        if creator == RecordCreator::EarlierRequest {
            telemetry::link(&publish_span.span, trace);
        }
        let envelope = if is_second_try {
            Envelope::serialize_with_second_id(&message, &publish_span)?
        } else {
            Envelope::serialize(&message, &publish_span)?
        };
        let publishing =
            publish::publish_with_retries(app, &envelope, &publish_span.context, deadline);
        match publishing.instrument(publish_span.span).await {
            PublishOutcome::Acknowledged(PublishAck::Stored) => {
                publish::log_accepted(&stored.job, creator == RecordCreator::ThisRequest);
                return Ok(stored.job);
            }
            // Another request has just published the message, or it was stored before and is gone.
            // Check the queue to find out.
            PublishOutcome::Acknowledged(PublishAck::Duplicate) => must_check_queue = true,
            PublishOutcome::Refused(reason) => {
                if creator == RecordCreator::ThisRequest {
                    // Fails if another request has used the record in the meantime, as that changes
                    // its revision.
                    publish::roll_back_record(app, &stored.job, Ok(stored.revision)).await;
                }
                return Err(publish::refusal_problem(app, stored.job.lane, &reason));
            }
            PublishOutcome::Unconfirmed => {
                warn!(
                    job.id = %stored.job.job_id,
                    "the broker did not confirm a job in time; the client gets an error, but the \
                     job may still run"
                );
                return Err(Problem::unconfirmed(stored.job.job_id));
            }
        }
    }
    let job_id = stored.job.job_id;
    match check_queue(app, stored, deadline).await? {
        QueueCheck::Present(job) => Ok(*job),
        QueueCheck::Missing(_) => Err(Problem::unconfirmed(job_id)),
    }
}

/// State of a job that has a record.
enum QueueCheck {
    /// The job is in the queue, or a worker has received it.
    Present(Box<Job>),
    /// The status is `queued`, but the queue has no message. The record was just rewritten, so it
    /// has a new revision.
    Missing(Box<VersionedJob>),
}

/// Checks whether a job is in the queue or was already received by a worker.
///
/// The sweeper fails a job whose message is missing, by compare-and-set on a revision that is older
/// than any running request. To publish such a job again, a request first rewrites its record
/// unchanged. Either the sweeper was first, and this request sees the failed job. Or the sweeper
/// finds a new revision, and leaves the job alone until the message is stored.
async fn check_queue(
    app: &App,
    stored: VersionedJob,
    deadline: Instant,
) -> Result<QueueCheck, Problem> {
    let job = stored.job;
    if job.status != Status::Queued {
        return Ok(QueueCheck::Present(Box::new(job)));
    }
    let key = job.key();
    loop {
        // Also true for a job that waits for its next attempt.
        let has_message =
            before_deadline(deadline, &job, app.queue.has_message(&key, ReadFrom::Leader)).await?;
        // Read the record again: a worker may have finished the job before the queue was checked. A
        // new revision alone proves nothing, since another request may have rewritten the record
        // and crashed before it published the message.
        let reading = app.store.get_job(&key, ReadFrom::Leader);
        let latest = match before_deadline(deadline, &job, reading).await? {
            Lookup::Job(latest) if has_message || latest.job.status != Status::Queued => {
                return Ok(QueueCheck::Present(Box::new(latest.job)));
            }
            Lookup::Job(latest) => latest,
            Lookup::Deleted => return Err(Problem::result_expired()),
            // Another request rolled the record back, because the queue refused the job. The job
            // still exists if the queue has its message.
            Lookup::NotFound if has_message => return Ok(QueueCheck::Present(Box::new(job))),
            Lookup::NotFound => return Err(Problem::unconfirmed(job.job_id)),
        };
        match tokio::time::timeout_at(deadline, app.store.rewrite(&latest)).await {
            Ok(Ok(revision)) => {
                return Ok(QueueCheck::Missing(Box::new(VersionedJob { revision, ..*latest })));
            }
            Ok(Err(reason)) => debug!(job.id = %job.job_id, ?reason, "cannot rewrite a record"),
            Err(_) => return Err(Problem::unconfirmed(job.job_id)),
        }
        // Another request has changed the record, and may be publishing the message now. Check
        // again.
        tokio::time::sleep(PUBLISH_RETRY_DELAY).await;
    }
}

/// Waits for a broker request until the deadline. If the outcome is unknown, the problem contains
/// the job id.
async fn before_deadline<T>(
    deadline: Instant,
    job: &Job,
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Problem> {
    match tokio::time::timeout_at(deadline, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error @ (Error::Corrupt { .. } | Error::Newer { .. } | Error::TooLarge { .. }))) => {
            Err(error.into())
        }
        Ok(Err(error)) => {
            debug!(job.id = %job.job_id, %error, "the broker did not confirm a request");
            Err(Problem::unconfirmed(job.job_id))
        }
        Err(_) => Err(Problem::unconfirmed(job.job_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_covers_only_the_parameters() {
        let golden = include_str!("../../../common/src/golden/message.json");
        let message: JobMessage = serde_json::from_str(golden).unwrap();
        let expected = compute_fingerprint(&message);
        // Records store the fingerprint, so it must be the same in every version.
        let canonical = r#"{"labels":{},"lane":"interactive","options":{},"source":{"kind":"text","text":"to be or not to be"}}"#;
        assert_eq!(expected, HEXLOWER.encode(&Sha256::digest(canonical)));

        let mut other = message.clone();
        other.labels.insert("a".to_owned(), "b".to_owned());
        assert_ne!(compute_fingerprint(&other), expected);
        let mut other = message.clone();
        other.lane = wordmill_common::id::Lane::Bulk;
        assert_ne!(compute_fingerprint(&other), expected);
        let mut same = message;
        same.trace_id = TraceParent::random().trace_id;
        same.created_at = wordmill_common::clock::now();
        assert_eq!(compute_fingerprint(&same), expected);
    }
}
