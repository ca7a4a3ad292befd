//! Accepted jobs, compared with the same publish and create without Wordmill.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::http::{Requests, load};
use crate::measure::{Bounds, Side, best, run_in_turns};
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
    what: &str,
    work: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let before = bench.stack.costs()?;
    let baseline_before = bench.raw_server.process.cpu_seconds()?;
    let address = bench.stack.address;
    let requests = &work(bench).requests("");
    let raw = &bench.raw;
    let templates = &work(bench).templates;
    let wordmill = CONNECTIONS.map(|connections| {
        Side::new(format!("{connections} connections"), move || {
            load(address, connections, SLICE, requests, 202)
        })
    });
    let baseline = DEPTHS.map(|depth| {
        Side::new(format!("raw, {depth} at once"), move || raw.submit(templates, SLICE, depth))
    });
    let sides: Vec<Side<'_>> = wordmill.into_iter().chain(baseline).collect();
    let measured = run_in_turns(&sides, BOUNDS).await?;
    let (wordmill, baseline) = measured.split_at(CONNECTIONS.len());
    let [jobs, baseline_jobs] =
        [wordmill, baseline].map(|sides| sides.iter().map(|side| side.done).sum());
    let wordmill = best(wordmill).context("no side")?;
    let baseline = best(baseline).context("no side")?;
    let row_name = format!("{what}, {}", wordmill.name);
    let row = Row::rate(row_name, wordmill, baseline).with_target(Target::Share(0.6));
    drop(sides);
    bench.report.add(row);
    bench.note_expense(what, jobs, &before)?;
    bench.note_baseline_expense(what, baseline_jobs, baseline_before)?;
    compare_with_handler(bench, what, work).await?;
    bench.purge_jobs().await
}

/// Compares with a handler that does only publish and create, to include the cost of HTTP.
async fn compare_with_handler(
    bench: &mut Bench,
    what: &str,
    work: impl Fn(&Bench) -> &JobKind,
) -> Result<()> {
    let id = bench.stack.submit(&work(bench).body(0)).await?;
    let requests = work(bench).requests("");
    let handler_requests = with_path(&requests, "/v1/jobs", &format!("/submit/{id}"));
    let side = |name: &str, address: SocketAddr, requests: Requests| {
        Side::new(name, move || {
            let requests = Arc::clone(&requests);
            async move { load(address, CONNECTIONS[1], SLICE, &requests, 202).await }
        })
    };
    let sides = [
        side("Wordmill", bench.stack.address, requests),
        side("handler, publish and create", bench.baseline_address, handler_requests),
    ];
    let measured = run_in_turns(&sides, BOUNDS_OVER_HTTP).await?;
    let [wordmill, baseline] = measured.as_slice() else { return Ok(()) };
    bench.report.add(Row::rate(format!("{what}, against a handler"), wordmill, baseline));
    Ok(())
}

/// Returns the same requests for another path.
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
