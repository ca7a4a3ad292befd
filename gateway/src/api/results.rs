//! `GET /v1/jobs/{id}/result`: returns the result of a succeeded job.

use std::collections::BTreeMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{self, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::error;
use wordmill_common::clock;
use wordmill_common::histogram::{Rule, Totals};
use wordmill_common::id::JobId;
use wordmill_common::job::{Job, Status};
use wordmill_common::source::SourceInfo;
use wordmill_common::warning::Warnings;

use crate::App;
use crate::auth::caller::Caller;
use crate::http::problem::{Code, Problem};
use crate::read::find_job::{self, JobPath};
use crate::read::result_format::{self, Format, Frame};
use crate::read::result_reader::Words;

/// Query parameters of `GET /v1/jobs/{id}/result`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResultQuery {
    /// Format of the result. Without it, `Accept` selects the format.
    format: Option<Format>,
    /// Maximum number of words, the most frequent ones.
    #[schemars(extend("maximum" = usize::MAX))]
    top: Option<usize>,
    /// Only words with at least this number of occurrences.
    #[schemars(extend("maximum" = u64::MAX))]
    min_count: Option<u64>,
}

/// The parsed query, or the reason why it is invalid.
pub(crate) type Query = Result<extract::Query<ResultQuery>, QueryRejection>;

/// The result of a succeeded job.
// The histogram follows as the last member, see `result_format`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Head<'a> {
    /// Id of the job.
    job_id: JobId,
    /// Totals of the source.
    totals: Option<&'a Totals>,
    /// Number of words under each rule.
    totals_by_rule: Option<&'a BTreeMap<String, u64>>,
    /// Number of words in each scope under the rule of the job. Null if an older version counted
    /// the job.
    totals_by_scope: Option<&'a BTreeMap<String, u64>>,
    /// Rule that counted the words.
    rule: Option<&'a Rule>,
    /// Reasons to check the count before relying on it. Empty if there are none, or if an older
    /// version counted the job.
    warnings: &'a Warnings,
    /// Source of the words.
    source: &'a SourceInfo,
}

/// `GET /v1/jobs/{id}/result`.
pub(crate) async fn get_result(
    State(app): State<App>,
    caller: Caller,
    JobPath(key): JobPath,
    selection: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let extract::Query(selection) = selection.map_err(|rejection| {
        Problem::new(Code::InvalidQuery, format!("{}.", rejection.body_text()))
    })?;
    let format = match selection.format {
        Some(format) => format,
        None => Format::negotiate(&headers)?,
    };
    let stored = find_job::require_job(&app, &key).await?;
    let job = &stored.job;
    require_success(job)?;
    let head = serde_json::to_string(&Head {
        job_id: job.job_id,
        totals: job.totals.as_ref(),
        totals_by_rule: job.totals_by_rule.as_ref(),
        totals_by_scope: job.totals_by_scope.as_ref(),
        rule: job.rule.as_ref(),
        warnings: &job.warnings,
        source: &job.source,
    });
    let head = head.map_err(|error| {
        error!(%error, "cannot serialize a result");
        Problem::new(Code::Internal, "Internal error while preparing the response.")
    })?;
    // Words are sorted by count, so both limits only remove words at the end.
    let count_min = selection.min_count.unwrap_or(0);
    let words = Words::open(&app, job, selection.top.unwrap_or(usize::MAX), count_min).await?;
    let body =
        result_format::body(format, &Frame::of(&head), words, caller.key_validity(&app.keys));
    let fields = [
        (CONTENT_TYPE, format.content_type().to_owned()),
        (CACHE_CONTROL, cache_control(job, clock::now())),
        (VARY, ACCEPT.to_string()),
    ];
    Ok((fields, body).into_response())
}

/// Returns the `Cache-Control` of a result. A final record never changes, so the client may cache
/// its result until it expires. Shared caches may not, because the document may be private.
fn cache_control(job: &Job, now: Timestamp) -> String {
    let left = job.expires_at.map(|end| end.duration_since(now).as_secs().max(0));
    format!("private, max-age={}, immutable", left.unwrap_or(0))
}

/// Requires that a job has succeeded.
///
/// # Errors
/// `job_not_finished`, `job_failed` or `job_cancelled`, depending on the status.
pub(crate) fn require_success(job: &Job) -> Result<(), Problem> {
    match job.status {
        Status::Succeeded => Ok(()),
        Status::Queued | Status::Running | Status::Unknown => Err(Problem::new(
            Code::JobNotFinished,
            format!("{}; it has no result yet.", find_job::describe_status(job.status)),
        )),
        Status::Failed => {
            let detail = job.failure.as_ref().map_or("The job failed.", |f| f.detail.as_str());
            Err(Problem::new(Code::JobFailed, detail).with_member("failure", json!(job.failure)))
        }
        Status::Cancelled => {
            Err(Problem::new(Code::JobCancelled, "The job was cancelled and has no result."))
        }
    }
}
