//! Rate of finished jobs, and the time of one job from its submission to its end.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::baseline::{fetch_and_count, make_fetcher};
use crate::http::{Requests, load, load_at_rate};
use crate::measure::{Bounds, Side, SideResult, Slice, best, run_in_turns};
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::{CONNECTIONS, DEPTHS};
use crate::{Bench, JobKind};

/// Jobs of one slice: texts, pages, large pages.
pub const TEXTS: usize = 6000;
pub const PAGES: usize = 1200;
const LARGE_PAGES: usize = 72;
const BOUNDS: Bounds = Bounds { rounds: 12, seconds: 30 };
/// Numbers of pages that are fetched concurrently without a broker: at most the slots of one lane.
const FETCHES: [usize; 3] = [4, 8, 16];
/// Header field with which the gateway responds when the job is final, after 30 s at the latest.
const WAIT: &str = "Prefer: wait=30\r\n";
/// Duration of the load at half of the maximum rate, and its number of connections.
const PACED_SECONDS: f64 = 10.0;
const PACED_CONNECTIONS: usize = 256;

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let before = (bench.stack.costs()?, bench.stack.finished().await?);
    let baseline_before = bench.raw_server.process.cpu_seconds()?;
    let requests = bench.text.requests("");
    let raw = &bench.raw;
    let templates = &bench.text.templates;
    let stack = &bench.stack;
    let wordmill = CONNECTIONS.map(|connections| {
        let requests = &requests;
        Side::new(format!("{connections} connections"), move || {
            run_jobs(stack, TEXTS, requests, connections)
        })
    });
    let baseline = DEPTHS.map(|depth| {
        Side::new(format!("raw, {depth} at once"), move || raw.run_jobs(templates, TEXTS, depth))
    });
    let sides: Vec<Side<'_>> = wordmill.into_iter().chain(baseline).collect();
    let measured = run_in_turns(&sides, BOUNDS).await?;
    let (wordmill, baseline) = measured.split_at(CONNECTIONS.len());
    let [jobs, baseline_jobs] =
        [wordmill, baseline].map(|sides| sides.iter().map(|side| side.done).sum());
    let baseline = best(baseline).context("no side")?;
    let row = Row::rate("full jobs, text of 1 kB", best(wordmill).context("no side")?, baseline);
    drop(sides);
    finish(bench, row.with_target(Target::Share(0.6)), jobs, before).await?;
    bench.note_baseline_expense("full jobs, text of 1 kB", baseline_jobs, baseline_before)?;
    bench.purge_jobs().await?;

    let target = Some(Target::Share(0.5));
    measure_pages(bench, "full jobs, page of 40 kB", PAGES, target, |bench| &bench.page).await?;
    measure_pages(bench, "full jobs, page of 2 MB", LARGE_PAGES, None, |bench| &bench.large_page)
        .await
}

async fn measure_pages(
    bench: &mut Bench,
    what: &str,
    slice: usize,
    target: Option<Target>,
    work: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let before = (bench.stack.costs()?, bench.stack.finished().await?);
    let fetcher = &make_fetcher()?;
    let requests = &work(bench).requests("");
    let site = work(bench).site.as_ref().context("no site")?;
    let stack = &bench.stack;
    let wordmill = Side::new("Wordmill", move || run_jobs(stack, slice, requests, CONNECTIONS[0]));
    let baseline = FETCHES.map(|depth| {
        let name = format!("fetched and counted, {depth} at once");
        Side::new(name, move || fetch_and_count(fetcher, site, slice, depth))
    });
    let sides: Vec<Side<'_>> = std::iter::once(wordmill).chain(baseline).collect();
    let measured = run_in_turns(&sides, BOUNDS).await?;
    let (wordmill, baseline) = measured.split_first().context("no side")?;
    let mut row = Row::rate(what, wordmill, best(baseline).context("no side")?);
    row.target = target;
    let jobs = wordmill.done;
    drop(sides);
    finish(bench, row, jobs, before).await?;
    bench.purge_jobs().await
}

/// Adds a row and its costs to the report, and checks that every job succeeded.
async fn finish(
    bench: &mut Bench,
    row: Row,
    jobs: usize,
    (costs, [finished, succeeded]): ([crate::Cost; 3], [u64; 2]),
) -> Result<()> {
    let [finished_after, succeeded_after] = bench.stack.finished().await?;
    let finished = finished_after - finished;
    let succeeded = succeeded_after - succeeded;
    ensure!(
        finished == succeeded && finished == jobs as u64,
        "{finished} of {jobs} jobs finished, {succeeded} succeeded"
    );
    let what = row.what.clone();
    bench.report.add(row);
    bench.note_expense(what, jobs, &costs)
}

/// Submits jobs, and waits until the queue is as short as before.
pub async fn run_jobs(
    stack: &Stack,
    count: usize,
    requests: &Requests,
    connections: usize,
) -> Result<Slice> {
    let jobs_before = stack.broker.jobs().await?;
    let started = Instant::now();
    load(stack.address, connections, count, requests, 202).await?;
    stack.broker.wait_for_jobs(jobs_before).await?;
    Ok(Slice { count, elapsed: started.elapsed(), latencies: Vec::new() })
}

/// Measures the time of a job on an idle system, and of jobs at half of the maximum load.
pub async fn measure_latency(bench: &mut Bench) -> Result<()> {
    measure_one_at_a_time(bench, "text of 1 kB, alone, submitted to finished", 300, |bench| {
        &bench.text
    })
    .await?;
    measure_one_at_a_time(bench, "page of 40 kB, alone, submitted to finished", 100, |bench| {
        &bench.page
    })
    .await?;
    measure_one_at_a_time(bench, "page of 2 MB, alone, submitted to finished", 10, |bench| {
        &bench.large_page
    })
    .await?;
    let per_second = 0.5 * capacity(bench).await?;
    let requests = bench.text.requests(WAIT);
    let count = (per_second * PACED_SECONDS) as usize;
    let slice =
        load_at_rate(bench.stack.address, PACED_CONNECTIONS, per_second, count, &requests, 200)
            .await?;
    let name = format!("text of 1 kB, at {per_second:.0} per s (half of the maximum), p99");
    let measured = SideResult { name, done: count, rates: Vec::new(), latencies: slice.latencies };
    let mut row =
        Row::time(measured.name.clone(), &measured, None).with_target(Target::Below(25.0));
    let p99 = measured.percentile_ms(990);
    row.wordmill = crate::measure::Spread { median: p99, low: p99, high: p99 };
    bench.report.add(row);
    bench.purge_jobs().await
}

async fn measure_one_at_a_time(
    bench: &mut Bench,
    what: &str,
    slice: usize,
    work: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let address = bench.stack.address;
    let work = work(bench);
    let requests = &work.requests(WAIT);
    let raw = &bench.raw;
    let sides = [
        Side::new("Wordmill", move || load(address, 1, slice, requests, 200)),
        Side::new("raw, one at a time", move || raw.run_jobs(&work.templates, slice, 1)),
    ];
    let measured = run_in_turns(&sides, Bounds { rounds: 15, seconds: 30 }).await?;
    let [wordmill, baseline] = measured.as_slice() else { return Ok(()) };
    let mut row = Row::time(what, wordmill, Some(baseline));
    row.target = work.site.is_none().then_some(Target::Times(3.0));
    drop(sides);
    bench.report.add(row);
    Ok(())
}

/// Returns the number of texts that are finished per second.
async fn capacity(bench: &Bench) -> Result<f64> {
    let stack = &bench.stack;
    let requests = &bench.text.requests("");
    let side = Side::new("Wordmill", move || run_jobs(stack, TEXTS, requests, CONNECTIONS[0]));
    let measured = run_in_turns(&[side], Bounds { rounds: 5, seconds: 10 }).await?;
    Ok(measured.first().context("no side")?.rate().median)
}
