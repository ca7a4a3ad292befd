//! Lanes: how they share the workers, and how a worker detects a pull request without deliveries.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::client::Client;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::{Direction, Rule};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, pause, wait_for};

/// Number of queued bulk jobs.
const BACKLOG: usize = 100_000;

/// Runs ten interactive jobs one after the other and returns the longest time of one.
fn slowest_interactive_job(client: &Client) -> Duration {
    let times = (0..10).map(|_| {
        let started = Instant::now();
        let job_id = client.submit(&json!({"text": "to be or not to be"}));
        client.wait_until_final(&job_id, LIMIT);
        started.elapsed()
    });
    times.max().expect("jobs")
}

#[test]
fn interactive_jobs_do_not_wait_behind_bulk() {
    let stack = Stack::with(1, 1, &[("WORDMILL_SLOTS", "4")]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let empty = slowest_interactive_job(client);
    admin.publish_jobs("bulk", BACKLOG, "a short text");
    let busy = slowest_interactive_job(client);
    let pending = admin.pending_count("bulk");
    assert!(pending > 0, "the backlog was empty before the measurement");
    assert!(busy < empty + Duration::from_secs(1), "{empty:?} when empty, {busy:?} when busy");

    // A continuous interactive load, from more clients than there are slots.
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
    let bulk = pending - admin.pending_count("bulk");
    println!("{empty:?} when empty, {busy:?} when busy; then {interactive} to {bulk}");
    assert!(bulk > 0, "no bulk job ran while {interactive} interactive jobs were done");
}

#[test]
fn busy_lanes_share_the_workers_three_to_one() {
    const JOBS_PER_LANE: usize = 400;
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let started = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&started);
    site.handle(move |path, _| {
        log.lock().expect("the log").push(path.contains("interactive"));
        Page::new("text/plain", "a b").after(Duration::from_millis(40))
    });
    for lane in ["interactive", "bulk"] {
        admin.publish_all((0..JOBS_PER_LANE).map(|n| {
            let job_id = format!("0198f0c2-0000-7000-8000-{n:06}{:06}", lane.len());
            let message = json!({
                "format": 1, "job_id": job_id, "owner": "public", "lane": lane,
                "source": {"kind": "url", "url": site.url(&format!("/{lane}/{n}"))},
                "options": {}, "labels": {}, "created_at": "2026-01-01T00:00:00Z",
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            });
            (format!("jobs.{lane}.public.{job_id}"), message.to_string())
        }));
    }
    let _worker = Worker::start(&stack.nats.address(), &[("WORDMILL_SLOTS", "8")]);
    // Neither lane is empty during this time.
    let first = wait_for("half of the jobs were started", LIMIT, || {
        let started = started.lock().expect("the log");
        (started.len() >= JOBS_PER_LANE).then(|| started[..JOBS_PER_LANE].to_vec())
    });
    let interactive = first.iter().filter(|is_interactive| **is_interactive).count();
    let expected = JOBS_PER_LANE * 3 / 4;
    assert!(
        (expected - JOBS_PER_LANE / 20..=expected + JOBS_PER_LANE / 20).contains(&interactive),
        "{interactive} of {JOBS_PER_LANE} were interactive"
    );
}

#[test]
fn a_lane_without_deliveries_resubscribes() {
    let mut stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    // Heartbeats continue while jobs wait, as if the server had lost the pull request.
    admin.pause_consumer("bulk", "2100-01-01T00:00:00Z");
    let job_id = stack.client().submit(&json!({"text": "a b", "lane": "bulk"}));
    let line = stack.workers[0]
        .process
        .wait_for_log("no deliveries although jobs are pending; resubscribing", LIMIT);
    assert_fields(&line, json!({"lane": "bulk", "pending": 1}));
    // The interactive lane is not affected, and the new pull request works.
    let other = stack.client().submit(&json!({"text": "a b c"}));
    assert_eq!(stack.client().wait_until_final(&other, LIMIT)["totals"]["words"], 3);
    admin.pause_consumer("bulk", "2000-01-01T00:00:00Z");
    assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["totals"]["words"], 2);
}

#[test]
fn a_lane_without_broker_messages_is_not_ready() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
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
    assert!(reason.starts_with("lane bulk has received nothing from the broker for "), "{answer}");
    assert!(answer["silence_ms"]["bulk"].as_u64() > Some(10_000), "{answer}");

    stack.nats.provision(&[]);
    wait_until_ready(health);
    assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["totals"]["words"], 2);
}

#[test]
fn small_jobs_run_without_a_slot_up_to_a_limit() {
    /// One slot of the lane, and 192 small jobs that run without a slot.
    const RUNNING_MAX: u64 = 1 + 192;
    let stack = ProxiedStack::start(Proxied::Workers, &[]);
    let admin = &stack.admin;
    let proxy = stack.proxy();
    let worker = stack.start_proxied_worker(&[("WORDMILL_SLOTS", "2")]);
    // All jobs hang at the read of their record.
    proxy.add_rule(Rule::hold_answers("$JS.API.DIRECT.GET.KV_job_state"));
    admin.publish_jobs("interactive", 220, "a short text");
    wait_for("all slots are used", LIMIT, || {
        (admin.pending_and_unacknowledged("interactive") == (220 - RUNNING_MAX, RUNNING_MAX))
            .then_some(())
    });
    pause(Duration::from_millis(500));
    assert_eq!(admin.pending_and_unacknowledged("interactive"), (220 - RUNNING_MAX, RUNNING_MAX));
    // All of them must be counted as running, because the status of the queue reports other
    // unacknowledged messages as jobs that wait for their next attempt.
    let running = Metrics::fetch(&worker.health)
        .sum("wordmill_worker_slots_busy", &[("lane", "interactive")]);
    assert_eq!(running, Some(193.0));
    proxy.release();
    admin.wait_until_idle();
}

#[test]
fn late_deliveries_are_finished_before_more_are_requested() {
    let stack = ProxiedStack::start(Proxied::Workers, &[]);
    let admin = &stack.admin;
    let proxy = stack.proxy();
    let site = &stack.site;
    let client = stack.client();
    // One job per lane.
    let _worker = stack.start_proxied_worker(&[("WORDMILL_SLOTS", "2")]);
    site.handle(|_, _| Page::new("text/plain", "a b").after(Duration::from_millis(400)));
    let held_messages =
        proxy.add_rule(Rule::hold("jobs.interactive.").in_direction(Direction::ToClient));
    let submit = |number| client.submit(&json!({"url": site.url(&format!("/{number}"))}));
    let jobs: Vec<String> = (0..16).map(submit).collect();
    wait_for("the pull request was repeated", LIMIT, || (held_messages.count() >= 2).then_some(()));
    let (waiting, _) = admin.pending_and_unacknowledged("interactive");
    proxy.release();

    let mut unacknowledged_counts = Vec::new();
    wait_for("nearly all messages are delivered", LIMIT, || {
        let (left, unacknowledged) = admin.pending_and_unacknowledged("interactive");
        // By then, both late deliveries are finished.
        if left < waiting {
            unacknowledged_counts.push(unacknowledged);
        }
        (left < 4).then_some(())
    });
    // The broker may deliver the next message before it processes the acknowledgement.
    let too_many = unacknowledged_counts.iter().filter(|count| **count > 1).count();
    assert!(
        too_many * 4 < unacknowledged_counts.len(),
        "one at a time, but: {unacknowledged_counts:?}"
    );
    for job in jobs {
        assert_eq!(client.wait_until_final(&job, LIMIT)["status"], "succeeded");
    }
}
