//! Cancels jobs.
//!
//! A job is cancelled when its record is. The record is written before the response is sent, and a
//! final record never changes, so a worker that runs the job can no longer write a result. The
//! message stays in the queue until a worker receives it, finds the job final, and acknowledges it
//! without counting.
//!
//! This holds even if no worker runs for a long time. With a short `WORDMILL_RESULT_TTL`, a record
//! may expire before its message is delivered. The broker then leaves a tombstone, which workers
//! treat as final and which outlives every message (`wordmill_nats::topology::TOMBSTONE_TTL`).

use axum::Extension;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::{Instrument, info};
use wordmill_common::id::JobKey;
use wordmill_common::job::{Event, Status};
use wordmill_common::trace_context::TraceContext;
use wordmill_nats::job_record::VersionedJob;
use wordmill_nats::store::Outcome;

use crate::App;
use crate::api::batches;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::http::{conditional, request_trace};
use crate::read::find_job::{self, JobPath};

/// `POST /v1/jobs/{id}/cancel`. Idempotent.
pub(crate) async fn cancel_job(
    State(app): State<App>,
    JobPath(key): JobPath,
    Extension(trace): Extension<TraceContext>,
) -> Result<Response, Problem> {
    let cancelling = tokio::time::timeout(BROKER_DEADLINE, cancel(&app, &key, &trace));
    let stored = cancelling.await.unwrap_or_else(|_| {
        let detail = "The cancellation was not confirmed in time. Try again.";
        Err(Problem::new(Code::BrokerUnavailable, detail))
    })?;
    batches::cancel_members(&app, &stored.job).await?;
    let mut response = app.view(&stored.job).into_response();
    if let Ok(etag) = conditional::etag(stored.revision).parse() {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// Cancels a job and returns its stored record.
///
/// The first read may be from a lagging replica. This is safe: a final record never changes, and a
/// write based on an outdated record fails the compare-and-set and is repeated with the record of
/// the leader. If the job has only a message, this creates its record.
async fn cancel(
    app: &App,
    key: &JobKey,
    request: &TraceContext,
) -> Result<Box<VersionedJob>, Problem> {
    let current = find_job::require_job(app, key).await?;
    let span = request_trace::begin_cancel_span(&current.job, request);
    let change = app.store.apply(&current, None, |job, now| job.apply(Event::Cancelled, now));
    match change.instrument(span.clone()).await? {
        Outcome::Applied(stored) => {
            let _within = span.entered();
            info!(job.id = %key.job_id, "job cancelled");
            app.metrics.record_cancelled_job(&stored.job);
            Ok(stored)
        }
        Outcome::Refused(stored, _) if stored.job.status == Status::Cancelled => Ok(stored),
        Outcome::Refused(stored, _) if stored.job.status == Status::Unknown => {
            Err(Problem::newer_version_needed())
        }
        Outcome::Refused(stored, _) => {
            let status = stored.job.status;
            let detail = format!("The job has already {}.", status.as_str());
            Err(Problem::new(Code::AlreadyFinished, detail)
                .with_member("job_status", json!(status)))
        }
        Outcome::Gone => Err(Problem::result_expired()),
    }
}
