//! How many lines of batches are accepted, next to the same publish and create without us.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::Value;

use crate::http::{Connection, Requests, load, post};
use crate::measure::{Bounds, Side, best, in_turns};
use crate::raw_broker::Templates;
use crate::report::{Row, Target};
use crate::submissions::DEPTHS;
use crate::{BULK, Bench};

/// Lines of one call, and calls of one slice.
const LINES: usize = 2000;
const CALLS: usize = 2;
const BOUNDS: Bounds = Bounds { rounds: 12, seconds: 30 };
const KIND: &str = "Content-Type: application/x-ndjson\r\n";

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let what = "batch lines, text of 1 kB";
    let address = bench.stack.address;
    let batch = |lines: usize| {
        let line = format!("{}\n", bench.text.body(0));
        post("/v1/batches", line.repeat(lines).as_bytes(), KIND)
    };
    // One line tells what a member of a batch looks like to the broker.
    let answer = Connection::open(address).await?.send(&batch(1)).await?;
    ensure!(answer.status == 202, "not accepted: {}", String::from_utf8_lossy(&answer.body));
    let answer: Value = serde_json::from_slice(&answer.body)?;
    let member = answer["lines"][0]["job_id"].as_str().context("no job_id")?;
    let templates = Templates::waiting(&bench.stack.broker.jetstream, BULK, member).await?;

    let (before, floor_before) = (bench.stack.costs()?, bench.raw_broker.process.cpu_seconds()?);
    let request: Bytes = batch(LINES);
    let requests: &Requests = &(Arc::new(move |_| request.clone()) as Requests);
    let (raw, templates) = (&bench.raw, &templates);
    let ours = [1, CALLS].map(|at_once| {
        Side::new(format!("{at_once} at once"), move || async move {
            let mut slice = load(address, at_once, CALLS, requests, 202).await?;
            slice.count *= LINES;
            slice.latencies.clear();
            Ok(slice)
        })
    });
    let floor = DEPTHS.map(|depth| {
        let name = format!("raw, {depth} at once");
        Side::new(name, move || raw.submit(templates, LINES * CALLS, depth))
    });
    let sides: Vec<Side<'_>> = ours.into_iter().chain(floor).collect();
    let measured = in_turns(&sides, BOUNDS).await?;
    let (ours, floor) = measured.split_at(2);
    let [jobs, floor_jobs] = [ours, floor].map(|sides| sides.iter().map(|side| side.done).sum());
    let (ours, floor) = (best(ours).context("no side")?, best(floor).context("no side")?);
    let row = Row::rate(format!("{what}, {}", ours.name), ours, floor);
    drop(sides);
    bench.report.add(row.aims_at(Target::Share(0.85)));
    bench.note_expense(what, jobs, &before)?;
    bench.note_floor(what, floor_jobs, floor_before)?;
    bench.forget_jobs().await
}
