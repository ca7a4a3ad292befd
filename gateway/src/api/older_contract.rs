//! The API of the previous service, kept for its clients: `/word-count` and `/health`.
//!
//! Every response is `{"success": …, "message": …, "data": {…}}`, including errors.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Value, json};
use wordmill_common::id::{JobId, JobKey};
use wordmill_common::job::{Job, Status};
use wordmill_common::message::JobMessage;
use wordmill_common::trace_context::TraceContext;
use wordmill_nats::job_record::Lookup;
use wordmill_nats::supervise::Health;

use crate::App;
use crate::auth::caller::Caller;
use crate::enqueue::publish;
use crate::http::problem::{Code, Problem, ProblemCause};
use crate::intake::{json_body, new_job};
use crate::read::find_job::{self, JobPath};
use crate::read::result_format::{self, Format, Frame};
use crate::read::result_reader::Words;

/// An error response.
type ErrorResponse = Response;

#[derive(Debug, Deserialize)]
struct Submission {
    url: Option<String>,
}

/// Id of a job: in the query, or in a JSON body, which older clients send even with GET.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Request {
    job_id: Option<String>,
}

/// Returns whether a path belongs to the older contract.
pub(crate) fn contains_path(path: &str) -> bool {
    path == "/health" || path == "/word-count" || path.starts_with("/word-count/")
}

/// Renders an error.
pub(crate) fn render_error(status: StatusCode, message: &str) -> ErrorResponse {
    build_envelope(status, message, json!({}))
}

/// `POST /word-count`.
pub(crate) async fn submit_word_count(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorResponse> {
    let reading = json_body::read_object(&app.in_flight_budget, &headers, body, app.json_size_max);
    let (submission, _reservation): (Submission, _) = reading.await.map_err(refuse_body)?;
    let url = submission
        .url
        .ok_or_else(|| render_error(StatusCode::BAD_REQUEST, "The field \"url\" is missing."))?;
    let source = new_job::parse_url_source(&url).map_err(bad_request)?;
    let message = JobMessage::new(caller.job_key(JobId::new()), source, trace.trace_id());
    let job = publish::accept(&app, &message, &trace).await.map_err(server_error)?;
    let data = json!({"job_id": job.job_id, "url": url, "status": "IN_PROGRESS"});
    Ok(build_envelope(StatusCode::ACCEPTED, &format!("Scheduled Job: {}", job.job_id), data))
}

/// `GET /word-count`.
pub(crate) async fn get_word_count(
    State(app): State<App>,
    caller: Caller,
    query: Result<Query<Request>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ErrorResponse> {
    let Query(query) =
        query.map_err(|rejection| render_error(StatusCode::BAD_REQUEST, &rejection.body_text()))?;
    let request = match query.job_id {
        Some(_) => query,
        None => {
            let reading =
                json_body::read_object(&app.in_flight_budget, &headers, body, app.json_size_max);
            reading.await.map_err(refuse_body)?.0
        }
    };
    let id = request
        .job_id
        .ok_or_else(|| render_error(StatusCode::BAD_REQUEST, "The field \"job_id\" is missing."))?;
    word_count_response(&app, &caller, &find_job::parse_job_key(&caller, &id).map_err(bad_request)?)
        .await
}

/// `GET /word-count/{job_id}`.
pub(crate) async fn get_word_count_by_path(
    State(app): State<App>,
    caller: Caller,
    id: Result<JobPath, Problem>,
) -> Result<Response, ErrorResponse> {
    word_count_response(&app, &caller, &id.map_err(bad_request)?.0).await
}

/// `GET /health`.
pub(crate) async fn get_health(State(app): State<App>) -> Response {
    let ready = *app.health.borrow() == Health::Ready && app.broker.is_connected();
    let (success, status, word, info) = if ready {
        (true, StatusCode::OK, "PASS", "All services are online")
    } else {
        (false, StatusCode::INTERNAL_SERVER_ERROR, "FAIL", "At least one service is offline")
    };
    let data = json!({"status": word, "info": info});
    let body = json!({"success": success, "message": "Completed Health Check", "data": data});
    (status, Json(body)).into_response()
}

/// Returns the status of a job, or its histogram if it has succeeded.
async fn word_count_response(
    app: &App,
    caller: &Caller,
    key: &JobKey,
) -> Result<Response, ErrorResponse> {
    let unknown = || render_error(StatusCode::BAD_REQUEST, "No job has this id.");
    let stored = match find_job::find(app, key).await.map_err(server_error)? {
        Lookup::Job(record) => record.read(key).map_err(Problem::from).map_err(server_error)?,
        Lookup::Deleted | Lookup::NotFound => return Err(unknown()),
    };
    let job = &stored.job;
    let mut data = json!({"job_id": job.job_id, "status": "IN_PROGRESS"});
    match job.status {
        Status::Queued | Status::Running | Status::Unknown => {}
        Status::Succeeded => return stream_histogram(app, caller, job).await.map_err(server_error),
        Status::Failed => {
            let error = job.failure.as_ref().map_or("The job failed.", |f| f.detail.as_str());
            data = json!({"job_id": job.job_id, "status": "FAIL", "error": error});
        }
        Status::Cancelled => {
            data =
                json!({"job_id": job.job_id, "status": "FAIL", "error": "The job was cancelled."});
        }
    }
    Ok(build_envelope(StatusCode::OK, &fetched_message(job), data))
}

/// Streams the histogram of a succeeded job, because it may not fit into memory.
///
/// # Errors
/// Those of [`Words::open`]. A later error closes the connection.
async fn stream_histogram(app: &App, caller: &Caller, job: &Job) -> Result<Response, Problem> {
    let words = Words::open(app, job, usize::MAX, 0).await?;
    let head = json!({"job_id": job.job_id, "status": "COMPLETE"}).to_string();
    let after = format!(",\"message\":{},\"success\":true}}", Value::from(fetched_message(job)));
    let frame = Frame { before: "{\"data\":", head: &head, after: &after };
    let body = result_format::body(Format::Json, &frame, words, caller.key_validity(&app.keys));
    Ok(([(CONTENT_TYPE, Format::Json.content_type())], body).into_response())
}

fn fetched_message(job: &Job) -> String {
    format!("Fetched Job: {}", job.job_id)
}

/// Maps every invalid request to 400.
#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn bad_request(problem: Problem) -> ErrorResponse {
    render_error(StatusCode::BAD_REQUEST, problem.detail())
}

/// Maps an invalid body to 400, and an exhausted memory budget to 500.
fn refuse_body(problem: Problem) -> ErrorResponse {
    if problem.has_code(Code::Overloaded) { server_error(problem) } else { bad_request(problem) }
}

/// Maps a server error to 500. Only 429 is kept, because its `Retry-After` is useful.
fn server_error(problem: Problem) -> ErrorResponse {
    if problem.status() == StatusCode::TOO_MANY_REQUESTS {
        return problem.into_response();
    }
    let mut response = render_error(StatusCode::INTERNAL_SERVER_ERROR, problem.detail());
    response.extensions_mut().insert(ProblemCause(problem));
    response
}

#[expect(clippy::needless_pass_by_value, reason = "a literal at every call")]
fn build_envelope(status: StatusCode, message: &str, data: Value) -> Response {
    let body = json!({"success": status.is_success(), "message": message, "data": data});
    (status, Json(body)).into_response()
}
