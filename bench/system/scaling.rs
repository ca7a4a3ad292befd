//! How it grows: with more workers, and with a backlog.

use anyhow::Result;

use crate::jobs::{PAGES, TEXTS, take_through};
use crate::measure::{Bounds, Side, Slice, in_turns};
use crate::polls::{self, Job};
use crate::raw_broker::Raw;
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::CONNECTIONS;
use crate::{Bench, expense, http};

const BOUNDS: Bounds = Bounds { rounds: 6, seconds: 20 };
/// How many jobs of the backlog are on their way to the broker at once.
const DEPTH: usize = 512;

/// Compares a stack of 1, 2 and 4 workers with one of a single worker.
pub async fn with_workers(bench: &mut Bench) -> Result<()> {
    let mut other = Stack::start().await?;
    for workers in [1, 2, 4] {
        while other.workers.len() < workers {
            other.start_worker().await?;
        }
        for (kind, work, count) in
            [("text of 1 kB", &bench.text, TEXTS), ("page of 40 kB", &bench.page, PAGES)]
        {
            let before = other.costs()?;
            let (requests, one, more) = (&work.requests(""), &bench.stack, &other);
            let sides = [
                Side::new("more", move || take_through(more, count, requests, CONNECTIONS[0])),
                Side::new("one worker", move || take_through(one, count, requests, CONNECTIONS[0])),
            ];
            let measured = in_turns(&sides, BOUNDS).await?;
            let [ours, floor] = measured.as_slice() else { return Ok(()) };
            let what = format!("full jobs, {kind}, {workers} workers");
            let (row, jobs) = (Row::rate(what.clone(), ours, floor), ours.done);
            drop(sides);
            bench.report.add(row);
            bench.report.spend(expense(what, jobs, &before, &other.costs()?));
        }
    }
    bench.stack.broker.purge().await
}

/// Compares a stack in which so many jobs wait with one in which none does.
pub async fn with_backlog(bench: &mut Bench, backlog: usize) -> Result<()> {
    let mut other = Stack::start().await?;
    let finished = polled(bench, &mut other).await?;
    let raw = Raw::connect(&other.broker.url).await?;
    raw.submit(&bench.text.templates, backlog, DEPTH).await?;
    let queued = other.submit(&bench.text.body(0)).await?;
    let other_finished = polls::one(bench, &bench.stack, Job::Finished).await?;
    let what = |what: &str| format!("{what}, {backlog} jobs waiting");

    let before = other.costs()?;
    let requests = bench.text.requests("");
    let (full, empty) = (&other, &bench.stack);
    bench.stack.pause_workers(true)?;
    // A worker that stands still has taken it, at most, and has not said so.
    let other_queued = bench.stack.submit(&bench.text.body(0)).await?;
    let mut rows = Vec::new();
    let (more, less) = (full.address, empty.address);
    let submissions = [
        Side::new("with", {
            let requests = &requests;
            move || http::load(more, CONNECTIONS[0], TEXTS, requests, 202)
        }),
        Side::new("empty queue", {
            let requests = &requests;
            move || http::load(less, CONNECTIONS[0], TEXTS, requests, 202)
        }),
    ];
    rows.push((what("submissions, text of 1 kB"), in_turns(&submissions, BOUNDS).await?, None));
    for (name, id, other_id) in [
        ("polls, queued job", &queued, &other_queued),
        ("polls, finished job", &finished, &other_finished),
    ] {
        let sides = [
            polls::side("with", full.address, format!("/v1/jobs/{id}"), CONNECTIONS[0]),
            polls::side(
                "empty queue",
                empty.address,
                format!("/v1/jobs/{other_id}"),
                CONNECTIONS[0],
            ),
        ];
        rows.push((what(name), in_turns(&sides, BOUNDS).await?, None));
    }
    bench.stack.pause_workers(false)?;
    bench.stack.broker.wait_for_jobs(0).await?;

    other.start_worker().await?;
    other.pause_workers(true)?;
    let (full, empty, requests) = (&other, &bench.stack, &requests);
    let jobs = [
        Side::new("with", move || while_others_rest(full, requests)),
        Side::new("empty queue", move || take_through(empty, TEXTS, requests, CONNECTIONS[0])),
    ];
    let measured = in_turns(&jobs, BOUNDS).await?;
    rows.push((what("full jobs, text of 1 kB"), measured, Some(Target::Share(0.8))));
    for (name, measured, target) in rows {
        let [ours, floor] = measured.as_slice() else { continue };
        let mut row = Row::rate(name, ours, floor);
        row.target = target;
        bench.report.add(row);
    }
    bench.report.spend(expense(what("everything"), backlog, &before, &other.costs()?));
    other.pause_workers(false)?;
    bench.stack.broker.purge().await
}

/// Finishes one job, and leaves no worker behind.
async fn polled(bench: &Bench, stack: &mut Stack) -> Result<String> {
    stack.start_worker().await?;
    let id = polls::one(bench, stack, Job::Finished).await?;
    stack.stop_workers();
    Ok(id)
}

/// Takes jobs through with workers that stand still before and afterwards: a backlog would keep them
/// at work while the others are measured. Meanwhile it lets them finish more jobs than are submitted, and
/// each of either is half of one that was taken through.
async fn while_others_rest(stack: &Stack, requests: &http::Requests) -> Result<Slice> {
    stack.pause_workers(false)?;
    let [before, _] = stack.finished().await?;
    let slice = take_through(stack, TEXTS, requests, CONNECTIONS[0]).await;
    let finished = stack.finished().await;
    stack.pause_workers(true)?;
    let (slice, [after, _]) = (slice?, finished?);
    let count = (slice.count + usize::try_from(after - before)?) / 2;
    Ok(Slice { count, ..slice })
}
