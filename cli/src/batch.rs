//! Many pages as one batch, which the service adds up.

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

/// What is answered to a batch.
#[derive(Debug, Deserialize)]
struct BatchAnswer {
    batch_id: String,
    lines: Vec<Line>,
}

/// What became of one page.
#[derive(Debug, Deserialize)]
struct Line {
    line: usize,
    job_id: Option<String>,
    problem: Option<Problem>,
}

/// A batch, and the pages in it.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) batch_id: String,
    pub(crate) rows: Vec<Row>,
    /// The jobs of the rows; those that were refused have none.
    members: Vec<Option<String>>,
}

/// Tells whether sources can be one batch: those that the service fetches itself.
pub(crate) fn is_one(sources: &[Source]) -> bool {
    sources.len() > 1 && sources.iter().all(|source| matches!(source, Source::Url(_)))
}

/// Submits pages as one batch; what is wrong with one of them is told.
///
/// # Errors
/// Those of the request.
pub(crate) async fn submit(
    session: &Session,
    plan: &Plan,
    sources: &[Source],
) -> Result<Batch, Error> {
    let lines = sources.iter().map(|source| format!("{}\n", json!({"url": source.name()})));
    let lines: Bytes = lines.collect::<String>().into();
    let request = Request::post(&["v1", "batches"], Payload::Lines(lines)).queries(&plan.query());
    let answer = session.client.send(&plan.with_idempotency_key(request, "batch")?).await;
    let mut rows: Vec<Row> = sources.iter().map(|source| Row::new(source.name())).collect();
    let accepted = match answer {
        Ok(answer) => answer.json::<BatchAnswer>()?,
        Err(error) => {
            // If none of them is a job, each says why.
            if let Error::Problem(problem) = &error {
                refuse(session, &mut rows, serde_json::from_value(problem.lines()).ok());
            }
            return Err(error);
        }
    };
    session.remember_job(&accepted.batch_id);
    let mut members = vec![None; rows.len()];
    for line in &accepted.lines {
        let member = line.line.checked_sub(1).and_then(|index| members.get_mut(index));
        if let Some(member) = member {
            member.clone_from(&line.job_id);
        }
    }
    refuse(session, &mut rows, Some(accepted.lines));
    Ok(Batch { batch_id: accepted.batch_id, rows, members })
}

/// Tells which pages were refused, and why.
fn refuse(session: &Session, rows: &mut [Row], lines: Option<Vec<Line>>) {
    for line in lines.into_iter().flatten() {
        let row = line.line.checked_sub(1).and_then(|index| rows.get_mut(index));
        if let (Some(row), Some(problem)) = (row, line.problem) {
            let error = Error::Problem(Box::new(problem));
            session.fail(&row.name, &error);
            row.error = Some(error);
        }
    }
}

impl Batch {
    /// Waits until everything is added up, and returns the batch itself. If something in it went wrong,
    /// or `all` is to be known, its members are looked at.
    ///
    /// # Errors
    /// Those of the requests.
    pub(crate) async fn wait(&mut self, session: &Session, all: bool) -> Result<FetchedJob, Error> {
        session.progress.begin("counting", 1, 0);
        let noticed = |job: &crate::job::Job| session.progress.part(job.progress_thousandths());
        let batch = follow::wait_for_end(session, &self.batch_id, noticed).await?;
        let is_good = |counts: &BTreeMap<String, u64>| {
            counts.iter().all(|(status, count)| {
                matches!(status.as_str(), "succeeded" | "refused") || *count == 0
            })
        };
        if all || !batch.job.counts.as_ref().is_some_and(is_good) {
            self.poll(session).await?;
        }
        if let Some(end) = batch.job.failure_text() {
            session.note(&end);
            session.raise_exit_code(exit::FAILED);
        }
        Ok(batch)
    }

    async fn poll(&mut self, session: &Session) -> Result<(), Error> {
        session.progress.begin("reading", self.rows.len(), 0);
        let looking = stream::iter(&self.members).map(|id| async move {
            let id = id.as_ref()?;
            let answer = session.client.send(&Request::get(&["v1", "jobs", id])).await;
            session.progress.step();
            Some(answer.and_then(|answer| FetchedJob::of(&answer)))
        });
        let mut looking = looking.buffered(follow::FOLLOWED_JOBS_MAX);
        for row in &mut self.rows {
            match looking.next().await.flatten() {
                None => {}
                Some(Ok(fetched)) => row.set_job(session, fetched),
                Some(Err(error)) => row.refuse(session, error)?,
            }
        }
        Ok(())
    }
}
