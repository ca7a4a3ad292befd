//! Memory of a gateway for clients that wait for jobs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinHandle;
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::stream::{Event, EventStream};
use wordmill_tests::{LIMIT, runtime, wait_for};

use crate::{assert_below, start_stack};

/// Number of clients that wait at the same time.
const CLIENTS: usize = 1000;
/// Maximum memory of all waiting clients. Measured: 28 to 30 MiB.
const GROWTH_BYTES_MAX: u64 = 45 << 20;

/// Waits until a job is final. Clients with an even number use an event stream, the others a long
/// poll. Returns the status and the time.
async fn wait_for_end(client: Client, job_id: String, number: usize) -> (String, Instant) {
    let path = format!("/v1/jobs/{job_id}?wait=60");
    loop {
        let job = if number.is_multiple_of(2) {
            let mut events = EventStream::try_open(&client, &job_id, &[]).await.expect("a stream");
            let mut last = Value::Null;
            while let Some(event) = events.receive().await.expect("an unbroken connection") {
                if let Event::Job { data, .. } = event {
                    last = data;
                }
            }
            last
        } else {
            client.get_async(&path).await.expect("an answer").json()
        };
        // The gateway refuses requests while it has the maximum number of waiting clients.
        match job["status"].as_str() {
            Some(status) => return (status.to_owned(), Instant::now()),
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[test]
fn a_thousand_waiting_clients_use_little_memory() {
    let places = CLIENTS.to_string();
    let stack = start_stack(1, 0, &[("WORDMILL_WAITERS_MAX", &places)]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let gateway = &stack.gateways[0].process;
    let consumers = admin.consumer_count();
    let before = gateway.peak_memory_bytes();
    let jobs: Vec<_> = (0..10).map(|_| client.submit(&json!({"text": "a b c"}))).collect();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let job_id = jobs[number % jobs.len()].clone();
            runtime().spawn(wait_for_end(client.clone(), job_id, number))
        })
        .collect();
    let are_waiting = |count: usize| {
        let waiting = Metrics::fetch(client).sum("wordmill_clients_waiting", &[]);
        (waiting == Some(count as f64)).then_some(())
    };
    wait_for("all clients are waiting", LIMIT, || {
        if let Some(gone) = clients.iter().position(JoinHandle::is_finished) {
            panic!(
                "a client has stopped waiting: {:?}",
                runtime().block_on(clients.swap_remove(gone))
            );
        }
        are_waiting(CLIENTS)
    });
    let one_more = || client.get(&format!("/v1/jobs/{}?wait=1", jobs[0])).status;
    assert_eq!(one_more(), 503, "one more client is refused");
    assert_eq!(admin.consumer_count(), consumers, "waiting clients use no consumer");
    let grown = gateway.peak_memory_bytes() - before;
    assert_below(GROWTH_BYTES_MAX, grown, &format!("{CLIENTS} waiting clients"));

    let first = Instant::now();
    for job_id in &jobs {
        client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    }
    let changed = first.elapsed();
    let mut last = first;
    for waiting in clients {
        let ended = runtime().block_on(async { tokio::time::timeout(LIMIT, waiting).await });
        let (status, at) = ended.expect("no timeout").expect("no panic");
        assert_eq!(status, "cancelled");
        last = last.max(at);
    }
    let took = last - first;
    println!(
        "{} changes took {changed:?}, the last notification arrived after {took:?}",
        jobs.len()
    );
    assert_eq!(one_more(), 200, "another client may wait");
    wait_for("no client is waiting", LIMIT, || are_waiting(0));
}
