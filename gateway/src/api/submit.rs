//! A job comes in: checked, put onto the queue and recorded, both at once.

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
use wordmill_common::trace_context::TraceParent;

use crate::App;
use crate::api::jobs::POLL_AFTER_S;
use crate::auth::caller::Caller;
use crate::enqueue::in_flight_budget::BodyShare;
use crate::enqueue::{idempotent, publish};
use crate::http::problem::Problem;
use crate::intake::new_job::{self, NewJob};
use crate::intake::{idempotency_key, json_body, media_type, query, upload};
use crate::read::find_job;
use crate::read::find_job::JobPath;
use crate::read::follow::PreferWait;
use crate::read::job_view::JobView;

/// Header that says which preference was met.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /v1/jobs`, with `Idempotency-Key` or without.
pub(crate) async fn submit_job(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<TraceParent>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let name = idempotency_key::read(&headers)?;
    let derived = |key: &String| JobId::derived("key", &caller.owner, key);
    let key = caller.job(name.as_ref().map_or_else(JobId::new, derived));
    let (message, share) = read_submission(&app, &key, &trace, &uri, &headers, body).await?;
    let object = message.source.object().map(str::to_owned);
    let preference = PreferWait::of(&app, &key, &headers).await;
    // Frees the room of the body; `accept` takes room for the job.
    drop(share);
    let accepted = match name {
        // Boxed like whatever else is rare here: the future of a request is copied several times, and is
        // as large as the largest thing that it may have to wait for.
        Some(_) => Box::pin(idempotent::accept(&app, message, &trace)).await,
        None => publish::accept(&app, &message, &trace).await,
    };
    upload::remove_unless_owned(&app, object, &accepted);
    Ok(answer(&app, preference, accepted?).await)
}

/// `PUT /v1/jobs/{uuid}`. An `Idempotency-Key` would add nothing, and is not looked at.
pub(crate) async fn submit_named_job(
    State(app): State<App>,
    JobPath(key): JobPath,
    Extension(trace): Extension<TraceParent>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (message, share) = read_submission(&app, &key, &trace, &uri, &headers, body).await?;
    let object = message.source.object().map(str::to_owned);
    let preference = PreferWait::of(&app, &key, &headers).await;
    // Frees the room of the body; `accept` takes room for the job.
    drop(share);
    let accepted = idempotent::accept(&app, message, &trace).await;
    upload::remove_unless_owned(&app, object, &accepted);
    Ok(answer(&app, preference, accepted?).await)
}

/// Returns the answer about a job that was accepted, now or by an earlier request; if the client
/// prefers to wait for it, as it is then.
pub(crate) async fn answer(app: &App, preference: Option<PreferWait>, job: Job) -> Response {
    if job.status == Status::Unknown
        && let Ok(record) = Box::pin(find_job::require_raw(app, &job.key())).await
        && let Ok(view) = app.view_record(&record, &job.key())
    {
        // Only the record has the name of the state.
        return describe(&job, record.status, view);
    }
    let Some(preference) = preference else {
        return describe(&job, job.status, app.view(&job));
    };
    // The job is accepted, whatever becomes of the wait.
    let key = job.key();
    let wait = preference.wait;
    let waited = Box::pin(preference.wait_for_end(app, &job)).await;
    let read = waited.as_ref().map_err(Problem::clone);
    let read = read.and_then(|record| Ok((record.status, app.view_record(record, &key)?)));
    let (status, view) = read.unwrap_or_else(|problem| {
        debug!(job.id = %job.job_id, reason = problem.code_name(), "nobody waits for a job");
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

/// Reads the job that a body describes, or takes in the document that it is, under the name that the
/// job is to have. Returns the message and the room that it takes.
///
/// # Errors
/// Those of [`upload::receive_document`] and [`json_body::json`], and `invalid_...` for members with
/// invalid values.
pub(crate) async fn read_submission(
    app: &App,
    key: &JobKey,
    trace: &TraceParent,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<(JobMessage, BodyShare), Problem> {
    if media_type::kind(headers)? != media_type::Kind::Json {
        let reading = upload::receive_document(app, key, trace, headers, uri.query(), body);
        // The document is in the store by then.
        return Ok((Box::pin(reading).await?, app.in_flight_budget.share()));
    }
    let query = query::parse_submit_query(uri.query().unwrap_or_default())?;
    let (body, share): (NewJob, _) =
        json_body::json(&app.in_flight_budget, headers, body, app.json_size_max).await?;
    let source = new_job::source(body.url, body.text)?;
    let options = match body.options {
        None | Some(Value::Null) => query.options,
        given => new_job::options(given)?,
    };
    let labels = body.labels.map_or(Ok(query.labels), new_job::labels)?;
    let to = |url: String| new_job::webhook_to(app, &url);
    let webhook = body.webhook.map(|webhook| to(webhook.url)).transpose()?;
    // What the query says has to be right, although it is not what counts then.
    let webhook = webhook.or(query.webhook.map(to).transpose()?);
    let message = JobMessage {
        lane: body.lane.or(query.lane).unwrap_or_default(),
        options,
        labels,
        webhook,
        ..JobMessage::new(key.clone(), source, trace.trace_id)
    };
    Ok((message, share))
}
