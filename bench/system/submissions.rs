//! How many jobs are accepted, next to the same publish and create without us.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::http::{Requests, load};
use crate::measure::{Bounds, Side, best, in_turns};
use crate::report::{Row, Target};
use crate::{Bench, Work};

/// Jobs of one slice.
const SLICE: usize = 10_000;
const BOUNDS: Bounds = Bounds { rounds: 12, seconds: 30 };
const BOUNDS_OVER_HTTP: Bounds = Bounds { rounds: 8, seconds: 15 };
/// How many connections submit at once.
pub const CONNECTIONS: [usize; 2] = [32, 128];
/// How many jobs the raw broker has on their way at once.
pub const DEPTHS: [usize; 3] = [64, 256, 1024];

pub async fn measure(bench: &mut Bench) -> Result<()> {
    one_kind(bench, "submissions, text of 1 kB", |bench| &bench.text).await?;
    one_kind(bench, "submissions, URL", |bench| &bench.page).await
}

async fn one_kind(bench: &mut Bench, what: &str, work: impl Fn(&Bench) -> &Work) -> Result<()> {
    let (before, floor_before) = (bench.stack.costs()?, bench.raw_broker.process.cpu_seconds()?);
    let (address, requests) = (bench.stack.address, work(bench).requests(""));
    let (raw, templates, requests) = (&bench.raw, &work(bench).templates, &requests);
    let ours = CONNECTIONS.map(|connections| {
        Side::new(format!("{connections} connections"), move || {
            load(address, connections, SLICE, requests, 202)
        })
    });
    let floor = DEPTHS.map(|depth| {
        Side::new(format!("raw, {depth} at once"), move || raw.submit(templates, SLICE, depth))
    });
    let sides: Vec<Side<'_>> = ours.into_iter().chain(floor).collect();
    let measured = in_turns(&sides, BOUNDS).await?;
    let (ours, floor) = measured.split_at(CONNECTIONS.len());
    let [jobs, floor_jobs] = [ours, floor].map(|sides| sides.iter().map(|side| side.done).sum());
    let (ours, floor) = (best(ours).context("no side")?, best(floor).context("no side")?);
    let what_ours = format!("{what}, {}", ours.name);
    let row = Row::rate(what_ours, ours, floor).aims_at(Target::Share(0.6));
    drop(sides);
    bench.report.add(row);
    bench.note_expense(what, jobs, &before)?;
    bench.note_floor(what, floor_jobs, floor_before)?;
    over_http(bench, what, work).await?;
    bench.forget_jobs().await
}

/// The same next to a handler that does nothing but publish and create: what HTTP costs on the way.
async fn over_http(bench: &mut Bench, what: &str, work: impl Fn(&Bench) -> &Work) -> Result<()> {
    let id = bench.stack.submit(&work(bench).body(0)).await?;
    let requests = work(bench).requests("");
    let handled = with_path(&requests, "/v1/jobs", &format!("/submit/{id}"));
    let side = |name: &str, address: SocketAddr, requests: Requests| {
        Side::new(name, move || {
            let requests = Arc::clone(&requests);
            async move { load(address, CONNECTIONS[1], SLICE, &requests, 202).await }
        })
    };
    let sides = [
        side("ours", bench.stack.address, requests),
        side("handler, publish and create", bench.floor, handled),
    ];
    let measured = in_turns(&sides, BOUNDS_OVER_HTTP).await?;
    let [ours, floor] = measured.as_slice() else { return Ok(()) };
    bench.report.add(Row::rate(format!("{what}, against a handler"), ours, floor));
    Ok(())
}

/// Returns the same requests for another path.
fn with_path(requests: &Requests, path: &str, other: &str) -> Requests {
    let (requests, path, other) = (Arc::clone(requests), path.to_owned(), other.to_owned());
    Arc::new(move |number| {
        let request = requests(number);
        let line = b"POST ".len();
        let rest = request.slice(line + path.len()..);
        [&request[..line], other.as_bytes(), &rest].concat().into()
    })
}
