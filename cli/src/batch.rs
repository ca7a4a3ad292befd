//! Counts several URLs as one batch. The server merges the results.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use crate::body::Payload;
use crate::error::{Error, Problem};
use crate::exit;
use crate::follow;
use crate::job::FetchedJob;
use crate::request::Request;
use crate::row::Row;
use crate::session::Session;
use crate::source::Source;
use crate::submit::Plan;

/// Response to the submission of a batch.
#[derive(Debug, Deserialize)]
struct BatchResponse {
    batch_id: String,
    lines: Vec<LineOutcome>,
}

/// Outcome of one line of a batch: a job, or the problem of a refused URL.
#[derive(Debug, Deserialize)]
struct LineOutcome {
    line: usize,
    job_id: Option<String>,
    problem: Option<Problem>,
}

/// Submitted batch with one row for each URL.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) batch_id: String,
    pub(crate) rows: Vec<Row>,
    /// Job ids of the rows, in the same order; `None` if the line was refused.
    members: Vec<Option<String>>,
}

/// Returns whether the sources can be submitted as one batch: at least two, and all of them URLs.
pub(crate) fn can_be_batch(sources: &[Source]) -> bool {
    sources.len() > 1 && sources.iter().all(|source| matches!(source, Source::Url(_)))
}

/// Submits URLs as one batch, and prints the reason for each refused line.
///
/// # Errors
/// Errors of the request. If the server refuses the whole batch, the reasons are printed first.
pub(crate) async fn submit(
    session: &Session,
    plan: &Plan,
    sources: &[Source],
) -> Result<Batch, Error> {
    let lines = sources.iter().map(|source| format!("{}\n", json!({"url": source.name()})));
    let lines: Bytes = lines.collect::<String>().into();
    let request = Request::post(&["v1", "batches"], Payload::Lines(lines)).queries(&plan.query());
    let response = session.client.send(&plan.with_idempotency_key(request, "batch")?).await;
    let mut rows: Vec<Row> = sources.iter().map(|source| Row::new(source.name())).collect();
    let accepted = match response {
        Ok(response) => response.json::<BatchResponse>()?,
        Err(error) => {
            // The server refused the whole batch. The problem contains the reason for each line.
            if let Error::Problem(problem) = &error {
                record_refused_lines(
                    session,
                    &mut rows,
                    serde_json::from_value(problem.lines()).ok(),
                );
            }
            return Err(error);
        }
    };
    session.add_unfinished_job(&accepted.batch_id);
    let mut members = vec![None; rows.len()];
    for line in &accepted.lines {
        // The API numbers lines from 1.
        let member = line.line.checked_sub(1).and_then(|index| members.get_mut(index));
        if let Some(member) = member {
            member.clone_from(&line.job_id);
        }
    }
    record_refused_lines(session, &mut rows, Some(accepted.lines));
    Ok(Batch { batch_id: accepted.batch_id, rows, members })
}

/// Prints the refused lines with their reasons, and sets the errors of their rows.
fn record_refused_lines(session: &Session, rows: &mut [Row], lines: Option<Vec<LineOutcome>>) {
    for line in lines.into_iter().flatten() {
        let row = line.line.checked_sub(1).and_then(|index| rows.get_mut(index));
        if let (Some(row), Some(problem)) = (row, line.problem) {
            let error = Error::Problem(Box::new(problem));
            session.report_error(&row.name, &error);
            row.error = Some(error);
        }
    }
}

impl Batch {
    /// Waits until the batch is final, and returns it. Fetches the members if `all` is set, or if
    /// one of them failed or was cancelled.
    ///
    /// # Errors
    /// Errors of the requests.
    pub(crate) async fn wait(&mut self, session: &Session, all: bool) -> Result<FetchedJob, Error> {
        session.progress.begin("counting", 1, 0);
        let on_change =
            |job: &crate::job::Job| session.progress.set_job_progress(job.progress_thousandths());
        let batch = follow::wait_until_final(session, &self.batch_id, on_change).await?;
        let have_all_succeeded = |counts: &BTreeMap<String, u64>| {
            counts.iter().all(|(status, count)| {
                matches!(status.as_str(), "succeeded" | "refused") || *count == 0
            })
        };
        if all || !batch.job.counts.as_ref().is_some_and(have_all_succeeded) {
            self.fetch_members(session).await?;
        }
        if let Some(reason) = batch.job.failure_text() {
            session.print_message(&reason);
            session.raise_exit_code(exit::JOB_FAILED);
        }
        Ok(batch)
    }

    async fn fetch_members(&mut self, session: &Session) -> Result<(), Error> {
        session.progress.begin("fetching results", self.rows.len(), 0);
        let fetching = stream::iter(&self.members).map(|id| async move {
            let id = id.as_ref()?;
            let response = session.client.send(&Request::get(&["v1", "jobs", id])).await;
            session.progress.step();
            Some(response.and_then(|response| FetchedJob::parse(&response)))
        });
        let mut fetching = fetching.buffered(follow::FOLLOWED_JOBS_MAX);
        for row in &mut self.rows {
            match fetching.next().await.flatten() {
                None => {}
                Some(Ok(fetched)) => row.set_job(session, fetched),
                Some(Err(error)) => row.record_error(session, error)?,
            }
        }
        Ok(())
    }
}
