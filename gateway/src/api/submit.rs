//! Submits a job: validates it, and concurrently enqueues it and creates its record.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tracing::debug;
use wordmill_common::id::{JobId, JobKey};
use wordmill_common::job::{Job, Status};
use wordmill_common::message::JobMessage;
use wordmill_common::trace_context::TraceContext;

use crate::App;
use crate::api::jobs::POLL_AFTER_S;
use crate::auth::caller::Caller;
use crate::enqueue::in_flight_budget::BodyReservation;
use crate::enqueue::{idempotent, publish};
use crate::http::problem::Problem;
use crate::intake::new_job::{self, NewJob};
use crate::intake::{idempotency_key, json_body, media_type, query, upload};
use crate::read::find_job;
use crate::read::find_job::JobPath;
use crate::read::follow::PreferWait;
use crate::read::job_view::JobView;

/// Response header with the preference that was applied.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /v1/jobs`, with `Idempotency-Key` or without.
pub(crate) async fn submit_job(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = idempotency_key::read(&headers)?;
    let derived = |key: &String| JobId::derive("key", &caller.owner, key);
    let key = caller.job_key(name.as_ref().map_or_else(JobId::new, derived));
    let (message, reservation) = read_submission(&app, &key, &trace, &uri, &headers, body).await?;
    let object = message.source.object().map(str::to_owned);
    let preference = PreferWait::of(&app, &key, &headers).await;
    // Releases the memory reservation of the body; `accept` makes one for the job.
    drop(reservation);
    let accepted = match name {
        // Boxed, like all rare paths here: the future of a request is copied several times and is
        // as large as its largest branch.
        Some(_) => Box::pin(idempotent::accept(&app, message, &trace)).await,
        None => publish::accept(&app, &message, &trace).await,
    };
    upload::remove_unless_owned(&app, object, &accepted);
    Ok(respond(&app, preference, accepted?).await)
}

/// `PUT /v1/jobs/{uuid}`. An `Idempotency-Key` is ignored, because the id serves the same purpose.
pub(crate) async fn submit_named_job(
    State(app): State<App>,
    JobPath(key): JobPath,
    Extension(trace): Extension<TraceContext>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (message, reservation) = read_submission(&app, &key, &trace, &uri, &headers, body).await?;
    let object = message.source.object().map(str::to_owned);
    let preference = PreferWait::of(&app, &key, &headers).await;
    // Releases the memory reservation of the body; `accept` makes one for the job.
    drop(reservation);
    let accepted = idempotent::accept(&app, message, &trace).await;
    upload::remove_unless_owned(&app, object, &accepted);
    Ok(respond(&app, preference, accepted?).await)
}

/// Returns the response for a job that this or an earlier request has submitted. If the client
/// prefers to wait, waits until the job is final first.
pub(crate) async fn respond(app: &App, preference: Option<PreferWait>, job: Job) -> Response {
    if job.status == Status::Unknown
        && let Ok(record) = Box::pin(find_job::require_raw(app, &job.key())).await
        && let Ok(view) = app.view_record(&record, &job.key())
    {
        // Only the record contains the original name of an unknown status.
        return describe(&job, record.status, view);
    }
    let Some(preference) = preference else {
        return describe(&job, job.status, app.view(&job));
    };
    // Errors of the wait are not returned, because the job is accepted.
    let key = job.key();
    let wait = preference.wait;
    let waited = Box::pin(preference.wait_until_final(app, &job)).await;
    let read = waited.as_ref().map_err(Problem::clone);
    let read = read.and_then(|record| Ok((record.status, app.view_record(record, &key)?)));
    let (status, view) = read.unwrap_or_else(|problem| {
        debug!(job.id = %job.job_id, reason = problem.code_name(), "cannot wait for the job");
        (job.status, app.view(&job))
    });
    let mut response = describe(&job, status, view);
    if status.is_final() {
        let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
        response.headers_mut().extend(applied.ok().map(|applied| (PREFERENCE_APPLIED, applied)));
    }
    response
}

fn describe(job: &Job, status: Status, view: JobView<'_>) -> Response {
    let location = [(LOCATION, format!("/v1/jobs/{}", job.job_id))];
    if status.is_final() {
        return (StatusCode::OK, location, view).into_response();
    }
    let later = [(RETRY_AFTER, POLL_AFTER_S.to_string())];
    (StatusCode::ACCEPTED, location, later, view).into_response()
}

/// Reads a submission: parses a JSON body, or stores a document under the id of the job. Returns
/// the message of the job and the memory reservation of the body.
///
/// # Errors
/// Those of [`upload::receive_document`] and [`json_body::read_object`], and `invalid_...` for
/// members with invalid values.
pub(crate) async fn read_submission(
    app: &App,
    key: &JobKey,
    trace: &TraceContext,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<(JobMessage, BodyReservation), Problem> {
    if media_type::submission_format(headers)? != media_type::SubmissionFormat::Json {
        let reading = upload::receive_document(app, key, trace, headers, uri.query(), body);
        // The document is already stored, so the reservation is empty.
        return Ok((Box::pin(reading).await?, app.in_flight_budget.reserve_body()));
    }
    let query = query::parse_submit_query(uri.query().unwrap_or_default())?;
    let (body, reservation): (NewJob, _) =
        json_body::read_object(&app.in_flight_budget, headers, body, app.json_size_max).await?;
    let source = new_job::parse_source(body.url, body.text)?;
    let options = match body.options {
        None | Some(Value::Null) => query.options,
        given => new_job::parse_options(given)?,
    };
    let labels = body.labels.map_or(Ok(query.labels), new_job::check_labels)?;
    let to = |url: String| new_job::parse_webhook(app, &url);
    let webhook = body.webhook.map(|webhook| to(webhook.url)).transpose()?;
    // The query must be valid even if the body takes precedence.
    let webhook = webhook.or(query.webhook.map(to).transpose()?);
    let message = JobMessage {
        lane: body.lane.or(query.lane).unwrap_or_default(),
        options,
        labels,
        webhook,
        ..JobMessage::new(key.clone(), source, trace.trace_id())
    };
    Ok((message, reservation))
}
