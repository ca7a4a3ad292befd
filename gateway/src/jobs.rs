//! How a job is doing, and its end: deletion.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{ETAG, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use tracing::info;
use wordmill_common::id::JobKey;
use wordmill_common::job::ResultPlace;
use wordmill_nats::Error;
use wordmill_nats::read::Freshness;
use wordmill_nats::store::{Found, Stored};

use crate::lookup::{self, JobPath};
use crate::problem::{Code, Problem};
use crate::{App, BROKER_DEADLINE};

/// When a client may ask again about an unfinished job, in seconds.
const POLL_AFTER_S: u64 = 1;

/// `GET /v1/jobs/{id}`.
pub(crate) async fn get(
    State(app): State<App>,
    JobPath(key): JobPath,
) -> Result<Response, Problem> {
    let stored = lookup::existing(&app, &key).await?;
    let mut response = Json(app.view(&stored.job)).into_response();
    if let Ok(etag) = format!("\"{}\"", stored.revision).parse() {
        response.headers_mut().insert(ETAG, etag);
    }
    if !stored.job.status.is_final() {
        response.headers_mut().insert(RETRY_AFTER, POLL_AFTER_S.into());
    }
    Ok(response)
}

/// `DELETE /v1/jobs/{id}`: removes a final job, and its result. It is known as deleted afterwards.
pub(crate) async fn delete(
    State(app): State<App>,
    JobPath(key): JobPath,
) -> Result<StatusCode, Problem> {
    // A replica that is behind may not know yet that the job is final: the leader decides.
    let stored = within(app.store.read(&key, Freshness::Leader)).await?;
    let stored = match stored {
        Found::Job(stored) => stored,
        // Gone, or queued without a record, or never there.
        Found::Gone | Found::Absent => lookup::existing(&app, &key).await?,
    };
    if !stored.job.status.is_final() {
        let detail = format!(
            "The job is {}: only finished jobs can be deleted. Cancel it, or wait.",
            stored.job.status.as_str()
        );
        return Err(Problem::new(Code::JobNotFinished, detail));
    }
    within(remove(&app, &key, &stored)).await?;
    info!(job.id = %key.job_id, "job deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the result, then the record: a repeat finds what was left over.
async fn remove(app: &App, key: &JobKey, stored: &Stored) -> Result<(), Error> {
    if let Some(ResultPlace::Object { name }) = &stored.job.result {
        app.results.remove(name).await?;
    }
    let Err(error) = app.store.delete(stored).await else {
        return Ok(());
    };
    // Another request was faster, the record has expired, or the answer was lost.
    match app.store.read(key, Freshness::Leader).await? {
        Found::Gone | Found::Absent => Ok(()),
        Found::Job(_) => Err(error),
    }
}

/// Waits for the broker as long as a request may.
async fn within<T>(asked: impl Future<Output = Result<T, Error>>) -> Result<T, Problem> {
    match tokio::time::timeout(BROKER_DEADLINE, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let detail = "The store did not answer in time. Try again.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        }
    }
}
