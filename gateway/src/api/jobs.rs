//! Returns and deletes single jobs.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, State};
use axum::http::header::{ETAG, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::info;
use wordmill_common::id::JobKey;
use wordmill_common::job::{ExplanationRef, ResultRef};
use wordmill_nats::Error;
use wordmill_nats::job_record::{Lookup, RawRecord, VersionedJob};
use wordmill_nats::stream_read::ReadFrom;

use crate::App;
use crate::api::webhooks;
use crate::http::conditional::{self, IfNoneMatch};
use crate::http::deadline::with_broker_deadline;
use crate::http::problem::{Code, Problem};
use crate::read::find_job::{self, JobPath};
use crate::read::follow::{self, WAIT_S_MAX};

/// Delay in seconds after which a client may poll an unfinished job again.
pub(crate) const POLL_AFTER_S: u64 = 1;

/// The query of `GET /v1/jobs/{id}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobQuery {
    /// Maximum wait in seconds. The response is sent when the job is final or, with
    /// `If-None-Match`, at any change.
    #[schemars(range(max = WAIT_S_MAX))]
    wait: Option<u64>,
}

/// The parsed query, or the reason why it is invalid.
pub(crate) type Query = Result<extract::Query<JobQuery>, QueryRejection>;

/// `GET /v1/jobs/{id}`.
pub(crate) async fn get_job(
    State(app): State<App>,
    JobPath(key): JobPath,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidQuery, detail);
    let extract::Query(query) =
        query.map_err(|rejection| invalid(format!("{}.", rejection.body_text())))?;
    let if_none_match = IfNoneMatch::of(&headers);
    let record = match query.wait {
        None | Some(0) => find_job::require_raw(&app, &key).await?,
        Some(wait) if wait <= WAIT_S_MAX => {
            let is_wanted = |record: &RawRecord| {
                record.status.is_final()
                    || if_none_match.as_ref().is_some_and(|tags| !tags.includes(record.revision))
            };
            // Boxed to keep the futures of requests without `wait` small.
            Box::pin(follow::wait_until(&app, &key, Duration::from_secs(wait), is_wanted)).await?
        }
        Some(_) => return Err(invalid(format!("\"wait\" must be 0 to {WAIT_S_MAX} seconds."))),
    };
    let mut response = if if_none_match.is_some_and(|tags| tags.includes(record.revision)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let view = app.view_record(&record, &key)?;
        let deliveries = match view.is_final_with_webhook() {
            true => webhooks::get_deliveries(&app, &key).await?,
            false => None,
        };
        view.with_deliveries(deliveries.as_ref()).into_response()
    };
    if let Ok(etag) = conditional::etag(record.revision).parse() {
        response.headers_mut().insert(ETAG, etag);
    }
    if !record.status.is_final() {
        response.headers_mut().insert(RETRY_AFTER, POLL_AFTER_S.into());
    }
    Ok(response)
}

/// `DELETE /v1/jobs/{id}`: deletes a final job and its result. Later requests get `result_expired`.
pub(crate) async fn delete_job(
    State(app): State<App>,
    JobPath(key): JobPath,
) -> Result<StatusCode, Problem> {
    let stored = find_job::require_final(&app, &key).await?;
    with_broker_deadline(remove(&app, &key, &stored)).await?;
    info!(job.id = %key.job_id, "job deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the result, the document and the webhook state, then the record. In this order, a
/// repeated request can complete an interrupted one.
async fn remove(app: &App, key: &JobKey, stored: &VersionedJob) -> Result<(), Error> {
    if let Some(ResultRef::Object { name }) = &stored.job.result {
        app.results.remove(name).await?;
    }
    if let Some(ExplanationRef::Object { name }) = &stored.job.explanation {
        app.results.remove(name).await?;
    }
    // Usually the document is removed when the job becomes final. That of a dead letter is removed
    // with the dead letter.
    if let Some(name) = stored.job.document.as_ref().filter(|_| !stored.job.dead_lettered) {
        app.uploads.documents.remove(name).await?;
    }
    if stored.job.webhook.is_some() {
        app.webhooks.remove(key).await?;
    }
    let Err(error) = app.store.delete(stored).await else {
        return Ok(());
    };
    // Another request deleted the record, it has expired, or the confirmation was lost.
    match app.store.get_job(key, ReadFrom::Leader).await? {
        Lookup::Deleted | Lookup::NotFound => Ok(()),
        Lookup::Job(_) => Err(error),
    }
}
