//! Workers can be stopped at any time: no job fails, is delayed or uses an additional attempt.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::array_length;
use wordmill_tests::client::Client;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::Proxy;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Nats, Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

fn slow_page() -> Page {
    Page::new("text/plain", "two words").after(Duration::from_secs(30))
}

fn wait_until_running(client: &Client, job_id: &str) {
    wait_for("the job runs", LIMIT, || {
        (client.get(&format!("/v1/jobs/{job_id}")).json()["status"] == "running").then_some(())
    });
}

/// Asserts that a job counted the page, and returns the number of its attempts.
fn count_attempts(job: &Value) -> usize {
    assert_eq!(job["totals"]["words"], 2, "{job}");
    array_length(&job["attempts"])
}

#[test]
fn running_jobs_finish_within_the_grace_period() {
    let mut stack = Stack::start();
    let site = Site::start();
    let page = Page::new("text/plain", "two words").after(Duration::from_secs(2));
    let job_id = stack.client().submit_url(&site.put("/page", page));
    wait_until_running(stack.client(), &job_id);
    assert!(stack.workers[0].process.stop().success());
    let job = stack.client().get(&format!("/v1/jobs/{job_id}")).json();
    assert_eq!(count_attempts(&job), 1, "{job}");
    assert_eq!(site.hits("/page"), 1, "{job}");
    assert_eq!(Admin::connect(&stack.nats).message_count("JOBS"), 0, "the job is acknowledged");
}

#[test]
fn jobs_waiting_at_a_stopping_worker_run_immediately_on_another() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let site = Site::start();
    let paths: Vec<String> = (0..12).map(|n| format!("/{n}")).collect();
    let ids: Vec<String> =
        paths.iter().map(|path| client.submit_url(&site.put(path, slow_page()))).collect();
    let settings = [("WORDMILL_SLOTS", "4"), ("WORDMILL_SHUTDOWN_GRACE", "100ms")];
    let mut first = Worker::start(&stack.nats.address(), &settings);
    wait_for("all slots of the lane are taken", LIMIT, || {
        (paths.iter().filter(|path| site.hits(path) > 0).count() == 3).then_some(())
    });
    for path in &paths {
        site.put(path, Page::new("text/plain", "two words"));
    }
    assert!(first.process.stop().success());
    // A job that was not returned would be redelivered only after the ack wait of 30 s.
    let started = Instant::now();
    let second = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&second.health);
    for job_id in &ids {
        assert_eq!(count_attempts(&client.wait_until_final(job_id, Duration::from_secs(15))), 1);
    }
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(paths.iter().map(|path| site.hits(path)).sum::<usize>(), 12 + 3);
}

#[test]
fn a_worker_stops_in_time_while_the_broker_is_unavailable() {
    let directory = TempDir::new().expect("a directory");
    let nats = Nats::start(directory.path());
    nats.provision(&[]);
    let admin = Admin::connect(&nats);
    admin.set_ack_wait(Duration::from_secs(3));
    let gateway = Gateway::start(&nats.address(), &[]);
    wait_until_ready(&gateway.client);
    let site = Site::start();
    let faults: [fn(&Proxy); 2] = [Proxy::cut, Proxy::mute];
    let ids = faults.map(|fault| {
        let proxy = Proxy::start(&nats.address());
        let settings = [("WORDMILL_SHUTDOWN_GRACE", "500ms")];
        let mut worker = Worker::start(&proxy.address(), &settings);
        let job_id = gateway.client.submit_url(&site.put("/page", slow_page()));
        wait_until_running(&gateway.client, &job_id);
        fault(&proxy);
        let started = Instant::now();
        worker.process.signal(Signal::TERM);
        let status = worker.process.wait_for_exit(LIMIT);
        assert_eq!(status.code(), Some(0), "{}", worker.process.output());
        // The grace period, 5 s to return jobs, and one request timeout each for the lanes and the
        // barrier.
        assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
        job_id
    });
    site.put("/page", Page::new("text/plain", "two words"));
    let second = Worker::start(&nats.address(), &[]);
    wait_until_ready(&second.health);
    for job_id in ids {
        assert!(count_attempts(&gateway.client.wait_until_final(&job_id, LIMIT)) <= 3);
    }
    admin.wait_until_idle();
}

#[test]
fn a_worker_that_stops_after_a_reconnect_receives_no_more_jobs() {
    let stack = ProxiedStack::start(Proxied::Workers, &[]);
    let client = stack.client();
    let settings = [("WORDMILL_SHUTDOWN_GRACE", "60s")];
    let mut first = stack.start_proxied_worker(&settings);
    let count_text = || client.submit(&json!({"text": "two words"}));
    // The client and the server count the messages of a subscription. After a reconnect the server
    // starts at 0 again.
    for _ in 0..5 {
        assert_eq!(count_attempts(&client.wait_until_final(&count_text(), LIMIT)), 1);
    }
    stack.proxy().cut();
    stack.proxy().restore();
    assert_eq!(count_attempts(&client.wait_until_final(&count_text(), LIMIT)), 1);
    let page = Page::new("text/plain", "two words").after(Duration::from_secs(20));
    let slow = client.submit_url(&stack.site.put("/slow", page));
    wait_until_running(client, &slow);

    first.process.signal(Signal::TERM);
    first.process.wait_for_log("waiting for running jobs", LIMIT);
    let ids: Vec<String> = (0..4).map(|_| count_text()).collect();
    let _second = stack.start_direct_worker(&[]);
    // A job that the first worker received would be redelivered only after the ack wait of 30 s.
    let started = Instant::now();
    for job_id in &ids {
        assert_eq!(count_attempts(&client.wait_until_final(job_id, LIMIT)), 1);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(count_attempts(&client.wait_until_final(&slow, LIMIT)), 1);
}

#[test]
fn twenty_rolling_restarts_use_no_attempts() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let site = Site::start();
    let settings = [("WORDMILL_SHUTDOWN_GRACE", "10ms")];
    let start = || Worker::start(&stack.nats.address(), &settings);
    let mut workers = [start(), start()];
    workers.iter().for_each(|worker| wait_until_ready(&worker.health));
    let page = Page::new("text/plain", "two words").after(Duration::from_millis(900));
    let url = site.put("/page", page);
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(client.submit_url(&url));
        ids.push(client.submit_url(&url));
        let worker = &mut workers[n % 2];
        assert!(worker.process.stop().success());
        *worker = start();
        wait_until_ready(&worker.health);
    }
    for job_id in &ids {
        assert_eq!(count_attempts(&client.wait_until_final(job_id, LIMIT)), 1);
    }
    assert!(site.hits("/page") > ids.len(), "the restarts interrupted no job");
    Admin::connect(&stack.nats).wait_until_idle();
}
