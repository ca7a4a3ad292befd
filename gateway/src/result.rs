//! What a finished job found.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use wordmill_common::histogram::{Histogram, Rule, Totals};
use wordmill_common::id::JobId;
use wordmill_common::job::{Job, ResultPlace, Status};
use wordmill_common::source::SourceInfo;

use crate::lookup::{self, JobPath};
use crate::problem::{Code, Problem};
use crate::{App, BROKER_DEADLINE};

/// The query of `GET /v1/jobs/{id}/result`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Selection {
    /// Only this many words, the most frequent ones.
    top: Option<usize>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct ResultView<'a> {
    job_id: JobId,
    totals: Option<&'a Totals>,
    totals_by_rule: Option<&'a BTreeMap<String, u64>>,
    totals_by_scope: Option<&'a BTreeMap<String, u64>>,
    rule: Option<&'a Rule>,
    source: &'a SourceInfo,
    word_count: Histogram,
}

/// `GET /v1/jobs/{id}/result`.
pub(crate) async fn get(
    State(app): State<App>,
    JobPath(key): JobPath,
    selection: Result<Query<Selection>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(selection) = selection.map_err(|rejection| {
        Problem::new(Code::InvalidQuery, format!("{}.", rejection.body_text()))
    })?;
    let stored = lookup::existing(&app, &key).await?;
    let job = &stored.job;
    finished(job)?;
    let mut word_count = histogram(&app, job).await?;
    if let Some(top) = selection.top {
        word_count =
            word_count.top(top).into_iter().map(|entry| (entry.word, entry.count)).collect();
    }
    let view = ResultView {
        job_id: job.job_id,
        totals: job.totals.as_ref(),
        totals_by_rule: job.totals_by_rule.as_ref(),
        totals_by_scope: job.totals_by_scope.as_ref(),
        rule: job.rule.as_ref(),
        source: &job.source,
        word_count,
    };
    // A final record never changes.
    Ok(([(CACHE_CONTROL, "private, immutable")], Json(view)).into_response())
}

/// Returns the whole histogram of a job that succeeded.
///
/// # Errors
/// `broker_unavailable`, and `result_expired` if it is no longer kept.
pub(crate) async fn histogram(app: &App, job: &Job) -> Result<Histogram, Problem> {
    match &job.result {
        None => Err(lookup::gone()),
        Some(ResultPlace::Inline { word_count }) => Ok(word_count.clone()),
        Some(ResultPlace::Object { name }) => {
            let reading = tokio::time::timeout(BROKER_DEADLINE, app.results.get(name));
            let read = reading.await.map_err(|_| {
                Problem::new(Code::BrokerUnavailable, "The result could not be read in time.")
            })?;
            read?.ok_or_else(lookup::gone)
        }
    }
}

fn finished(job: &Job) -> Result<(), Problem> {
    match job.status {
        Status::Succeeded => Ok(()),
        Status::Queued | Status::Running => Err(Problem::new(
            Code::JobNotFinished,
            format!("The job is {}; its result is not there yet.", job.status.as_str()),
        )),
        Status::Failed => {
            let detail = job.failure.as_ref().map_or("The job failed.", |f| f.detail.as_str());
            Err(Problem::new(Code::JobFailed, detail).with("failure", json!(job.failure)))
        }
        Status::Cancelled => {
            Err(Problem::new(Code::JobCancelled, "The job was cancelled; there is no result."))
        }
    }
}
