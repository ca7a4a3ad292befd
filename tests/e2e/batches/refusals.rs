//! Refused and interrupted batches. A batch that is refused as a whole starts no job. The answer to
//! an interrupted one names the jobs that were accepted.

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::stack::Stack;
use wordmill_tests::upload::Upload;
use wordmill_tests::{LIMIT, wait_for};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JSON: (&str, &str) = ("content-type", "application/json");
const KEY: (&str, &str) = ("idempotency-key", "monday");
const BATCHES: &str = "/v1/batches";

fn job(n: usize) -> Value {
    json!({"text": format!("job {n}")})
}

fn body(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Sends a batch with one job per line and the idempotency key [`KEY`].
fn send_lines(client: &Client, lines: &[Value]) -> Answer {
    client.send("POST", BATCHES, &[NDJSON, KEY], body(lines).as_bytes())
}

fn require_accepted(answer: &Answer) -> Value {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()
}

/// Returns the last sequences of the queue and of the records. Each accepted job increments both.
fn last_sequences(admin: &Admin) -> (u64, u64) {
    (admin.last_sequence("JOBS"), admin.last_sequence("KV_job_state"))
}

/// Asserts that a request is refused with this problem and stores nothing.
fn assert_refused(
    admin: &Admin,
    (status, code): (u16, &str),
    request: impl FnOnce() -> Answer,
) -> Value {
    let before = last_sequences(admin);
    let problem = request().expect_problem(status, code);
    assert_eq!(last_sequences(admin), before, "{code} started jobs: {problem}");
    problem
}

#[test]
fn an_invalid_batch_is_refused_before_any_job_starts() {
    let webhooks = ("WORDMILL_WEBHOOK_SECRETS", "0123456789abcdef0123456789abcdef");
    let stack = Stack::with(1, 0, &[("WORDMILL_JSON_SIZE_MAX", "1KiB"), webhooks]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let good = body(&[job(1), job(2)]);
    let post = |query: &str, headers: &[(&str, &str)], body: &str| {
        client.send("POST", &format!("{BATCHES}{query}"), headers, body.as_bytes())
    };
    let csv = ("content-type", "text/csv");
    for (refusal, query, headers) in [
        ((415, "unsupported_media_type"), "", &[csv][..]),
        ((415, "unsupported_media_type"), "", &[]),
        ((400, "invalid_idempotency_key"), "", &[NDJSON, ("idempotency-key", "")]),
        ((400, "invalid_query"), "?lane=interactive", &[NDJSON]),
        ((422, "invalid_option"), "?colour=red", &[NDJSON]),
        ((422, "invalid_option"), "?rule=none", &[NDJSON]),
        ((422, "invalid_label"), "?label=x", &[NDJSON]),
        ((422, "invalid_webhook"), "?webhook=ftp://example.org/", &[NDJSON]),
    ] {
        assert_refused(&admin, refusal, || post(query, headers, &good));
    }
    let long = json!({"text": "x".repeat(2000)}).to_string();
    for (headers, body) in [
        (&[NDJSON][..], ""),
        (&[NDJSON, KEY], "{}\n{\"url\": \"nowhere\"}\n"),
        (&[NDJSON], &long),
        (&[JSON], "[]"),
        (&[JSON], "{\"text\": \"a\"}"),
        (&[JSON], "[{\"te"),
    ] {
        assert_refused(&admin, (422, "empty_batch"), || post("", headers, body));
    }
    // No refused batch reserves the key.
    require_accepted(&post("", &[NDJSON, KEY], &good));
}

#[test]
fn another_body_with_the_key_of_a_batch_starts_nothing() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let lines: Vec<Value> = (0..20).map(job).collect();
    let first = require_accepted(&send_lines(client, &lines));
    let reused = (422, "idempotency_key_reused");

    let more = [&lines[..], &[job(20), job(21)]].concat();
    assert_refused(&admin, reused, || send_lines(client, &more));
    assert_refused(&admin, reused, || send_lines(client, &lines[..19]));
    let mut other = more.clone();
    other[3] = job(100);
    let problem = assert_refused(&admin, reused, || send_lines(client, &other));
    assert_eq!(problem["accepted"], Value::Null, "nothing is accepted: {problem}");
    let mut damaged = more.clone();
    damaged[3] = json!({"url": "nowhere"});
    assert_refused(&admin, reused, || send_lines(client, &damaged));
    // All lines beyond the limit are refused as line 10,001.
    let many: Vec<Value> = (0..10_001).map(job).collect();
    assert_refused(&admin, reused, || send_lines(client, &many));
    let array = json!(more).to_string();
    let unclosed = &array[..array.len() - 1];
    let headers = [JSON, KEY];
    assert_refused(&admin, reused, || client.send("POST", BATCHES, &headers, unclosed.as_bytes()));
    assert_refused(&admin, (400, "incomplete_body"), || {
        let headers = [NDJSON, KEY, ("content-length", "100000")];
        let mut upload = Upload::begin(client, "POST", BATCHES, &headers);
        assert!(upload.send(body(&more).as_bytes()));
        upload.close();
        upload.answer()
    });
    // If every line differs, the answer has the problem for each line.
    let others: Vec<Value> = (100..120).map(job).collect();
    let problem = assert_refused(&admin, reused, || send_lines(client, &others));
    assert_eq!(problem["lines"][0]["problem"]["code"], "idempotency_key_reused", "{problem}");

    // The same body returns the existing batch and starts nothing.
    let before = last_sequences(&admin);
    let again = require_accepted(&send_lines(client, &lines));
    assert_fields(&again, json!({"batch_id": first["batch_id"], "lines": first["lines"]}));
    assert_eq!(last_sequences(&admin), before);
}

#[test]
fn the_key_of_an_expired_batch_starts_nothing() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let first = require_accepted(&send_lines(client, &[job(0)]));
    let path = format!("/v1/jobs/{}", first["batch_id"].as_str().expect("an id"));
    assert_eq!(client.send("POST", &format!("{path}/cancel"), &[], &[]).status, 200);
    assert_eq!(client.send("DELETE", &path, &[], &[]).status, 204);
    assert_refused(&admin, (410, "result_expired"), || send_lines(client, &[job(0), job(1)]));
}

#[test]
fn a_repeated_request_enqueues_a_batch_without_a_message() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let lines = [job(0), job(1)];
    let first = require_accepted(&send_lines(client, &lines));
    admin.delete_message("JOBS", admin.last_sequence("JOBS"));
    assert_eq!(admin.message_count("JOBS"), 2);
    // This is the state after a gateway crash between creating the record and publishing the
    // message.
    let again = require_accepted(&send_lines(client, &lines));
    assert_eq!(again["batch_id"], first["batch_id"]);
    assert_eq!(admin.message_count("JOBS"), 3);
}

#[test]
fn an_incomplete_body_is_answered_with_the_accepted_jobs() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let headers = [NDJSON, ("content-length", "100000")];
    let mut upload = Upload::begin(client, "POST", BATCHES, &headers);
    assert!(upload.send(body(&[job(0), json!({}), job(2)]).as_bytes()));
    upload.close();
    let problem = upload.answer().expect_problem(400, "incomplete_body");
    assert_eq!(problem["accepted"], 2, "{problem}");
    assert_eq!(admin.message_count("JOBS"), 2);
    let lines = problem["lines"].as_array().expect("lines");
    for job_id in [&lines[0]["job_id"], &lines[2]["job_id"]] {
        let job = client.get(&format!("/v1/jobs/{}", job_id.as_str().expect("an id")));
        assert_eq!(job.json()["status"], "queued", "{job:?}");
    }
    assert_eq!(lines[1]["problem"]["code"], "invalid_request", "{problem}");
}

#[test]
fn of_two_concurrent_bodies_the_refused_one_lists_running_jobs() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let lines: Vec<Value> = (0..20).map(job).collect();
    let more = [&lines[..], &[job(20), job(21)]].concat();
    let first = body(&more[..1]);
    let rest = body(&more[1..]);
    let length = (first.len() + rest.len()).to_string();
    let headers = [NDJSON, KEY, ("content-length", length.as_str())];
    let mut slow = Upload::begin(client, "POST", BATCHES, &headers);
    assert!(slow.send(first.as_bytes()));
    wait_for("the first job is queued", LIMIT, || (admin.message_count("JOBS") == 1).then_some(()));
    require_accepted(&send_lines(client, &lines));
    assert!(slow.send(rest.as_bytes()));
    let problem = slow.answer().expect_problem(422, "idempotency_key_reused");
    let named = problem["lines"].as_array().expect("lines").iter();
    assert_eq!(named.filter(|line| line["job_id"].is_string()).count(), 22, "{problem}");
    // The batch, its 20 members, and the two jobs that only the slow request contained.
    assert_eq!(admin.message_count("JOBS"), 1 + 20 + 2);
}
