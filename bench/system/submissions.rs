//! Accepted jobs, compared with the same broker operations without Wordmill: publish the message
//! and create the record.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::http::{Requests, load};
use crate::measure::{Bounds, Variant, best, run_in_turns};
use crate::report::{Row, Target};
use crate::{Bench, JobKind};

/// Jobs of one slice.
const SLICE: usize = 10_000;
const BOUNDS: Bounds = Bounds { rounds: 12, seconds: 30 };
const BOUNDS_OVER_HTTP: Bounds = Bounds { rounds: 8, seconds: 15 };
/// Numbers of connections that submit concurrently.
pub const CONNECTIONS: [usize; 2] = [32, 128];
/// Numbers of jobs that are sent to the raw broker concurrently.
pub const DEPTHS: [usize; 3] = [64, 256, 1024];

pub async fn measure(bench: &mut Bench) -> Result<()> {
    measure_kind(bench, "submissions, text of 1 kB", |bench| &bench.text).await?;
    measure_kind(bench, "submissions, URL", |bench| &bench.page).await
}

async fn measure_kind(
    bench: &mut Bench,
    name: &str,
    job_kind: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let before = bench.stack.costs()?;
    let baseline_before = bench.raw_server.process.cpu_seconds()?;
    let address = bench.stack.address;
    let requests = &job_kind(bench).requests("");
    let raw = &bench.raw;
    let templates = &job_kind(bench).templates;
    let wordmill = CONNECTIONS.map(|connections| {
        Variant::new(format!("{connections} connections"), move || {
            load(address, connections, SLICE, requests, 202)
        })
    });
    let baseline = DEPTHS.map(|depth| {
        Variant::new(format!("raw, {depth} concurrently"), move || {
            raw.submit(templates, SLICE, depth)
        })
    });
    let variants: Vec<Variant<'_>> = wordmill.into_iter().chain(baseline).collect();
    let measured = run_in_turns(&variants, BOUNDS).await?;
    let (wordmill, baseline) = measured.split_at(CONNECTIONS.len());
    let [jobs, baseline_jobs] =
        [wordmill, baseline].map(|variants| variants.iter().map(|variant| variant.done).sum());
    let wordmill = best(wordmill).context("no variant")?;
    let baseline = best(baseline).context("no variant")?;
    let row_name = format!("{name}, {}", wordmill.name);
    let row = Row::rate(row_name, wordmill, baseline).with_target(Target::MinRatio(0.6));
    drop(variants);
    bench.report.add(row);
    bench.record_expense(name, jobs, &before)?;
    bench.record_baseline_expense(name, baseline_jobs, baseline_before)?;
    compare_with_handler(bench, name, job_kind).await?;
    bench.purge_jobs().await
}

/// Compares the gateway with a handler that only publishes and creates, to include the cost of HTTP
/// in the baseline.
async fn compare_with_handler(
    bench: &mut Bench,
    name: &str,
    job_kind: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let id = bench.stack.submit(&job_kind(bench).body(0)).await?;
    let requests = job_kind(bench).requests("");
    let handler_requests = with_path(&requests, "/v1/jobs", &format!("/submit/{id}"));
    let variant = |name: &str, address: SocketAddr, requests: Requests| {
        Variant::new(name, move || {
            let requests = Arc::clone(&requests);
            async move { load(address, CONNECTIONS[1], SLICE, &requests, 202).await }
        })
    };
    let variants = [
        variant("Wordmill", bench.stack.address, requests),
        variant("handler, publish and create", bench.baseline_address, handler_requests),
    ];
    let measured = run_in_turns(&variants, BOUNDS_OVER_HTTP).await?;
    let [wordmill, baseline] = measured.as_slice() else { return Ok(()) };
    bench.report.add(Row::rate(format!("{name}, against a handler"), wordmill, baseline));
    Ok(())
}

/// Returns the same requests with another path.
fn with_path(requests: &Requests, path: &str, other: &str) -> Requests {
    let requests = Arc::clone(requests);
    let path = path.to_owned();
    let other = other.to_owned();
    Arc::new(move |number| {
        let request = requests(number);
        let line = b"POST ".len();
        let rest = request.slice(line + path.len()..);
        [&request[..line], other.as_bytes(), &rest].concat().into()
    })
}
