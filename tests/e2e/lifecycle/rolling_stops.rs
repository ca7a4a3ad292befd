//! Each of several gateways and workers can be stopped at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::array_length;
use wordmill_tests::connection::connect;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, pause, wait_for};

/// Maximum number of jobs that are submitted through each gateway.
const JOBS_MAX: usize = 400;

/// Submits pages and texts until `stop` is set. Returns the expected number of words of each
/// accepted job, and the path of its page.
fn submit_all(
    client: &wordmill_tests::client::Client,
    site: &Site,
    name: &str,
    stop: &AtomicBool,
) -> BTreeMap<String, (usize, Option<String>)> {
    let mut accepted = BTreeMap::new();
    for n in 0..JOBS_MAX {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let words = n % 17 + 1;
        let text = "word ".repeat(words);
        let (body, path) = if n % 3 == 0 {
            let path = format!("/{name}/{n}");
            let page = Page::new("text/plain", text).after(Duration::from_millis(50));
            (json!({"url": site.put(&path, page)}), Some(path))
        } else {
            (json!({"text": text, "lane": if n % 5 == 0 { "bulk" } else { "interactive" }}), None)
        };
        let headers = [("content-type", "application/json")];
        let body = body.to_string();
        // A gateway that was just stopped does not answer, so it has not accepted the job.
        let Ok(answer) = client.try_send("POST", "/v1/jobs", &headers, body.as_bytes()) else {
            continue;
        };
        if answer.status == 202 {
            let job_id = answer.json()["job_id"].as_str().expect("a job id").to_owned();
            accepted.insert(job_id, (words, path));
        }
    }
    accepted
}

#[test]
fn stopping_services_under_load_neither_loses_nor_repeats_jobs() {
    let mut stack = Stack::with(2, 4, &[("WORDMILL_SLOTS", "4")]);
    let site = Site::start();
    let stop = AtomicBool::new(false);
    let clients: Vec<_> = stack.gateways.iter().map(|gateway| gateway.client.clone()).collect();
    let accepted = std::thread::scope(|scope| {
        let site = &site;
        let stop = &stop;
        let submitters: Vec<_> = ["a", "b"]
            .into_iter()
            .zip(&clients)
            .map(|(name, client)| scope.spawn(move || submit_all(client, site, name, stop)))
            .collect();
        // Stops a worker and then a gateway under load.
        wait_for("some pages were fetched", LIMIT, || (site.connections() > 20).then_some(()));
        stack.workers[0].process.signal(Signal::TERM);
        wait_for("more pages were fetched", LIMIT, || (site.connections() > 50).then_some(()));
        stack.gateways[1].process.signal(Signal::TERM);
        let status = stack.workers[0].process.wait_for_exit(LIMIT);
        assert!(status.success(), "the worker exits with success: {status}");
        let status = stack.gateways[1].process.wait_for_exit(LIMIT);
        assert!(status.success(), "the gateway exits with success: {status}");
        pause(Duration::from_millis(500));
        stop.store(true, Ordering::SeqCst);
        let mut accepted = BTreeMap::new();
        for submitter in submitters {
            accepted.extend(submitter.join().expect("a submitter"));
        }
        accepted
    });
    assert!(accepted.len() > 60, "only {} jobs", accepted.len());

    let mut workers = BTreeSet::new();
    for (job_id, (words, path)) in &accepted {
        let job = stack.client().wait_until_final(job_id, LIMIT);
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["totals"]["words"], *words, "{job}");
        let attempts = job["attempts"].as_array().expect("attempts");
        assert_eq!(attempts.len(), 1, "the job has only one attempt: {job}");
        workers.insert(attempts[0]["worker"].to_string());
        if let Some(path) = path {
            assert_eq!(site.hits(path), 1, "fetched once: {job}");
        }
    }
    assert!(workers.len() >= 3, "only {workers:?} ran jobs");
    Admin::connect(&stack.nats).wait_until_idle();
}

#[test]
fn a_stopping_gateway_serves_clients_that_have_connected() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let gateway = &mut stack.gateways[0].process;
    // While the gateway is paused, the kernel accepts connections for it.
    gateway.signal(Signal::STOP);
    let request = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    let connected: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect(&client);
            stream.write_all(request).expect("the request is sent");
            stream
        })
        .collect();
    gateway.signal(Signal::TERM);
    gateway.signal(Signal::CONT);
    for (number, mut stream) in connected.into_iter().enumerate() {
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        read.unwrap_or_else(|error| panic!("client {number} got no complete response: {error}"));
        assert!(answer.starts_with("HTTP/1.1 200"), "client {number}: {answer}");
    }
    assert!(gateway.wait_for_exit(LIMIT).success());
}

#[test]
fn a_stopping_worker_returns_unfinished_jobs_immediately() {
    let stack = Stack::with(1, 0, &[]);
    let site = Site::start();
    let slow = Page::new("text/plain", "two words").after(Duration::from_secs(8));
    let url = site.put("/slow", slow);
    let mut first = Worker::start(&stack.nats.address(), &[("WORDMILL_SHUTDOWN_GRACE", "100ms")]);
    wait_until_ready(&first.health);
    let job_id = stack.client().submit_url(&url);
    let running = |job: &Value| job["status"] == "running";
    wait_for("the job runs", LIMIT, || {
        running(&stack.client().get(&format!("/v1/jobs/{job_id}")).json()).then_some(())
    });
    site.put("/slow", Page::new("text/plain", "two words"));
    assert!(first.process.stop().success());

    let job = stack.client().get(&format!("/v1/jobs/{job_id}")).json();
    assert_eq!(job["status"], "queued", "{job}");
    assert_eq!(job["attempts"], json!([]), "the returned run is not an attempt: {job}");
    // The job is redelivered immediately, and not only after the ack wait of 30 s.
    let second = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&second.health);
    let job = stack.client().wait_until_final(&job_id, Duration::from_secs(10));
    assert_eq!(job["totals"]["words"], 2, "{job}");
    assert_eq!(array_length(&job["attempts"]), 1, "{job}");
}
