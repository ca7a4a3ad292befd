//! Requests for the state of a job, compared with a handler that does only one direct get.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::Bench;
use crate::http::{always, get, load};
use crate::measure::{Bounds, Side, best, run_in_turns};
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::CONNECTIONS;

/// Requests of one slice.
const SLICE: usize = 8000;
const BOUNDS: Bounds = Bounds { rounds: 10, seconds: 20 };

/// The state of the polled job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// Queued: requires that no worker runs.
    Queued,
    /// Finished: requires a running worker.
    Finished,
}

pub async fn measure(bench: &mut Bench, job: Job) -> Result<()> {
    let what = match job {
        Job::Queued => "polls, queued job",
        Job::Finished => "polls, finished job",
    };
    let id = submit_job(bench, &bench.stack, job).await?;
    let before = bench.stack.costs()?;
    let with_each = |name: &'static str, address, path: String| {
        CONNECTIONS.map(|connections| side(name, address, path.clone(), connections))
    };
    let wordmill = with_each("Wordmill", bench.stack.address, format!("/v1/jobs/{id}"));
    let baseline =
        with_each("handler and direct get", bench.baseline_address, format!("/get/{id}"));
    let empty = with_each("empty handler", bench.baseline_address, "/empty".to_owned());
    let sides: Vec<Side<'_>> = wordmill.into_iter().chain(baseline).chain(empty).collect();
    let measured = run_in_turns(&sides, BOUNDS).await?;
    let kinds: Vec<_> = measured.chunks(CONNECTIONS.len()).collect();
    let [wordmill, baseline, empty] = kinds.as_slice() else { return Ok(()) };
    let polls = wordmill.iter().map(|side| side.done).sum();
    let wordmill = best(*wordmill).context("no side")?;
    let baseline = best(*baseline).context("no side")?;
    let empty = best(*empty).context("no side")?;
    bench.report.add(Row::rate(what, wordmill, baseline).with_target(Target::Share(0.7)));
    bench.report.add(Row::rate(format!("{what}, against an empty handler"), wordmill, empty));
    bench.note_expense(what, polls, &before)
}

/// Submits a job to poll, waits for its state, and returns its id.
pub async fn submit_job(bench: &Bench, stack: &Stack, job: Job) -> Result<String> {
    let id = stack.submit(&bench.text.body(0)).await?;
    if job == Job::Finished {
        stack.broker.wait_for_jobs(0).await.context("the job is not finished")?;
    }
    Ok(id)
}

/// Returns a side that requests one path.
pub fn side<'a>(name: &str, address: SocketAddr, path: String, connections: usize) -> Side<'a> {
    let requests = always(get(&path));
    Side::new(name, move || {
        let requests = requests.clone();
        async move { load(address, connections, SLICE, &requests, 200).await }
    })
}
