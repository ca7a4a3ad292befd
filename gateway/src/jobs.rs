//! How a job is doing.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, RETRY_AFTER};
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::lookup::{self, JobPath};
use crate::problem::Problem;
use crate::view::JobView;

/// When a client may ask again about an unfinished job, in seconds.
const POLL_AFTER_S: u64 = 1;

/// `GET /v1/jobs/{id}`.
pub(crate) async fn get(
    State(app): State<App>,
    JobPath(key): JobPath,
) -> Result<Response, Problem> {
    let stored = lookup::existing(&app, &key).await?;
    let mut response = Json(JobView::of(&stored.job)).into_response();
    if let Ok(etag) = format!("\"{}\"", stored.revision).parse() {
        response.headers_mut().insert(ETAG, etag);
    }
    if !stored.job.status.is_final() {
        response.headers_mut().insert(RETRY_AFTER, POLL_AFTER_S.into());
    }
    Ok(response)
}
