//! Requests for the status of a job, compared with a handler that only reads the record by a direct
//! get.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::Bench;
use crate::http::{always, get, load};
use crate::measure::{Bounds, Variant, best, run_in_turns};
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::CONNECTIONS;

/// Requests of one slice.
const SLICE: usize = 8000;
const BOUNDS: Bounds = Bounds { rounds: 10, seconds: 20 };

/// Status of the polled job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The job is queued. No worker may run.
    Queued,
    /// The job is final. A worker must run.
    Finished,
}

pub async fn measure(bench: &mut Bench, job: Job) -> Result<()> {
    let name = match job {
        Job::Queued => "polls, queued job",
        Job::Finished => "polls, finished job",
    };
    let id = submit_job(bench, &bench.stack, job).await?;
    let before = bench.stack.costs()?;
    let with_each = |name: &'static str, address, path: String| {
        CONNECTIONS.map(|connections| variant(name, address, path.clone(), connections))
    };
    let wordmill = with_each("Wordmill", bench.stack.address, format!("/v1/jobs/{id}"));
    let baseline =
        with_each("handler and direct get", bench.baseline_address, format!("/get/{id}"));
    let empty = with_each("empty handler", bench.baseline_address, "/empty".to_owned());
    let variants: Vec<Variant<'_>> = wordmill.into_iter().chain(baseline).chain(empty).collect();
    let measured = run_in_turns(&variants, BOUNDS).await?;
    let kinds: Vec<_> = measured.chunks(CONNECTIONS.len()).collect();
    let [wordmill, baseline, empty] = kinds.as_slice() else { return Ok(()) };
    let polls = wordmill.iter().map(|variant| variant.done).sum();
    let wordmill = best(*wordmill).context("no variant")?;
    let baseline = best(*baseline).context("no variant")?;
    let empty = best(*empty).context("no variant")?;
    bench.report.add(Row::rate(name, wordmill, baseline).with_target(Target::MinRatio(0.7)));
    bench.report.add(Row::rate(format!("{name}, against an empty handler"), wordmill, empty));
    bench.record_expense(name, polls, &before)
}

/// Submits a job, waits until it has the status to poll, and returns its id.
pub async fn submit_job(bench: &Bench, stack: &Stack, job: Job) -> Result<String> {
    let id = stack.submit(&bench.text.body(0)).await?;
    if job == Job::Finished {
        stack.broker.wait_for_jobs(0).await.context("the job is not finished")?;
    }
    Ok(id)
}

/// Returns a variant that requests one path.
pub fn variant<'a>(
    name: &str,
    address: SocketAddr,
    path: String,
    connections: usize,
) -> Variant<'a> {
    let requests = always(get(&path));
    Variant::new(name, move || {
        let requests = requests.clone();
        async move { load(address, connections, SLICE, &requests, 200).await }
    })
}
