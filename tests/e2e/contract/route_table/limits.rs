//! Valid requests that are refused because they are too large or too slow, or because a limit is
//! reached.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::array_length;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::keyring::Keyring;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::Rule;
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Stack, Worker, wait_until_ready};
use wordmill_tests::stream::EventStream;
use wordmill_tests::upload::Upload;
use wordmill_tests::{LIMIT, wait_for};

use super::case::{Case, Names};
use super::successes::SECRET;
use crate::jobs::document_retention::crash_worker;

/// A short grace period, so that the services do not wait for slow pages when a test ends.
pub const SHORT_SHUTDOWN_GRACE: (&str, &str) = ("WORDMILL_SHUTDOWN_GRACE", "100ms");
const JOB_ID: &str = "0198f0c2-0000-7000-8000-000000000001";
const TEXT: (&str, &str) = ("content-type", "text/plain");

fn put() -> String {
    format!("PUT /v1/jobs/{JOB_ID}")
}

/// Returns a small submission for each way to submit a job.
fn submissions(expected: &str) -> Vec<Case> {
    let text = json!({"text": "a"});
    vec![
        Case::new(expected, "POST /v1/jobs").json(&text),
        Case::new(expected, "POST /v1/jobs").json(&text).header("idempotency-key", "new"),
        Case::new(expected, &put()).json(&text),
        Case::new(expected, "POST /v1/batches").lines(std::slice::from_ref(&text)),
        Case::new(expected, "POST /v1/jobs/{failed}/retry"),
    ]
}

/// Bodies at and above the maximum size. `WORDMILL_JSON_SIZE_MAX` and `WORDMILL_DOCUMENT_SIZE_MAX`
/// are 2 KiB.
pub fn sizes() -> Vec<Case> {
    let large = "413 input_too_large";
    let put = put();
    // The JSON around the text is 11 bytes long.
    let text = |length: usize| json!({"text": "a".repeat(length - 11)});
    let mut cases = vec![
        Case::new("202", "POST /v1/jobs").json(&text(2048)),
        Case::new("202", "POST /v1/jobs").text(&"a".repeat(2048)),
        Case::new(large, "POST /v1/dead-letters/replay").json(&text(2049)),
    ];
    for request in ["POST /v1/jobs", put.as_str()] {
        cases.push(Case::new(large, request).json(&text(2049)));
        cases.push(Case::new(large, request).text(&"a".repeat(2049)));
    }
    cases
}

/// Requests for webhooks while webhooks are disabled, and long polls and event streams while the
/// maximum number of waiting clients, 1, is reached.
pub fn disabled_webhooks_and_waiters() -> Vec<Case> {
    let disabled = "422 webhooks_disabled";
    let text = json!({"text": "a"});
    let hook = json!({"url": "http://127.0.0.1:9/"});
    let put = put();
    let mut cases = Vec::new();
    for request in ["POST /v1/jobs", put.as_str()] {
        let query = format!("{request}?webhook=http://127.0.0.1:9/");
        cases.push(Case::new(disabled, request).json(&json!({"text": "a", "webhook": hook})));
        cases.push(Case::new(disabled, &query).json(&text));
        cases.push(Case::new(disabled, &query).text("a"));
    }
    let batch = "POST /v1/batches?webhook=http://127.0.0.1:9/";
    cases.push(Case::new(disabled, batch).lines(&[text]));
    cases.push(Case::new(disabled, "POST /v1/jobs/{webhook_job}/webhook"));
    for request in [
        "GET /v1/jobs/{slow}?wait=1",
        "GET /v1/jobs/{slow}/events",
        "GET /v1/batches/{batch}?wait=1",
    ] {
        cases.push(Case::new("503 too_many_waiting", request));
    }
    cases
}

/// Bodies that end early.
pub fn incomplete_bodies() -> Vec<Case> {
    let put = put();
    let mut cases: Vec<Case> = ["POST /v1/jobs", put.as_str()]
        .map(|request| {
            Case::new("400 incomplete_body", request).text("to be").with_incomplete_body()
        })
        .into();
    let batch = Case::new("400 incomplete_body", "POST /v1/batches");
    cases.push(batch.lines(&[json!({"text": "a"})]).with_incomplete_body());
    cases
}

/// Bodies that stall. The timeout of documents is a setting, the timeout of other bodies is 15 s.
pub fn stalled_bodies() -> Vec<Case> {
    let put = put();
    let text = json!({"text": "a"});
    let timed_out = |request: &str| Case::new("408 request_timeout", request);
    vec![
        timed_out("POST /v1/jobs").text("to be").with_stalled_body(),
        timed_out(&put).text("to be").with_stalled_body(),
        timed_out("POST /v1/jobs").json(&text).with_stalled_body(),
        timed_out(&put).json(&text).with_stalled_body(),
        timed_out("POST /v1/batches").lines(&[text]).with_stalled_body(),
        timed_out("POST /v1/dead-letters/replay")
            .json(&json!({"ids": [JOB_ID]}))
            .with_stalled_body(),
    ]
}

/// Submissions of an owner that has reached its quota.
pub fn quotas() -> Vec<Case> {
    let mut cases = submissions("429 quota_exceeded");
    cases.push(
        Case::new("429 rate_limited", "POST /word-count").json(&json!({"url": "http://a.b"})),
    );
    cases
}

/// Submissions of a document while the document store is full.
pub fn full_store() -> Vec<Case> {
    let full = "503 storage_full";
    let document = "word ".repeat(100_000);
    vec![
        Case::new(full, "POST /v1/jobs").text(&document),
        Case::new(full, &put()).text(&document),
        Case::new(full, "POST /v1/jobs/{document}/retry"),
    ]
}

/// Submissions whose messages exceed the queue's limit of 1,500 bytes.
pub fn small_queue() -> Vec<Case> {
    let large = "413 input_too_large";
    // The batch's own message lists the refused lines, which makes it too large.
    let lines: Vec<Value> =
        (0..500).map(|n| if n % 2 == 0 { json!({"text": "a"}) } else { json!(n) }).collect();
    vec![
        Case::new(large, "POST /v1/jobs/{long}/retry"),
        Case::new(large, "POST /v1/batches").lines(&lines),
    ]
}

/// Submissions while the queue is full.
pub fn full_queue() -> Vec<Case> {
    submissions("503 queue_full")
}

/// A webhook that is sent again while the webhook queue is full.
pub fn full_webhooks() -> Vec<Case> {
    vec![Case::new("503 webhooks_full", "POST /v1/jobs/{webhook_job}/webhook")]
}

/// Submissions while the in-flight budget is exhausted.
pub fn exhausted_budget() -> Vec<Case> {
    let mut cases = submissions("503 overloaded");
    // A replay reserves budget for the size of its body.
    let replay = format!("{}{{\"ids\": [\"{JOB_ID}\"]}}", " ".repeat(40 << 10));
    let request = "POST /v1/dead-letters/replay";
    cases.push(Case::new("503 overloaded", request).body("application/json", &replay));
    cases
}

fn send_and_check(cases: Vec<Case>, client: &Client, names: &Names) {
    for case in cases {
        case.send_and_check(client, names);
    }
}

/// Creates two failed jobs (one with a long URL), a running one, one with a delivered webhook, and
/// a batch.
fn prepare_names(client: &Client, site: &Site, receiver: &Receiver) -> Names {
    let mut names = Names::default();
    let missing = site.put("/missing", Page::status("404 Not Found"));
    let slow = site.put("/slow", Page::new("text/plain", "slow").after(LIMIT));
    let long = format!("{missing}?{}", "a".repeat(2000));
    let failed = client.submit_url(&missing);
    let long = client.submit_url(&long);
    let webhook_job =
        client.submit(&json!({"text": "a", "webhook": {"url": receiver.url("/hook")}}));
    for id in [&failed, &long, &webhook_job] {
        client.wait_until_final(id, LIMIT);
    }
    wait_for("the webhook is delivered", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{webhook_job}")).json();
        (job["webhook"]["status"] != "waiting").then_some(())
    });
    let batch = client.post("/v1/batches", &json!([{"url": slow}])).json();
    names.add("batch", batch["batch_id"].as_str().expect("a batch"));
    names.add("slow", client.submit_url(&slow));
    names.add("failed", failed);
    names.add("long", long);
    names.add("webhook_job", webhook_job);
    names
}

/// Submits a document and rewrites its record as if a worker had crashed, so that the next worker
/// dead-letters the job.
fn dead_document(stack: &Stack) -> String {
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let body = "word ".repeat(100_000);
    let answer = client.send("POST", "/v1/jobs", &[TEXT], body.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let job_id = answer.json()["job_id"].as_str().expect("an id").to_owned();
    crash_worker(&admin, &job_id);
    job_id
}

#[test]
fn limits_of_state_and_size_are_reported_on_every_route() {
    let settings =
        [("WORDMILL_WEBHOOK_SECRETS", SECRET), ("WORDMILL_ATTEMPTS", "1"), SHORT_SHUTDOWN_GRACE];
    let mut stack = Stack::with(1, 0, &settings);
    let site = Site::start();
    let document = dead_document(&stack);
    let address = stack.nats.address();
    stack.workers.push(Worker::start(&address, &settings));
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    assert_eq!(client.wait_until_final(&document, LIMIT)["dead_lettered"], true);
    let receiver = Receiver::start();
    let mut names = prepare_names(client, &site, &receiver);
    names.add("document", document);

    let small = [
        ("WORDMILL_JSON_SIZE_MAX", "2KiB"),
        ("WORDMILL_DOCUMENT_SIZE_MAX", "2KiB"),
        ("WORDMILL_WAITERS_MAX", "1"),
        SHORT_SHUTDOWN_GRACE,
    ];
    let small = Gateway::start(&address, &small);
    wait_until_ready(&small.client);
    send_and_check(sizes(), &small.client, &names);
    send_and_check(incomplete_bodies(), &small.client, &names);
    let waiting = client.submit_url(&site.url("/slow"));
    let _waiting = EventStream::open(&small.client, &waiting, &[]);
    send_and_check(disabled_webhooks_and_waiters(), &small.client, &names);

    admin.reconfigure("OBJ_documents", |config| config.max_bytes = 600_000);
    send_and_check(full_store(), client, &names);
    admin.reconfigure("JOBS", |config| config.max_message_size = 1500);
    send_and_check(small_queue(), client, &names);
    admin.reconfigure("JOBS", |config| {
        config.max_message_size = -1;
        config.max_messages = 1;
    });
    send_and_check(full_queue(), client, &names);
    admin.reconfigure("WEBHOOKS", |config| config.max_messages = 1);
    receiver.set_replies("/busy", &[Reply::Status("503 Service Unavailable", "")]);
    admin.reconfigure("JOBS", |config| config.max_messages = 1000);
    wait_for("the queue has room again", LIMIT, || {
        let body = json!({"text": "a", "webhook": {"url": receiver.url("/busy")}});
        (client.post("/v1/jobs", &body).status == 202).then_some(())
    });
    wait_for("a webhook is queued", LIMIT, || (admin.message_count("WEBHOOKS") == 1).then_some(()));
    send_and_check(full_webhooks(), client, &names);
}

#[test]
fn an_exhausted_quota_is_reported_on_every_route() {
    let mut keys = Keyring::new();
    let key = keys.add("modest", &json!({"queue_quota": 1}));
    let (name, path) = keys.setting();
    let stack = Stack::with(1, 1, &[(name, &path), SHORT_SHUTDOWN_GRACE]);
    let site = Site::start();
    let client = stack.client().with_key(&key);
    let mut names = Names::default();
    let failed = client.submit_url(&site.put("/missing", Page::status("404 Not Found")));
    client.wait_until_final(&failed, LIMIT);
    names.add("failed", failed);
    let slow = site.put("/slow", Page::new("text/plain", "slow").after(LIMIT));
    wait_for("the quota admits one more job", LIMIT, || {
        (client.post("/v1/jobs", &json!({"url": slow})).status == 202).then_some(())
    });
    send_and_check(quotas(), &client, &names);
}

#[test]
fn stalled_bodies_time_out_on_every_route() {
    let stack = Stack::with(1, 0, &[("WORDMILL_UPLOAD_STALL_TIMEOUT", "500ms")]);
    let names = Names::default();
    thread::scope(|scope| {
        for case in stalled_bodies() {
            let client = stack.client();
            let names = &names;
            scope.spawn(move || case.send_and_check(client, names));
        }
    });
    assert_eq!(array_length(&stack.client().get("/v1/jobs").json()["data"]), 1);
}

#[test]
fn an_exhausted_in_flight_budget_is_reported_on_every_route() {
    /// Number of concurrent document uploads that fit into the in-flight budget.
    const DOCUMENTS: u32 = 51;
    let settings = [("WORDMILL_UPLOAD_STALL_TIMEOUT", "5m")];
    let stack = ProxiedStack::start(Proxied::Gateways(1), &settings);
    let _worker = stack.start_direct_worker(&[]);
    let client = stack.client();
    let mut names = Names::default();
    let failed = client.submit_url(&stack.site.put("/missing", Page::status("404 Not Found")));
    client.wait_until_final(&failed, LIMIT);
    names.add("failed", failed);

    let endless = [TEXT, ("transfer-encoding", "chunked")];
    let uploads: Vec<Upload> = (0..DOCUMENTS)
        .map(|_| {
            let mut upload = Upload::begin(client, "POST", "/v1/jobs", &endless);
            assert!(upload.send_chunk(b"a"));
            upload
        })
        .collect();
    // All uploads must have reserved their share before the jobs arrive. Otherwise too much of the
    // budget would be free.
    wait_for("the budget has no room for another document", LIMIT, || {
        let metrics = Metrics::fetch(client);
        let [used, all] = ["taken_bytes", "bytes"]
            .map(|name| metrics.sum(&format!("wordmill_submission_room_{name}"), &[]));
        let (used, all) = used.zip(all)?;
        // Less than the share of one document is free.
        (all - used < used / f64::from(DOCUMENTS)).then_some(())
    });
    // Jobs whose messages the proxy holds use the rest of the budget.
    let held_messages = stack.proxy().add_rule(Rule::hold("jobs."));
    let is_stopped = AtomicBool::new(false);
    let end = Instant::now() + LIMIT;
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !is_stopped.load(Ordering::SeqCst) && Instant::now() < end {
                    client.post("/v1/jobs", &json!({"text": "a"}));
                }
            });
        }
        wait_for("the budget is exhausted", LIMIT, || (held_messages.count() >= 8).then_some(()));
        for case in exhausted_budget() {
            let answer = wait_for("the request is refused", LIMIT, || {
                // The held jobs time out at the same time and release their budget. A case that is
                // admitted then would create its job, so a probe is sent first.
                let is_full = |answer: &Answer| answer.text.contains("overloaded");
                let probe = client.post("/v1/jobs", &json!({"text": "a"}));
                is_full(&probe).then(|| case.send(client, &names)).filter(is_full)
            });
            case.check(&answer);
        }
        is_stopped.store(true, Ordering::SeqCst);
    });
    drop(uploads);
}
