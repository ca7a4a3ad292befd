//! How often clients can ask how a job is doing, next to a handler that does nothing but one direct get.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::Bench;
use crate::http::{always, get, load};
use crate::measure::{Bounds, Side, in_turns};
use crate::report::{Row, Target};
use crate::stack::Stack;

/// Requests of one slice.
const SLICE: usize = 4000;
const BOUNDS: Bounds = Bounds { rounds: 10, seconds: 20 };
const CONNECTIONS: usize = 32;

/// Which job is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// It waits: there must be no worker.
    Queued,
    /// It is finished: there must be one.
    Finished,
}

pub async fn measure(bench: &mut Bench, job: Job) -> Result<()> {
    let what = match job {
        Job::Queued => "polls, queued job",
        Job::Finished => "polls, finished job",
    };
    let id = one(bench, &bench.stack, job).await?;
    let before = bench.stack.costs()?;
    let sides = [
        side("ours", bench.stack.address, format!("/v1/jobs/{id}")),
        side("handler and direct get", bench.floor, format!("/get/{id}")),
        side("empty handler", bench.floor, "/empty".to_owned()),
    ];
    let measured = in_turns(&sides, BOUNDS).await?;
    let [ours, floor, empty] = measured.as_slice() else { return Ok(()) };
    bench.report.add(Row::rate(what, ours, floor).aims_at(Target::Share(0.7)));
    bench.report.add(Row::rate(format!("{what}, against nothing"), ours, empty));
    let polls = ours.done;
    bench.note_expense(what, polls, &before)
}

/// Returns the id of a job to ask for.
pub async fn one(bench: &Bench, stack: &Stack, job: Job) -> Result<String> {
    let id = stack.submit(&bench.text.body(0)).await?;
    if job == Job::Finished {
        stack.broker.wait_for_jobs(0).await.context("the job is not finished")?;
    }
    Ok(id)
}

/// Returns a side that asks for one path.
pub fn side<'a>(name: &str, address: SocketAddr, path: String) -> Side<'a> {
    let requests = always(get(&path));
    Side::new(name, move || {
        let requests = requests.clone();
        async move { load(address, CONNECTIONS, SLICE, &requests, 200).await }
    })
}
