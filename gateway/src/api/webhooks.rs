//! Reads the delivery state of a webhook, and sends the webhook again.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tracing::{Instrument, debug, info};
use wordmill_common::clock;
use wordmill_common::id::JobKey;
use wordmill_common::job::Job;
use wordmill_common::trace_context::TraceContext;
use wordmill_common::webhook::Deliveries;
use wordmill_nats::Error;
use wordmill_nats::stream_read::ReadFrom;

use crate::App;
use crate::http::deadline::with_broker_deadline;
use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::read::find_job::{self, JobPath};

/// `POST /v1/jobs/{id}/webhook`: sends the webhook again, immediately and with a new schedule.
/// Earlier attempts are discarded, including the result of an attempt in flight.
pub(crate) async fn redeliver_webhook(
    State(app): State<App>,
    JobPath(key): JobPath,
    Extension(trace): Extension<TraceContext>,
) -> Result<Response, Problem> {
    let job = find_job::require_final(&app, &key).await?.job;
    if job.webhook.is_none() {
        let detail = "The job was submitted without a webhook.";
        return Err(Problem::new(Code::WebhookNotRequested, detail));
    }
    if !app.webhooks_enabled {
        let detail = "Webhooks are disabled in this service.";
        return Err(Problem::new(Code::WebhooksDisabled, detail));
    }
    let span = request_trace::begin_webhook_span(&job, &trace);
    let deliveries = with_broker_deadline(start_round(&app, &job)).instrument(span.clone()).await;
    let deliveries = deliveries.map_err(|problem| {
        let is_full = problem.has_code(Code::StorageFull);
        let detail = "Too many webhooks wait for delivery. Try again later.";
        if is_full { Problem::new(Code::WebhooksFull, detail) } else { problem }
    })?;
    span.in_scope(|| info!(job.id = %key.job_id, "webhook queued to be sent again"));
    Ok((StatusCode::ACCEPTED, app.view(&job).with_deliveries(Some(&deliveries))).into_response())
}

/// Starts another round of attempts. The message starts the round and is published first: if the
/// queue of webhooks is full, nothing has changed. The state is written here only to be visible
/// immediately. The worker that receives the message writes it, too.
async fn start_round(app: &App, job: &Job) -> Result<Deliveries, Error> {
    let key = job.key();
    let stored = app.webhooks.get_deliveries(&key, ReadFrom::Leader).await?;
    let last = stored.deliveries.map_or(0, |deliveries| deliveries.round);
    let now = clock::now();
    // The time distinguishes this round from earlier rounds whose state was deleted.
    let round = u64::try_from(now.as_millisecond()).unwrap_or(0).max(last.saturating_add(1));
    app.webhooks.enqueue(job, round).await?;
    let mut deliveries = Deliveries::new(round);
    deliveries.next_attempt_at = Some(now);
    if let Err(reason) = app.webhooks.write(&key, &deliveries, stored.revision).await {
        debug!(?reason, "cannot write the webhook state; the worker will write it");
    }
    Ok(deliveries)
}

/// Returns the delivery state of the webhook of a final job; `None` if nothing was recorded yet.
///
/// # Errors
/// `broker_unavailable`, and `internal` if the state is corrupt.
pub(crate) async fn get_deliveries(app: &App, key: &JobKey) -> Result<Option<Deliveries>, Problem> {
    let read_from = if app.replicas > 1 { ReadFrom::Leader } else { ReadFrom::AnyReplica };
    Ok(with_broker_deadline(app.webhooks.get_deliveries(key, read_from)).await?.deliveries)
}
