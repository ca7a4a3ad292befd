//! Backpressure: a queue that fills up refuses first bulk jobs, then interactive jobs. Polls are
//! still answered.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;
use wordmill_tests::admin::Admin;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::wait_for;
use wordmill_tests::{LIMIT, pause};

/// Maximum time until the gateway notices a change of the queue, which it reads once a second.
const NOTICE_TIME_MAX: Duration = Duration::from_secs(10);

fn submit_bulk(client: &Client) -> Answer {
    client.post("/v1/jobs", &json!({"text": "a", "lane": "bulk"}))
}

/// Waits until the gateway refuses bulk jobs.
fn wait_until_bulk_is_refused(client: &Client) -> Answer {
    wait_for("bulk jobs are refused", NOTICE_TIME_MAX, || {
        pause(Duration::from_millis(200));
        Some(submit_bulk(client)).filter(|answer| answer.status != 202)
    })
}

fn expect_queue_full(answer: &Answer) {
    answer.expect_problem(503, "queue_full");
    let after: u64 = answer.header("retry-after").expect("a field").parse().expect("seconds");
    assert!((1..=60).contains(&after), "{answer:?}");
}

fn assert_polls_and_older_contract_answer(client: &Client, job_id: &str) {
    let started = Instant::now();
    assert_eq!(client.get(&format!("/v1/jobs/{job_id}")).json()["status"], "queued");
    // Shorter than the time that a request may wait for the broker.
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let older = client.post("/word-count", &json!({"url": "http://example.org/"}));
    assert_eq!(older.status, 500, "{older:?}");
    assert_eq!(older.json()["success"], false, "{older:?}");
    assert_eq!(older.json()["data"], json!({}), "{older:?}");
}

#[test]
fn bulk_jobs_are_refused_before_interactive_jobs() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    admin.reconfigure("JOBS", |config| config.max_messages = 50);
    let job_id = client.submit(&json!({"text": "a"}));
    (0..39).for_each(|_| drop(client.submit(&json!({"text": "a"}))));
    expect_queue_full(&wait_until_bulk_is_refused(client));
    let waiting = admin.message_count("JOBS");
    assert!((40..50).contains(&waiting), "bulk jobs were refused at {waiting} of 50");
    (waiting..50).for_each(|_| drop(client.submit(&json!({"text": "a"}))));
    expect_queue_full(&client.post("/v1/jobs", &json!({"text": "a"})));
    assert_polls_and_older_contract_answer(client, &job_id);
    assert_eq!(admin.message_count("JOBS"), 50);
}

#[test]
fn bytes_are_bounded_like_the_number_of_jobs() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    admin.reconfigure("JOBS", |config| config.max_bytes = 200_000);
    let text = json!({"text": "word ".repeat(2000)});
    let job_id = client.submit(&text);
    let mut accepted = 1;
    let refused = wait_for("the queue is full", NOTICE_TIME_MAX, || {
        let answer = client.post("/v1/jobs", &text);
        accepted += u64::from(answer.status == 202);
        (answer.status != 202).then_some(answer)
    });
    expect_queue_full(&refused);
    assert!((15..20).contains(&accepted), "{accepted}");
    let small = wait_until_bulk_is_refused(client);
    expect_queue_full(&small);
    let older = "http://example.org/".to_owned() + &"a".repeat(8000);
    wait_for("even small jobs are refused", NOTICE_TIME_MAX, || {
        (client.post("/v1/jobs", &json!({"url": older})).status == 503).then_some(())
    });
    assert_eq!(client.get(&format!("/v1/jobs/{job_id}")).json()["status"], "queued");
}

fn retry_after(answer: &Answer) -> u64 {
    expect_queue_full(answer);
    answer.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds")
}

#[test]
fn a_refused_client_gets_a_realistic_retry_after() {
    const MESSAGES_MAX: u64 = 50;
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    admin.reconfigure("JOBS", |config| {
        config.max_messages = MESSAGES_MAX.try_into().expect("a bound")
    });
    let url = site.put("/slow", Page::new("text/plain", "a").after(Duration::from_secs(1)));
    (0..MESSAGES_MAX).for_each(|_| drop(client.submit_url(&url)));
    // The queue does not drain, so the gateway can only answer the default of 5 s.
    assert_eq!(retry_after(&wait_until_bulk_is_refused(client)), 5);

    // Jobs run one after the other and take a little more than 1 s each.
    let started = Instant::now();
    let _worker = Worker::start(&stack.nats.address(), &[("WORDMILL_SLOTS", "2")]);
    let (retry_after_s, left) = wait_for("the rate is known", LIMIT, || {
        pause(Duration::from_millis(200));
        let left = admin.message_count("JOBS");
        let retry_after_s = retry_after(&submit_bulk(client));
        (left <= MESSAGES_MAX - 4 && retry_after_s != 5).then_some((retry_after_s, left))
    });
    let per_job = started.elapsed().as_secs_f64() / (MESSAGES_MAX - left) as f64;
    // The queue must drain to 80 %, and then one more job must fit.
    let expected = (left + 1 - MESSAGES_MAX * 8 / 10) as f64 * per_job;
    let ratio = retry_after_s as f64 / expected;
    assert!(
        (0.3..3.0).contains(&ratio),
        "answered {retry_after_s} s, expected {expected} s with {left} left"
    );
}

#[test]
fn a_gateway_with_an_unresponsive_broker_bounds_its_in_flight_bytes() {
    let settings = [("WORDMILL_JSON_SIZE_MAX", "2MiB")];
    let stack = ProxiedStack::start(Proxied::Gateways(1), &settings);
    let client = stack.client();
    stack.proxy().mute();
    let body = json!({"text": "word ".repeat(400_000)}).to_string();
    let end = Instant::now() + LIMIT;
    let refused = Mutex::new(None);
    // The in-flight budget is 64 MiB, enough for 32 of these bodies.
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                while refused.lock().expect("an answer").is_none() && Instant::now() < end {
                    let headers = [("content-type", "application/json")];
                    let sent = client.try_send("POST", "/v1/jobs", &headers, body.as_bytes());
                    let overloaded = |answer: &Answer| answer.text.contains("overloaded");
                    if let Some(answer) = sent.ok().filter(overloaded) {
                        *refused.lock().expect("an answer") = Some(answer);
                    }
                }
            });
        }
    });
    let refused = refused.into_inner().expect("an answer").expect("a refused request");
    refused.expect_problem(503, "overloaded");
    let after: u64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("s");
    assert!((1..=60).contains(&after), "{refused:?}");
    // The budget is free again once the broker answers.
    stack.proxy().restore();
    wait_until_ready(client);
    client.submit(&json!({"text": "a"}));
}
