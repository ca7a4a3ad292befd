//! Long polls and `Prefer: wait`: clients that wait for changes of a job.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{assert_answer, assert_fields};
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::metrics::Metrics;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::stream::EventStream;
use wordmill_tests::{LIMIT, pause, wait_for};

const JSON: (&str, &str) = ("content-type", "application/json");

fn submit(client: &Client, prefer: &str, body: &Value) -> Answer {
    let headers = [JSON, ("prefer", prefer)];
    client.send("POST", "/v1/jobs", &headers, body.to_string().as_bytes())
}

fn etag(answer: &Answer) -> String {
    answer.header("etag").unwrap_or_else(|| panic!("no ETag: {answer:?}")).to_owned()
}

/// Polls a job with the entity tag of an earlier response.
fn poll(client: &Client, job_id: &str, wait: &str, known: &str) -> Answer {
    let path = format!("/v1/jobs/{job_id}{wait}");
    client.send("GET", &path, &[("if-none-match", known)], &[])
}

#[test]
fn one_call_submits_and_returns_the_finished_job() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let text = json!({"text": "to be or not to be"});
    let answer = submit(client, "respond-async, wait=30", &text);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("preference-applied"), Some("wait=30"));
    let job = answer.json();
    assert_fields(&job, json!({"status": "succeeded", "totals.words": 6}));
    let location = answer.header("location").expect("a location");
    assert_eq!(client.get(location).json(), job);

    // A failed job is also final. A wait above the maximum is reduced to 60 s.
    let answer = submit(client, "wait=9999", &json!({"url": site.url("/missing")}));
    assert_eq!(answer.header("preference-applied"), Some("wait=60"), "{answer:?}");
    assert_answer(&answer, 200, json!({"status": "failed"}));

    // Jobs with an id or a key of the client, new and repeated.
    let path = "/v1/jobs/0198f0c2-0000-7000-8000-000000000001";
    for _ in 0..2 {
        let headers = [JSON, ("prefer", "wait=30")];
        let answer = client.send("PUT", path, &headers, text.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("preference-applied"), Some("wait=30"));
    }
    let headers = [JSON, ("prefer", "wait=30"), ("idempotency-key", "again")];
    let answer = client.send("POST", "/v1/jobs", &headers, text.to_string().as_bytes());
    assert_answer(&answer, 200, json!({"status": "succeeded"}));
}

#[test]
fn a_wait_that_expires_returns_202() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let text = json!({"text": "a b"});
    for prefer in ["wait=1", "wait=0", "wait=soon", "return=minimal"] {
        let started = Instant::now();
        let answer = submit(client, prefer, &text);
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.header("preference-applied"), None);
        assert!(answer.header("retry-after").is_some() && answer.header("location").is_some());
        assert_eq!(answer.json()["status"], "queued");
        assert_eq!(started.elapsed() >= Duration::from_secs(1), prefer == "wait=1", "{prefer}");
    }
}

#[test]
fn a_long_poll_without_a_revision_waits_until_the_job_is_final() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a b c"}));
    let unfinished = client.get(&format!("/v1/jobs/{job_id}?wait=1"));
    assert_answer(&unfinished, 200, json!({"status": "queued"}));
    let waiting = {
        let client = client.clone();
        let path = format!("/v1/jobs/{job_id}?wait=60");
        std::thread::spawn(move || client.get(&path))
    };
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    let answer = waiting.join().expect("an answer");
    assert_answer(&answer, 200, json!({"status": "succeeded"}));
    let job = client.get(&format!("/v1/jobs/{job_id}?wait=60"));
    assert_eq!(job.json(), answer.json());
    assert_eq!(etag(&job), etag(&answer));
}

#[test]
fn a_long_poll_with_a_revision_returns_on_any_change() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a b c"}));
    let queued = client.get(&format!("/v1/jobs/{job_id}"));
    let known = etag(&queued);

    for wait in ["", "?wait=0", "?wait=1"] {
        let answer = poll(client, &job_id, wait, &known);
        assert_eq!(answer.status, 304, "{answer:?}");
        assert_eq!(answer.text, "", "{answer:?}");
        assert_eq!(etag(&answer), known);
    }
    for other in ["\"1000\"", "nonsense"] {
        assert_eq!(poll(client, &job_id, "?wait=60", other).json(), queued.json());
    }
    let waiting = {
        let client = client.clone();
        let job_id = job_id.clone();
        let known = known.clone();
        std::thread::spawn(move || poll(&client, &job_id, "?wait=60", &known))
    };
    pause(Duration::from_millis(300));
    admin.rewrite_record(&job_id, |record| record["labels"] = json!({"changed": "yes"}));
    let changed = waiting.join().expect("an answer");
    assert_answer(&changed, 200, json!({"labels": {"changed": "yes"}}));
    assert_ne!(etag(&changed), known);

    // A final record never changes, so the response is immediate.
    let cancelled = client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    let started = Instant::now();
    assert_eq!(poll(client, &job_id, "?wait=60", &etag(&cancelled)).status, 304);
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn invalid_waits_are_refused() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a"}));
    for query in ["wait=61", "wait=-1", "wait=soon", "wait=", "wait=1&wait=1", "weight=1"] {
        let answer = client.get(&format!("/v1/jobs/{job_id}?{query}"));
        answer.expect_problem(400, "invalid_query");
    }
    let unknown = "0198f0c2-0000-7000-8000-000000000000";
    client.get(&format!("/v1/jobs/{unknown}?wait=60")).expect_problem(404, "job_not_found");
    client.get("/v1/jobs/nonsense?wait=60").expect_problem(400, "invalid_job_id");
}

#[test]
fn a_wait_survives_an_outage_of_the_broker() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let job_id = client.submit(&json!({"text": "a b c"}));
    let waiting = {
        let client = client.clone();
        let path = format!("/v1/jobs/{job_id}?wait=60");
        // On a busy machine the broker may be killed before the wait begins.
        std::thread::spawn(move || {
            wait_for("the wait is answered", 2 * LIMIT, || {
                Some(client.get(&path)).filter(|answer| answer.status != 503)
            })
        })
    };
    let mut events = EventStream::open(&client, &job_id, &[]);
    assert_eq!(events.next_job(LIMIT).expect("an event").id_and_status().1, "queued");
    stack.nats.process.kill();
    stack.nats.restart();
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    let answer = waiting.join().expect("an answer");
    assert_answer(&answer, 200, json!({"status": "succeeded"}));
    let last = std::iter::from_fn(|| events.next_job(LIMIT)).last().expect("an event");
    assert_eq!(last.id_and_status().1, "succeeded");
}

#[test]
fn a_change_without_a_notification_is_found() {
    let stack = Stack::with(1, 1, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    // Without republished changes, the gateway finds a change only by reading the record again.
    admin.reconfigure("KV_job_state", |config| config.republish = None);
    let site = Site::start();
    let page = Page::new("text/plain", "a b").after(Duration::from_secs(2));
    let url = site.put("/slow", page);
    let job_id = client.submit_url(&url);
    let answer = client.get(&format!("/v1/jobs/{job_id}?wait=60"));
    assert_eq!(answer.json()["status"], "succeeded", "{answer:?}");
    let answer = submit(client, "wait=60", &json!({"url": url}));
    assert_answer(&answer, 200, json!({"status": "succeeded"}));
}

#[test]
fn the_number_of_waiting_clients_is_bounded() {
    let stack = Stack::with(1, 0, &[("WORDMILL_WAITERS_MAX", "2")]);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a"}));
    let known = etag(&client.get(&format!("/v1/jobs/{job_id}")));
    let mut streams: Vec<_> = (0..2).map(|_| EventStream::open(client, &job_id, &[])).collect();
    let full = poll(client, &job_id, "?wait=1", &known);
    full.expect_problem(503, "too_many_waiting");
    let count = |name| Metrics::fetch(client).sum(name, &[]);
    assert_eq!(count("wordmill_clients_waiting"), Some(2.0));
    assert_eq!(count("wordmill_clients_waiting_max"), Some(2.0));
    let refused = client.get(&format!("/v1/jobs/{job_id}/events"));
    refused.expect_problem(503, "too_many_waiting");
    // Requests that do not wait are still served, and a submission is accepted without waiting.
    assert_eq!(client.get(&format!("/v1/jobs/{job_id}")).status, 200);
    assert_eq!(submit(client, "wait=30", &json!({"text": "b"})).status, 202);
    // A client that disconnects frees its place.
    streams.pop();
    wait_for("a place is free", LIMIT, || {
        (poll(client, &job_id, "?wait=1", &known).status == 304).then_some(())
    });
}
