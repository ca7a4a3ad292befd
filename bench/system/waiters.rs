//! Notification of waiting clients, compared with plain subscriptions at the broker.

use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use crate::Bench;
use crate::http::{Connection, get, post};
use crate::measure::{Bounds, Slice, Variant, run_in_turns};
use crate::report::Row;

const WAITERS: usize = 1000;
const JOBS: usize = 10;
const BOUNDS: Bounds = Bounds { rounds: 8, seconds: 30 };

pub async fn measure(bench: &mut Bench) -> Result<()> {
    let shared = &*bench;
    let variants = [
        Variant::new("event streams", move || notify_waiters(shared)),
        Variant::new("subscriptions", move || {
            shared.raw.notify_subscribers(&shared.text.templates, JOBS, WAITERS)
        }),
    ];
    let measured = run_in_turns(&variants, BOUNDS).await?;
    let [wordmill, baseline] = measured.as_slice() else { return Ok(()) };
    let row = Row::rate(format!("waiters notified, {WAITERS} of {JOBS} jobs"), wordmill, baseline);
    drop(variants);
    bench.report.add(row);
    Ok(())
}

/// Cancels jobs one after the other, and measures the time until the last client is notified.
async fn notify_waiters(bench: &Bench) -> Result<Slice> {
    let address = bench.stack.address;
    let mut ids = Vec::with_capacity(JOBS);
    for _ in 0..JOBS {
        ids.push(bench.stack.submit(&bench.text.body(0)).await?);
    }
    let mut connections = Vec::with_capacity(WAITERS);
    for number in 0..WAITERS {
        let mut connection = Connection::open(address).await?;
        // The first event shows that the gateway has subscribed to further changes.
        let request = get(&format!("/v1/jobs/{}/events", ids[number % JOBS]));
        connection.send_and_read_until(&request, b"\"queued\"").await?;
        connections.push(connection);
    }
    let started = Instant::now();
    let mut waiters = JoinSet::new();
    for mut connection in connections {
        waiters.spawn(async move { connection.read_until(b"\"cancelled\"").await });
    }
    let mut client = Connection::open(address).await?;
    for id in &ids {
        client.send(&post(&format!("/v1/jobs/{id}/cancel"), b"", "")).await?;
    }
    while let Some(result) = waiters.join_next().await {
        result??;
    }
    Ok(Slice { count: WAITERS, elapsed: started.elapsed(), latencies: Vec::new() })
}
