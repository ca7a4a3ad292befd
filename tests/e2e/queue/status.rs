//! The status of the queue: waiting jobs, running jobs, and workers.

use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::client::Client;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

fn get_queue(client: &Client) -> Value {
    let answer = client.get("/v1/queue");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Waits until the status of the queue satisfies `is_shown`. Workers report every two seconds.
fn wait_until_queue_shows(
    client: &Client,
    condition_name: &str,
    is_shown: impl Fn(&Value) -> bool,
) -> Value {
    wait_for(condition_name, LIMIT, || Some(get_queue(client)).filter(|queue| is_shown(queue)))
}

#[test]
fn an_empty_queue_reports_its_limits_and_zeros() {
    let stack = Stack::with(1, 0, &[]);
    let lane = json!({
        "depth": 0, "waiting": 0, "in_work": 0, "waiting_for_retry": 0, "redelivered": 0,
        "oldest_age_ms": null,
    });
    let expected = json!({
        "depth": 0, "depth_max": 2_000_000, "size_bytes": 0, "size_bytes_max": 8_589_934_592_u64,
        "lanes": {"interactive": lane, "bulk": lane}, "workers_seen": 0, "workers": [],
    });
    assert_eq!(get_queue(stack.client()), expected);
}

#[test]
fn waiting_running_and_retried_jobs_are_distinguished() {
    let settings = [
        ("WORDMILL_WORKER_NAME", "miller"),
        ("WORDMILL_SLOTS", "3"),
        ("WORDMILL_RETRY_BASE", "30s"),
    ];
    let stack = Stack::with(1, 0, &[]);
    let site = Site::start();
    let client = stack.client();
    for n in 0..3 {
        client.submit(&json!({"text": format!("text {n}"), "lane": "bulk"}));
    }
    let waiting = get_queue(client);
    let bulk = &waiting["lanes"]["bulk"];
    assert_fields(bulk, json!({"depth": 3, "waiting": 3}));
    assert_fields(&waiting, json!({"depth": 3}));
    assert!(
        bulk["oldest_age_ms"].is_u64() && waiting["size_bytes"].as_u64() > Some(0),
        "{waiting}"
    );
    assert_eq!(waiting["lanes"]["interactive"]["oldest_age_ms"], Value::Null);

    let busy = client.submit_url(&site.put("/busy", Page::status("503 Service Unavailable")));
    client.submit_url(&site.put("/stuck", Page::new("text/plain", "stuck").stalls_after(2)));
    let worker = Worker::start(&stack.nats.address(), &settings);
    wait_until_ready(&worker.health);
    let shown = wait_until_queue_shows(client, "one job runs, one waits for an attempt", |queue| {
        let lane = &queue["lanes"]["interactive"];
        lane["in_work"] == 1 && lane["waiting_for_retry"] == 1
    });
    let lane = &shown["lanes"]["interactive"];
    assert_fields(lane, json!({"depth": 2, "waiting": 0}));
    let worker_view = &shown["workers"][0];
    assert_fields(&shown, json!({"workers_seen": 1}));
    assert_fields(worker_view, json!({"name": "miller", "slots": 3, "in_work.interactive": 1}));
    assert!(worker_view["seen_at"].is_string(), "{shown}");
    let job = client.get(&format!("/v1/jobs/{busy}")).json();
    assert!(job["next_attempt_at"].is_string(), "{job}");
    wait_until_queue_shows(client, "the bulk lane is empty", |queue| {
        queue["lanes"]["bulk"]["depth"] == 0
    });
}

#[test]
fn stopped_and_killed_workers_disappear() {
    let mut stack = Stack::with(1, 3, &[]);
    wait_until_queue_shows(stack.client(), "three workers", |queue| queue["workers_seen"] == 3);
    assert!(stack.workers[0].process.stop().success());
    let left = get_queue(stack.client());
    assert_eq!(left["workers_seen"], 2, "a stopped worker is removed immediately: {left}");
    stack.workers[1].process.kill();
    let shown =
        wait_until_queue_shows(stack.client(), "one worker", |queue| queue["workers_seen"] == 1);
    assert_eq!(array_length(&shown["workers"]), 1);
}

#[test]
fn redeliveries_are_counted() {
    let mut stack = Stack::with(1, 1, &[]);
    wordmill_tests::admin::Admin::connect(&stack.nats).set_ack_wait(Duration::from_secs(3));
    let site = Site::start();
    let client = stack.client().clone();
    client.submit_url(&site.put("/stuck", Page::new("text/plain", "stuck").stalls_after(2)));
    wait_until_queue_shows(&client, "the job runs", |queue| {
        queue["lanes"]["interactive"]["in_work"] == 1
    });
    stack.workers[0].process.kill();
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    let shown = wait_until_queue_shows(&client, "the message is redelivered", |queue| {
        queue["lanes"]["interactive"]["redelivered"] == 1
    });
    assert_eq!(shown["lanes"]["interactive"]["depth"], 1, "{shown}");
}

#[test]
fn without_a_broker_the_status_is_unavailable() {
    let mut stack = Stack::with(1, 0, &[]);
    stack.nats.process.kill();
    stack.client().get("/v1/queue").expect_problem(503, "broker_unavailable");
    stack.client().get("/v1/jobs").expect_problem(503, "broker_unavailable");
}
