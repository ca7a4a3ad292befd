//! Rate of finished jobs, and the time from the submission of a job to its final status.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::baseline::{fetch_and_count, make_fetcher};
use crate::http::{Requests, load, load_at_rate};
use crate::measure::{Bounds, Slice, Variant, VariantResult, best, run_in_turns};
use crate::report::{Row, Target};
use crate::stack::Stack;
use crate::submissions::{CONNECTIONS, DEPTHS};
use crate::{Bench, JobKind};

/// Jobs of one slice: texts, pages, large pages.
pub const TEXTS: usize = 6000;
pub const PAGES: usize = 1200;
const LARGE_PAGES: usize = 72;
const BOUNDS: Bounds = Bounds { rounds: 12, seconds: 30 };
/// Numbers of pages that the baseline fetches concurrently, at most the slots of one lane.
const FETCHES: [usize; 3] = [4, 8, 16];
/// Header field that makes the gateway respond when the job is final, after at most 30 s.
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
        Variant::new(format!("{connections} connections"), move || {
            run_jobs(stack, TEXTS, requests, connections)
        })
    });
    let baseline = DEPTHS.map(|depth| {
        Variant::new(format!("raw, {depth} concurrently"), move || {
            raw.run_jobs(templates, TEXTS, depth)
        })
    });
    let variants: Vec<Variant<'_>> = wordmill.into_iter().chain(baseline).collect();
    let measured = run_in_turns(&variants, BOUNDS).await?;
    let (wordmill, baseline) = measured.split_at(CONNECTIONS.len());
    let [jobs, baseline_jobs] =
        [wordmill, baseline].map(|variants| variants.iter().map(|variant| variant.done).sum());
    let baseline = best(baseline).context("no variant")?;
    let row = Row::rate("full jobs, text of 1 kB", best(wordmill).context("no variant")?, baseline);
    drop(variants);
    finish(bench, row.with_target(Target::MinRatio(0.6)), jobs, before).await?;
    bench.record_baseline_expense("full jobs, text of 1 kB", baseline_jobs, baseline_before)?;
    bench.purge_jobs().await?;

    let target = Some(Target::MinRatio(0.5));
    measure_pages(bench, "full jobs, page of 40 kB", PAGES, target, |bench| &bench.page).await?;
    measure_pages(bench, "full jobs, page of 2 MB", LARGE_PAGES, None, |bench| &bench.large_page)
        .await
}

async fn measure_pages(
    bench: &mut Bench,
    name: &str,
    slice: usize,
    target: Option<Target>,
    job_kind: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let before = (bench.stack.costs()?, bench.stack.finished().await?);
    let fetcher = &make_fetcher()?;
    let requests = &job_kind(bench).requests("");
    let site = job_kind(bench).site.as_ref().context("no site")?;
    let stack = &bench.stack;
    let wordmill =
        Variant::new("Wordmill", move || run_jobs(stack, slice, requests, CONNECTIONS[0]));
    let baseline = FETCHES.map(|depth| {
        let name = format!("fetched and counted, {depth} concurrently");
        Variant::new(name, move || fetch_and_count(fetcher, site, slice, depth))
    });
    let variants: Vec<Variant<'_>> = std::iter::once(wordmill).chain(baseline).collect();
    let measured = run_in_turns(&variants, BOUNDS).await?;
    let (wordmill, baseline) = measured.split_first().context("no variant")?;
    let mut row = Row::rate(name, wordmill, best(baseline).context("no variant")?);
    row.target = target;
    let jobs = wordmill.done;
    drop(variants);
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
    let name = row.name.clone();
    bench.report.add(row);
    bench.record_expense(name, jobs, &costs)
}

/// Submits jobs, and waits until the queue has its previous length.
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
    let measured =
        VariantResult { name, done: count, rates: Vec::new(), latencies: slice.latencies };
    let mut row =
        Row::time(measured.name.clone(), &measured, None).with_target(Target::MaxValue(25.0));
    let p99 = measured.percentile_ms(990);
    row.wordmill = crate::measure::Spread { median: p99, low: p99, high: p99 };
    bench.report.add(row);
    bench.purge_jobs().await
}

async fn measure_one_at_a_time(
    bench: &mut Bench,
    name: &str,
    slice: usize,
    job_kind: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let address = bench.stack.address;
    let job_kind = job_kind(bench);
    let requests = &job_kind.requests(WAIT);
    let raw = &bench.raw;
    let variants = [
        Variant::new("Wordmill", move || load(address, 1, slice, requests, 200)),
        Variant::new("raw, one at a time", move || raw.run_jobs(&job_kind.templates, slice, 1)),
    ];
    let measured = run_in_turns(&variants, Bounds { rounds: 15, seconds: 30 }).await?;
    let [wordmill, baseline] = measured.as_slice() else { return Ok(()) };
    let mut row = Row::time(name, wordmill, Some(baseline));
    row.target = job_kind.site.is_none().then_some(Target::MaxRatio(3.0));
    drop(variants);
    bench.report.add(row);
    Ok(())
}

/// Returns the number of texts that are finished per second.
async fn capacity(bench: &Bench) -> Result<f64> {
    let stack = &bench.stack;
    let requests = &bench.text.requests("");
    let variant =
        Variant::new("Wordmill", move || run_jobs(stack, TEXTS, requests, CONNECTIONS[0]));
    let measured = run_in_turns(&[variant], Bounds { rounds: 5, seconds: 10 }).await?;
    Ok(measured.first().context("no variant")?.rate().median)
}
