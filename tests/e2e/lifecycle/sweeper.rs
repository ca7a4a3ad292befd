//! The sweeper ends lost jobs, removes objects without a job, and changes nothing else.
//!
//! A test that expects no action lets one more job lose its message at the end. Once the sweeper
//! has failed that job, it has checked all older ones and left them unchanged.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Nats, Stack, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

const SETTINGS: &[(&str, &str)] = &[
    ("WORDMILL_SWEEP_INTERVAL", "200ms"),
    ("WORDMILL_SWEEP_GRACE", "3s"),
    ("WORDMILL_ALARM_AGE", "1s"),
    ("WORDMILL_RETRY_BASE", "60s"),
];

fn message_subject(job_id: &str) -> String {
    format!("jobs.interactive.public.{job_id}")
}

fn get_status(client: &Client, job_id: &str) -> Value {
    client.get(&format!("/v1/jobs/{job_id}")).json()["status"].clone()
}

/// Submits a job and removes its message from the queue.
fn submit_and_lose_message(client: &Client, admin: &Admin) -> String {
    let job_id = client.submit(&json!({"text": "lost"}));
    admin.remove_message("JOBS", &message_subject(&job_id));
    job_id
}

/// Waits until a job has failed as `lost`.
fn wait_until_lost(client: &Client, job_id: &str) -> Value {
    let job = client.wait_until_final(job_id, LIMIT);
    assert_eq!(job["status"], "failed", "{job}");
    assert_eq!(job["failure"]["code"], "lost", "{job}");
    assert_eq!(job["dead_lettered"], false, "{job}");
    job
}

fn submit_named(client: &Client, key: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.send("POST", "/v1/jobs", &headers, br#"{"text": "a"}"#)
}

fn accepted_id(answer: &Answer) -> String {
    answer.json()["job_id"].as_str().expect("a job id").to_owned()
}

#[test]
fn only_jobs_without_a_message_are_failed() {
    let mut stack = Stack::with(1, 0, SETTINGS);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let waiting = client.submit(&json!({"text": "patient"}));
    let kept_result = format!("{waiting}.run");
    admin.put_result(&kept_result, "a record may still refer to this result");
    // One job without a message that a repeated request repairs, and one that becomes lost.
    let repaired = accepted_id(&submit_named(&client, "repaired"));
    admin.remove_message("JOBS", &message_subject(&repaired));
    let revision = || client.get(&format!("/v1/jobs/{repaired}")).header("etag").map(str::to_owned);
    let before = revision();
    assert_eq!(accepted_id(&submit_named(&client, "repaired")), repaired);
    assert_ne!(revision(), before, "a new revision makes a concurrent sweeper fail");
    let lost_with_key = accepted_id(&submit_named(&client, "lost"));
    admin.remove_message("JOBS", &message_subject(&lost_with_key));

    let lost = submit_and_lose_message(&client, &admin);
    let job = wait_until_lost(&client, &lost);
    assert_eq!(job["attempts"], json!([]), "{job}");
    let problem = client.get(&format!("/v1/jobs/{lost}/result")).expect_problem(409, "job_failed");
    assert_eq!(problem["failure"]["code"], "lost", "{problem}");
    assert_eq!(admin.message_count("DEAD_JOBS"), 0);

    assert_eq!(get_status(&client, &waiting), "queued");
    assert_eq!(get_status(&client, &repaired), "queued");
    assert_eq!(admin.message_count("JOBS"), 2);
    assert!(admin.has_result(&kept_result));
    let repeated = submit_named(&client, "lost");
    assert_eq!(repeated.status, 200, "{repeated:?}");
    assert_eq!(repeated.json()["failure"]["code"], "lost", "{repeated:?}");
    assert_eq!(admin.message_count("JOBS"), 2);

    let alarm = stack.gateways[0]
        .process
        .wait_for_log("oldest unfinished job exceeds WORDMILL_ALARM_AGE", LIMIT);
    assert_eq!(alarm["level"], "WARN", "{alarm}");
    assert_eq!(alarm["job.id"], waiting.as_str(), "{alarm}");
}

#[test]
fn running_and_delayed_jobs_are_not_lost() {
    let stack = Stack::with(1, 1, SETTINGS);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let retried = client.submit_url(&site.put("/busy", Page::status("503 Service Unavailable")));
    wait_for("the job waits for its second attempt", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{retried}")).json();
        job["next_attempt_at"].is_string().then_some(())
    });
    let slow = Page::new("text/plain", "two words").after(Duration::from_secs(2));
    let running = client.submit_url(&site.put("/slow", slow));
    wait_for("the job runs", LIMIT, || (get_status(client, &running) == "running").then_some(()));
    let worker = &stack.workers[0].process;
    worker.signal(Signal::STOP);

    let lost = submit_and_lose_message(client, &admin);
    wait_until_lost(client, &lost);
    assert_eq!(get_status(client, &retried), "queued");
    assert_eq!(get_status(client, &running), "running");
    worker.signal(Signal::CONT);
    let job = client.wait_until_final(&running, LIMIT);
    assert_fields(&job, json!({"status": "succeeded", "totals.words": 2}));
    assert_eq!(array_length(&job["attempts"]), 1, "{job}");
    assert_eq!(get_status(client, &retried), "queued");
}

#[test]
fn only_objects_without_a_job_are_removed() {
    let mut stack = Stack::with(1, 1, SETTINGS);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let words: Vec<String> = (0..12_000).map(|n| format!("word{n:05}")).collect();
    let large = client.submit(&json!({"text": words.join(" ")}));
    client.wait_until_final(&large, LIMIT);
    let parts = admin.message_count("OBJ_results");
    assert!(parts >= 2, "the result is an object");
    stack.workers[0].process.stop();

    // The result of a superseded run, and a result whose record has expired.
    let orphans = [format!("{large}.run"), "0198f0c2-0000-7000-8000-00000000dead.run".to_owned()];
    for orphan in &orphans {
        admin.put_result(orphan, "an orphan");
    }
    let cancelled = client.submit(&json!({"text": "not any more"}));
    admin.rewrite_record(&cancelled, |record| {
        record["status"] = json!("cancelled");
        record["finished_at"] = record["created_at"].clone();
    });
    admin.wait_until_idle();
    assert_eq!(get_status(&client, &cancelled), "cancelled");
    for orphan in &orphans {
        wait_for("the orphan is removed", LIMIT, || (!admin.has_result(orphan)).then_some(()));
    }
    wait_for("the parts of the orphans are removed", LIMIT, || {
        (admin.message_count("OBJ_results") == parts).then_some(())
    });
    assert_eq!(client.result(&large)["word_count"].as_object().map(|all| all.len()), Some(12_000));
}

#[test]
fn one_gateway_sweeps_and_another_takes_over() {
    let directory = TempDir::new().expect("a directory");
    let nats = Nats::start(directory.path());
    nats.provision(&[]);
    let admin = Admin::connect(&nats);
    admin.reconfigure("KV_leases", |config| {
        config.max_age = Duration::from_secs(2);
        config.duplicate_window = Duration::from_secs(2);
    });
    let start = || {
        let gateway = Gateway::start(&nats.address(), SETTINGS);
        wait_until_ready(&gateway.client);
        gateway
    };
    let mut first = start();
    first.process.wait_for_log("sweeper lease acquired", LIMIT);
    let mut second = start();

    let lost = submit_and_lose_message(&second.client, &admin);
    wait_until_lost(&second.client, &lost);
    let sweeps = |gateway: &Gateway| {
        gateway.process.output().contains(r#""message":"sweeper lease acquired""#)
    };
    assert!(sweeps(&first) && !sweeps(&second), "{}", second.process.output());
    first.process.kill();
    second.process.wait_for_log("sweeper lease acquired", LIMIT);
    let lost = submit_and_lose_message(&second.client, &admin);
    wait_until_lost(&second.client, &lost);
}
