//! Accepted lines of batches, compared with the same broker operations without Wordmill: publish
//! the message and create the record.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::Value;

use crate::http::{Connection, Requests, load, post};
use crate::measure::{Bounds, Variant, best, run_in_turns};
use crate::raw_broker::JobTemplates;
use crate::report::{Row, Target};
use crate::submissions::DEPTHS;
use crate::{BULK, Bench};

/// Number of lines of one request.
const LINES: usize = 2000;
/// Number of requests of one slice.
const CALLS: usize = 2;
const BOUNDS: Bounds = Bounds { rounds: 12, seconds: 30 };
const CONTENT_TYPE: &str = "Content-Type: application/x-ndjson\r\n";

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let name = "batch lines, text of 1 kB";
    let address = bench.stack.address;
    let batch = |lines: usize| {
        let line = format!("{}\n", bench.text.body(0));
        post("/v1/batches", line.repeat(lines).as_bytes(), CONTENT_TYPE)
    };
    // A batch of one line, to load the messages of a member.
    let answer = Connection::open(address).await?.send(&batch(1)).await?;
    ensure!(answer.status == 202, "batch not accepted: {}", String::from_utf8_lossy(&answer.body));
    let answer: Value = serde_json::from_slice(&answer.body)?;
    let member = answer["lines"][0]["job_id"].as_str().context("no job_id")?;
    let templates =
        JobTemplates::of_queued_job(&bench.stack.broker.jetstream, BULK, member).await?;

    let before = bench.stack.costs()?;
    let baseline_before = bench.raw_server.process.cpu_seconds()?;
    let request: Bytes = batch(LINES);
    let requests: &Requests = &(Arc::new(move |_| request.clone()) as Requests);
    let raw = &bench.raw;
    let templates = &templates;
    let wordmill = [1, CALLS].map(|requests_in_flight| {
        Variant::new(format!("{requests_in_flight} concurrently"), move || async move {
            let mut slice = load(address, requests_in_flight, CALLS, requests, 202).await?;
            slice.count *= LINES;
            slice.latencies.clear();
            Ok(slice)
        })
    });
    let baseline = DEPTHS.map(|depth| {
        let name = format!("raw, {depth} concurrently");
        Variant::new(name, move || raw.submit(templates, LINES * CALLS, depth))
    });
    let variants: Vec<Variant<'_>> = wordmill.into_iter().chain(baseline).collect();
    let measured = run_in_turns(&variants, BOUNDS).await?;
    let (wordmill, baseline) = measured.split_at(2);
    let [jobs, baseline_jobs] =
        [wordmill, baseline].map(|variants| variants.iter().map(|variant| variant.done).sum());
    let wordmill = best(wordmill).context("no variant")?;
    let baseline = best(baseline).context("no variant")?;
    let row = Row::rate(format!("{name}, {}", wordmill.name), wordmill, baseline);
    drop(variants);
    bench.report.add(row.with_target(Target::MinRatio(0.85)));
    bench.record_expense(name, jobs, &before)?;
    bench.record_baseline_expense(name, baseline_jobs, baseline_before)?;
    bench.purge_jobs().await
}
