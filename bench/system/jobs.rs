//! How many jobs are finished, and how long one takes from submission to the end.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::baseline::{fetch_and_count, fetcher};
use crate::http::{Requests, load, paced};
use crate::measure::{Bounds, Measured, Side, Slice, best, in_turns};
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::{CONNECTIONS, DEPTHS};
use crate::{Bench, Work};

/// Jobs of one slice: of texts, of pages, of large pages.
pub const TEXTS: usize = 6000;
pub const PAGES: usize = 1200;
const LARGE_PAGES: usize = 72;
const BOUNDS: Bounds = Bounds { rounds: 12, seconds: 30 };
/// How many pages are fetched at once without a broker: as many as a worker takes on for one lane, at most.
const FETCHES: [usize; 3] = [4, 8, 16];
/// The client is answered when the job is finished.
const WAIT: &str = "Prefer: wait=30\r\n";
/// For how long a part of the full load is kept up, with how many connections.
const PACED_SECONDS: f64 = 10.0;
const PACED_CONNECTIONS: usize = 256;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let before = (bench.stack.costs()?, bench.stack.finished().await?);
    let floor_before = bench.raw_broker.process.cpu_seconds()?;
    let requests = bench.text.requests("");
    let (raw, templates, stack) = (&bench.raw, &bench.text.templates, &bench.stack);
    let ours = CONNECTIONS.map(|connections| {
        let (name, requests) = (format!("{connections} connections"), &requests);
        Side::new(name, move || take_through(stack, TEXTS, requests, connections))
    });
    let floor = DEPTHS.map(|depth| {
        Side::new(format!("raw, {depth} at once"), move || raw.cycle(templates, TEXTS, depth))
    });
    let sides: Vec<Side<'_>> = ours.into_iter().chain(floor).collect();
    let measured = in_turns(&sides, BOUNDS).await?;
    let (ours, floor) = measured.split_at(CONNECTIONS.len());
    let [jobs, floor_jobs] = [ours, floor].map(|sides| sides.iter().map(|side| side.done).sum());
    let floor = best(floor).context("no side")?;
    let row = Row::rate("full jobs, text of 1 kB", best(ours).context("no side")?, floor);
    drop(sides);
    finish(bench, row.aims_at(Target::Share(0.6)), jobs, before).await?;
    bench.note_floor("full jobs, text of 1 kB", floor_jobs, floor_before)?;
    bench.forget_jobs().await?;

    let target = Some(Target::Share(0.5));
    pages(bench, "full jobs, page of 40 kB", PAGES, target, |bench| &bench.page).await?;
    pages(bench, "full jobs, page of 2 MB", LARGE_PAGES, None, |bench| &bench.large_page).await
}

async fn pages(
    bench: &mut Bench,
    what: &str,
    slice: usize,
    target: Option<Target>,
    work: impl Fn(&Bench) -> &Work,
) -> Result<()> {
    let before = (bench.stack.costs()?, bench.stack.finished().await?);
    let (fetcher, requests) = (fetcher()?, work(bench).requests(""));
    let site = work(bench).site.as_ref().context("no site")?;
    let (fetcher, requests, stack) = (&fetcher, &requests, &bench.stack);
    let ours = Side::new("ours", move || take_through(stack, slice, requests, CONNECTIONS[0]));
    let floor = FETCHES.map(|depth| {
        let name = format!("fetched and counted, {depth} at once");
        Side::new(name, move || fetch_and_count(fetcher, site, slice, depth))
    });
    let sides: Vec<Side<'_>> = std::iter::once(ours).chain(floor).collect();
    let measured = in_turns(&sides, BOUNDS).await?;
    let (ours, floor) = measured.split_first().context("no side")?;
    let mut row = Row::rate(what, ours, best(floor).context("no side")?);
    row.target = target;
    let jobs = ours.done;
    drop(sides);
    finish(bench, row, jobs, before).await?;
    bench.forget_jobs().await
}

/// Notes a row and what it took, and checks that every job succeeded.
async fn finish(
    bench: &mut Bench,
    row: Row,
    jobs: usize,
    (costs, [all, well]): ([crate::Cost; 3], [u64; 2]),
) -> Result<()> {
    let [all_after, well_after] = bench.stack.finished().await?;
    let (all, well) = (all_after - all, well_after - well);
    ensure!(
        all == well && all == jobs as u64,
        "of {jobs} jobs {all} finished, {well} with success"
    );
    let what = row.what.clone();
    bench.report.add(row);
    bench.note_expense(what, jobs, &costs)
}

/// Submits jobs, and waits until the queue is as short as before.
pub async fn take_through(
    stack: &Stack,
    count: usize,
    requests: &Requests,
    connections: usize,
) -> Result<Slice> {
    let waiting = stack.broker.jobs().await?;
    let started = Instant::now();
    load(stack.address, connections, count, requests, 202).await?;
    stack.broker.wait_for_jobs(waiting).await?;
    Ok(Slice { count, elapsed: started.elapsed(), latencies: Vec::new() })
}

/// Measures how long a job takes that has the system to itself, and one among others.
pub async fn measure_latency(bench: &mut Bench) -> Result<()> {
    alone(bench, "text of 1 kB, alone, submitted to finished", 300, |bench| &bench.text).await?;
    alone(bench, "page of 40 kB, alone, submitted to finished", 100, |bench| &bench.page).await?;
    alone(bench, "page of 2 MB, alone, submitted to finished", 10, |bench| &bench.large_page)
        .await?;
    let per_second = 0.5 * capacity(bench).await?;
    let requests = bench.text.requests(WAIT);
    let count = (per_second * PACED_SECONDS) as usize;
    let paced =
        paced(bench.stack.address, PACED_CONNECTIONS, per_second, count, &requests, 200).await?;
    let name = format!("text of 1 kB, at {per_second:.0} per s (half of what it can do), p99");
    let measured = Measured { name, done: count, rates: Vec::new(), latencies: paced.latencies };
    let mut row = Row::time(measured.name.clone(), &measured, None).aims_at(Target::Below(25.0));
    let p99 = measured.within_ms(990);
    row.ours = crate::measure::Spread { median: p99, low: p99, high: p99 };
    bench.report.add(row);
    bench.forget_jobs().await
}

async fn alone(
    bench: &mut Bench,
    what: &str,
    slice: usize,
    work: impl Fn(&Bench) -> &Work,
) -> Result<()> {
    let (address, work) = (bench.stack.address, work(bench));
    let (requests, raw) = (&work.requests(WAIT), &bench.raw);
    let sides = [
        Side::new("ours", move || load(address, 1, slice, requests, 200)),
        Side::new("raw, one at a time", move || raw.cycle(&work.templates, slice, 1)),
    ];
    let measured = in_turns(&sides, Bounds { rounds: 15, seconds: 30 }).await?;
    let [ours, floor] = measured.as_slice() else { return Ok(()) };
    let mut row = Row::time(what, ours, Some(floor));
    row.target = work.site.is_none().then_some(Target::Times(3.0));
    drop(sides);
    bench.report.add(row);
    Ok(())
}

/// Returns how many texts are finished in a second.
async fn capacity(bench: &Bench) -> Result<f64> {
    let (stack, requests) = (&bench.stack, &bench.text.requests(""));
    let side = Side::new("ours", move || take_through(stack, TEXTS, requests, CONNECTIONS[0]));
    let measured = in_turns(&[side], Bounds { rounds: 5, seconds: 10 }).await?;
    Ok(measured.first().context("no side")?.rate().median)
}
