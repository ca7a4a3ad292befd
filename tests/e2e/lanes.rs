//! Lanes share the workers, and a pull that brings nothing is noticed.

use std::time::{Duration, Instant};

use serde_json::json;
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::stack::{Stack, ready};
use wordmill_tests::wait_for;

const LIMIT: Duration = Duration::from_secs(60);
/// How many bulk jobs wait.
const BACKLOG: usize = 100_000;

/// Returns the longest time that one of some interactive jobs took.
fn slowest(client: &Client) -> Duration {
    let times = (0..10).map(|_| {
        let started = Instant::now();
        let job_id = client.submit(&json!({"text": "to be or not to be"}));
        client.finished(&job_id, LIMIT);
        started.elapsed()
    });
    times.max().expect("jobs")
}

#[test]
fn interactive_jobs_do_not_wait_behind_bulk_and_bulk_has_its_share() {
    let stack = Stack::with(1, 1, &[("WORDMILL_SLOTS", "4")]);
    let (admin, client) = (Admin::of(&stack.nats), stack.client());
    let empty = slowest(client);
    admin.publish_jobs("bulk", BACKLOG, "a short text");
    let busy = slowest(client);
    let pending = admin.pending("bulk");
    assert!(pending > 0, "the backlog was worked off before anything was measured");
    assert!(busy < empty + Duration::from_secs(1), "{empty:?} when empty, {busy:?} when busy");

    // Interactive work that does not end, from more clients than there are slots.
    let end = Instant::now() + Duration::from_secs(2);
    let interactive: usize = std::thread::scope(|scope| {
        let submit = || {
            let mut done = 0;
            while Instant::now() < end {
                client.submit(&json!({"text": "to be or not to be"}));
                done += 1;
            }
            done
        };
        let submitters: Vec<_> = (0..6).map(|_| scope.spawn(submit)).collect();
        submitters.into_iter().map(|one| one.join().expect("a submitter")).sum()
    });
    let bulk = pending - admin.pending("bulk");
    println!("{empty:?} when empty, {busy:?} when busy; then {interactive} to {bulk}");
    assert!(bulk > 0, "bulk stood still while {interactive} interactive jobs were done");
}

#[test]
fn a_lane_that_gets_nothing_although_jobs_wait_is_pulled_anew() {
    let mut stack = Stack::start();
    let admin = Admin::of(&stack.nats);
    // Heartbeats go on and jobs wait, as with a server that has lost track of the request.
    admin.pause_consumer("bulk", "2100-01-01T00:00:00Z");
    let job_id = stack.client().submit(&json!({"text": "a b", "lane": "bulk"}));
    let anew = stack.workers[0].process.logged("jobs wait and none comes; pulling anew", LIMIT);
    assert_eq!((&anew["lane"], &anew["pending"]), (&json!("bulk"), &json!(1)), "{anew}");
    // Interactive jobs never noticed, and the new pull works.
    let other = stack.client().submit(&json!({"text": "a b c"}));
    assert_eq!(stack.client().finished(&other, LIMIT)["totals"]["words"], 3);
    admin.pause_consumer("bulk", "2000-01-01T00:00:00Z");
    assert_eq!(stack.client().finished(&job_id, LIMIT)["totals"]["words"], 2);
}

#[test]
fn a_lane_that_hears_nothing_is_not_ready() {
    let stack = Stack::start();
    let admin = Admin::of(&stack.nats);
    let health = &stack.workers[0].health;
    let answer = health.get("/readyz").json();
    for lane in ["interactive", "bulk"] {
        assert!(answer["silence_ms"][lane].is_u64(), "{answer}");
    }
    admin.delete_consumer("bulk");
    let job_id = stack.client().submit(&json!({"text": "a b", "lane": "bulk"}));
    let answer = wait_for("the worker is not ready", LIMIT, || {
        let answer = health.get("/readyz");
        (answer.status == 503).then_some(answer.json())
    });
    let reason = answer["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("lane bulk has heard nothing of the queue for "), "{answer}");
    assert!(answer["silence_ms"]["bulk"].as_u64() > Some(10_000), "{answer}");

    stack.nats.provision(&[]);
    ready(health);
    assert_eq!(stack.client().finished(&job_id, LIMIT)["totals"]["words"], 2);
}
