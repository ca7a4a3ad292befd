//! How fast those who wait for jobs are told, next to plain subscriptions.

use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::Bench;
use crate::http::{Connection, get, post};
use crate::measure::{Bounds, Side, Slice, in_turns};
use crate::report::Row;

const WAITERS: usize = 1000;
const JOBS: usize = 10;
const BOUNDS: Bounds = Bounds { rounds: 8, seconds: 30 };

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let shared = &*bench;
    let sides = [
        Side::new("event streams", move || told(shared)),
        Side::new("subscriptions", move || shared.raw.tell(&shared.text.templates, JOBS, WAITERS)),
    ];
    let measured = in_turns(&sides, BOUNDS).await?;
    let [ours, floor] = measured.as_slice() else { return Ok(()) };
    let row = Row::rate(format!("waiters told, {WAITERS} of {JOBS} jobs"), ours, floor);
    drop(sides);
    bench.report.add(row);
    Ok(())
}

/// Cancels jobs one after the other, and takes the time until the last of those who wait knows.
async fn told(bench: &Bench) -> Result<Slice> {
    let address = bench.stack.address;
    let mut ids = Vec::with_capacity(JOBS);
    for _ in 0..JOBS {
        ids.push(bench.stack.submit(&bench.text.body(0)).await?);
    }
    let mut listening = Vec::with_capacity(WAITERS);
    for number in 0..WAITERS {
        let mut connection = Connection::open(address).await?;
        // The record comes as soon as the gateway has subscribed to what follows.
        let request = get(&format!("/v1/jobs/{}/events", ids[number % JOBS]));
        connection.listen(&request, b"\"queued\"").await?;
        listening.push(connection);
    }
    let started = Instant::now();
    let mut hearing = JoinSet::new();
    for mut connection in listening {
        hearing.spawn(async move { connection.hear(b"\"cancelled\"").await });
    }
    let mut client = Connection::open(address).await?;
    for id in &ids {
        client.send(&post(&format!("/v1/jobs/{id}/cancel"), b"", "")).await?;
    }
    while let Some(heard) = hearing.join_next().await {
        heard??;
    }
    Ok(Slice { count: WAITERS, elapsed: started.elapsed(), latencies: Vec::new() })
}
