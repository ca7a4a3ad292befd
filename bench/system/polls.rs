//! How often clients can ask how a job is doing, next to a handler that does nothing but one direct get.

use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::Bench;
use crate::http::{always, get, load};
use crate::measure::{Bounds, Side, best, in_turns};
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::CONNECTIONS;

/// Requests of one slice.
const SLICE: usize = 8000;
const BOUNDS: Bounds = Bounds { rounds: 10, seconds: 20 };

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
    let with_each = |name: &'static str, address, path: String| {
        CONNECTIONS.map(|connections| side(name, address, path.clone(), connections))
    };
    let ours = with_each("ours", bench.stack.address, format!("/v1/jobs/{id}"));
    let floor = with_each("handler and direct get", bench.floor, format!("/get/{id}"));
    let empty = with_each("empty handler", bench.floor, "/empty".to_owned());
    let sides: Vec<Side<'_>> = ours.into_iter().chain(floor).chain(empty).collect();
    let measured = in_turns(&sides, BOUNDS).await?;
    let kinds: Vec<_> = measured.chunks(CONNECTIONS.len()).collect();
    let [ours, floor, empty] = kinds.as_slice() else { return Ok(()) };
    let polls = ours.iter().map(|side| side.done).sum();
    let [ours, floor, empty] = [ours, floor, empty].map(|sides| best(*sides));
    let (ours, floor, empty) =
        ours.zip(floor).zip(empty).map(|((a, b), c)| (a, b, c)).context("no side")?;
    bench.report.add(Row::rate(what, ours, floor).aims_at(Target::Share(0.7)));
    bench.report.add(Row::rate(format!("{what}, against nothing"), ours, empty));
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
pub fn side<'a>(name: &str, address: SocketAddr, path: String, connections: usize) -> Side<'a> {
    let requests = always(get(&path));
    Side::new(name, move || {
        let requests = requests.clone();
        async move { load(address, connections, SLICE, &requests, 200).await }
    })
}
