//! Effect of the number of workers and of a backlog on the speed.

use anyhow::Result;

use crate::jobs::{PAGES, TEXTS, run_jobs};
use crate::measure::{Bounds, Slice, Variant, run_in_turns};
use crate::polls::{self, Job};
use crate::raw_broker::RawBroker;
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::CONNECTIONS;
use crate::{Bench, compute_expense, http};

const BOUNDS: Bounds = Bounds { rounds: 6, seconds: 20 };
/// Jobs of the backlog that are sent to the broker concurrently.
const DEPTH: usize = 512;

/// Compares a stack of 1, 2 and 4 workers with one of a single worker.
pub async fn with_workers(bench: &mut Bench) -> Result<()> {
    let mut other = Stack::start().await?;
    for workers in [1, 2, 4] {
        while other.workers.len() < workers {
            other.start_worker().await?;
        }
        for (kind, job_kind, count) in
            [("text of 1 kB", &bench.text, TEXTS), ("page of 40 kB", &bench.page, PAGES)]
        {
            let before = other.costs()?;
            let requests = &job_kind.requests("");
            let one = &bench.stack;
            let more = &other;
            let variants = [
                Variant::new("more", move || run_jobs(more, count, requests, CONNECTIONS[0])),
                Variant::new("one worker", move || run_jobs(one, count, requests, CONNECTIONS[0])),
            ];
            let measured = run_in_turns(&variants, BOUNDS).await?;
            let [wordmill, baseline] = measured.as_slice() else { return Ok(()) };
            let noun = if workers == 1 { "worker" } else { "workers" };
            let name = format!("full jobs, {kind}, {workers} {noun}");
            let row = Row::rate(name.clone(), wordmill, baseline);
            let jobs = wordmill.done;
            drop(variants);
            bench.report.add(row);
            bench.report.add_expense(compute_expense(name, jobs, &before, &other.costs()?));
        }
    }
    bench.stack.broker.purge().await
}

/// Compares a stack with `backlog` queued jobs with a stack that has an empty queue.
pub async fn with_backlog(bench: &mut Bench, backlog: usize) -> Result<()> {
    let mut other = Stack::start().await?;
    let finished = finish_one_job(bench, &mut other).await?;
    let raw = RawBroker::connect(&other.broker.url).await?;
    raw.submit(&bench.text.templates, backlog, DEPTH).await?;
    let queued = other.submit(&bench.text.body(0)).await?;
    let other_finished = polls::submit_job(bench, &bench.stack, Job::Finished).await?;
    let row_name = |name: &str| format!("{name}, {backlog} jobs waiting");

    let before = other.costs()?;
    let requests = bench.text.requests("");
    let full = &other;
    let empty = &bench.stack;
    bench.stack.pause_workers(true)?;
    // A paused worker may have received it, but cannot acknowledge it, so it stays queued.
    let other_queued = bench.stack.submit(&bench.text.body(0)).await?;
    let mut rows = Vec::new();
    let full_address = full.address;
    let empty_address = empty.address;
    let submissions = [
        Variant::new("with", {
            let requests = &requests;
            move || http::load(full_address, CONNECTIONS[0], TEXTS, requests, 202)
        }),
        Variant::new("empty queue", {
            let requests = &requests;
            move || http::load(empty_address, CONNECTIONS[0], TEXTS, requests, 202)
        }),
    ];
    let measured = run_in_turns(&submissions, BOUNDS).await?;
    rows.push((row_name("submissions, text of 1 kB"), measured, None));
    for (name, id, other_id) in [
        ("polls, queued job", &queued, &other_queued),
        ("polls, finished job", &finished, &other_finished),
    ] {
        let variants = [
            polls::variant("with", full.address, format!("/v1/jobs/{id}"), CONNECTIONS[0]),
            polls::variant(
                "empty queue",
                empty.address,
                format!("/v1/jobs/{other_id}"),
                CONNECTIONS[0],
            ),
        ];
        rows.push((row_name(name), run_in_turns(&variants, BOUNDS).await?, None));
    }
    bench.stack.pause_workers(false)?;
    bench.stack.broker.wait_for_jobs(0).await?;

    other.start_worker().await?;
    other.pause_workers(true)?;
    let full = &other;
    let empty = &bench.stack;
    let requests = &requests;
    let jobs = [
        Variant::new("with", move || run_jobs_with_paused_workers(full, requests)),
        Variant::new("empty queue", move || run_jobs(empty, TEXTS, requests, CONNECTIONS[0])),
    ];
    let measured = run_in_turns(&jobs, BOUNDS).await?;
    rows.push((row_name("full jobs, text of 1 kB"), measured, Some(Target::MinRatio(0.8))));
    for (name, measured, target) in rows {
        let [wordmill, baseline] = measured.as_slice() else { continue };
        let mut row = Row::rate(name, wordmill, baseline);
        row.target = target;
        bench.report.add(row);
    }
    let expense = compute_expense(row_name("everything"), backlog, &before, &other.costs()?);
    bench.report.add_expense(expense);
    other.pause_workers(false)?;
    bench.stack.broker.purge().await
}

/// Finishes one job with a worker, and stops the worker. Returns the id of the job.
async fn finish_one_job(bench: &Bench, stack: &mut Stack) -> Result<String> {
    stack.start_worker().await?;
    let id = polls::submit_job(bench, stack, Job::Finished).await?;
    stack.stop_workers();
    Ok(id)
}

/// Runs jobs with workers that are paused before and afterwards. Otherwise they would process the
/// backlog while the other variant is measured. They also finish jobs of the backlog, so the result
/// is the mean of submitted and finished jobs, for example 7000 for 6000 submitted and 8000
/// finished ones.
async fn run_jobs_with_paused_workers(stack: &Stack, requests: &http::Requests) -> Result<Slice> {
    stack.pause_workers(false)?;
    let [before, _] = stack.finished().await?;
    let slice = run_jobs(stack, TEXTS, requests, CONNECTIONS[0]).await;
    let finished = stack.finished().await;
    stack.pause_workers(true)?;
    let slice = slice?;
    let [after, _] = finished?;
    let count = (slice.count + usize::try_from(after - before)?) / 2;
    Ok(Slice { count, ..slice })
}
