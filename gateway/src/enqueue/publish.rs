//! Publishes jobs to the queue and creates their records.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, Span, debug, info, warn};
use wordmill_common::id::Lane;
use wordmill_common::job::Job;
use wordmill_common::message::JobMessage;
use wordmill_common::trace_context::TraceContext;
use wordmill_nats::job_record::Lookup;
use wordmill_nats::queue::{Envelope, PublishAck, PublishError};
use wordmill_nats::spans;
use wordmill_nats::store::WriteError;
use wordmill_nats::stream_read::ReadFrom;
use wordmill_service::telemetry;

use crate::App;
use crate::auth::limits;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::metrics::Operation;

/// Delay between two tries to publish a job.
pub(crate) const PUBLISH_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Result of publishing a job.
pub(crate) enum PublishOutcome {
    /// The queue stored the job.
    Acknowledged(PublishAck),
    /// The queue definitely did not store the job.
    Refused(PublishError),
    /// The queue did not confirm the job in time, so it may have stored it.
    Unconfirmed,
}

/// Publishes a job and creates its record concurrently, so that both take one round trip.
///
/// # Errors
/// `queue_full`, `quota_exceeded`, `overloaded`, `input_too_large` and `broker_unavailable`. The
/// last one contains the job id if the job may have been queued.
pub(crate) async fn accept(
    app: &App,
    message: &JobMessage,
    trace: &TraceContext,
) -> Result<Job, Problem> {
    let lane = message.lane;
    let created_at = message.created_at;
    let accepted = enqueue(app, message, trace).await;
    app.metrics.record_submission(lane, created_at, &accepted);
    accepted
}

async fn enqueue(app: &App, message: &JobMessage, trace: &TraceContext) -> Result<Job, Problem> {
    app.backpressure.admit(message.lane)?;
    let _reservation = app.in_flight_budget.reserve(&message.source)?;
    limits::admit(app, &message.owner).await?;
    let deadline = Instant::now() + BROKER_DEADLINE;
    wait_for_connection(app, deadline).await?;
    request_trace::record_job_id(message.job_id);
    let publish_span = spans::begin_publish_span(message, trace);
    let envelope = Envelope::serialize(message, &publish_span)?;
    let job = message.queued_job().with_trace_context(Some(trace.clone()));
    let creating =
        app.metrics.time_broker_request(Operation::CreateRecord, trace, app.store.create(&job));
    let publishing = publish_with_retries(app, &envelope, &publish_span.context, deadline);
    // Either may be first: a worker that receives the job before its record exists creates the
    // record.
    let (published, created) = tokio::join!(publishing.instrument(publish_span.span), creating);
    match published {
        // The job is safe: if the record is missing, the worker creates it from the message.
        PublishOutcome::Acknowledged(_) => {
            if let Err(WriteError::Unclear(reason)) = &created {
                warn!(
                    job.id = %job.job_id,
                    reason,
                    "the broker did not confirm a record; the worker will write it"
                );
            }
            log_accepted(&job, true);
            Ok(job)
        }
        // The record was created concurrently, for a job that does not exist.
        PublishOutcome::Refused(reason) => {
            Box::pin(roll_back_record(app, &job, created)).await;
            Err(refusal_problem(app, job.lane, &reason))
        }
        // Keep the record: the queue may have the job. If it does not, the sweeper fails the job as
        // lost.
        PublishOutcome::Unconfirmed => {
            warn!(
                job.id = %job.job_id,
                "the broker did not confirm a job in time; the client gets an error, but the job \
                 may still run"
            );
            Err(Problem::unconfirmed(job.job_id))
        }
    }
}

/// Logs that a job was accepted. `is_ours` is false if an earlier request created its record.
pub(crate) fn log_accepted(job: &Job, is_ours: bool) {
    let id = job.job_id;
    let lane = job.lane;
    match job.batch {
        // Only the batch itself is logged at `info`. Up to 10,000 lines about its members would
        // hide the other lines.
        Some(batch) => debug!(job.id = %id, %lane, is_ours, batch.id = %batch, "job accepted"),
        None => info!(job.id = %id, %lane, is_ours, "job accepted"),
    }
}

/// Waits for a connection to the broker.
///
/// # Errors
/// `broker_unavailable` if the broker is still disconnected at the deadline. Nothing was queued.
pub(crate) async fn wait_for_connection(app: &App, deadline: Instant) -> Result<(), Problem> {
    // Without a connection, the client library buffers messages and sends them later, so a job
    // would have an unknown outcome.
    match tokio::time::timeout_at(deadline, app.broker.wait_for_connection()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            let detail = "The broker cannot be reached. Nothing was queued. Try again later.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        }
    }
}

/// Publishes a job until the queue accepts or refuses it, or the deadline passes. Retries are
/// idempotent, because the message id is derived from the job id.
pub(crate) async fn publish_with_retries(
    app: &App,
    envelope: &Envelope,
    trace: &TraceContext,
    deadline: Instant,
) -> PublishOutcome {
    // Whether an earlier try without a clear outcome may have stored the job. A refusal of a later
    // try then proves nothing.
    let mut may_be_stored = false;
    loop {
        let publishing =
            app.metrics.time_broker_request(Operation::Publish, trace, app.queue.publish(envelope));
        match tokio::time::timeout_at(deadline, publishing).await {
            Ok(Ok(ack)) => return PublishOutcome::Acknowledged(ack),
            Ok(Err(
                reason @ (PublishError::Full | PublishError::TooLarge | PublishError::NoQueue),
            )) if !may_be_stored => {
                telemetry::fail(&Span::current(), reason.name(), &reason.to_string());
                return PublishOutcome::Refused(reason);
            }
            Ok(Err(_)) | Err(_) => may_be_stored = true,
        }
        let next_try = Instant::now() + PUBLISH_RETRY_DELAY;
        if next_try >= deadline {
            let description = "the broker did not confirm the job in time";
            telemetry::fail(&Span::current(), "unconfirmed", description);
            return PublishOutcome::Unconfirmed;
        }
        tokio::time::sleep_until(next_try).await;
    }
}

/// Removes the record of a job that the queue definitely did not store.
pub(crate) async fn roll_back_record(app: &App, job: &Job, created: Result<u64, WriteError>) {
    let key = job.key();
    let revision = match created {
        Ok(revision) => Ok(Some(revision)),
        Err(WriteError::Conflict | WriteError::TooLarge) => Ok(None),
        // The write may have succeeded, so look for the record.
        Err(WriteError::Unclear(_)) => match app.store.get_job(&key, ReadFrom::Leader).await {
            Ok(Lookup::Job(stored)) => Ok(Some(stored.revision)),
            Ok(Lookup::Deleted | Lookup::NotFound) => Ok(None),
            Err(error) => Err(error),
        },
    };
    let rolled_back = match revision {
        Ok(Some(revision)) => app.store.roll_back(&key, revision).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = rolled_back {
        warn!(
            job.id = %job.job_id,
            %error,
            "cannot remove the record of a refused job; the sweeper will fail the job as lost"
        );
    }
}

/// Returns the problem for a job that the queue definitely did not store.
pub(crate) fn refusal_problem(app: &App, lane: Lane, reason: &PublishError) -> Problem {
    warn!(refused = %reason, "the queue refused a job");
    match reason {
        PublishError::Full => app
            .backpressure
            .queue_full_problem(lane, "The queue is full. Nothing was queued. Try again later."),
        PublishError::TooLarge => Problem::new(
            Code::InputTooLarge,
            "The job exceeds the maximum message size of the broker.",
        ),
        PublishError::NoQueue | PublishError::Unclear(_) => Problem::new(
            Code::BrokerUnavailable,
            "The broker does not answer. Nothing was queued. Try again later.",
        ),
    }
}
