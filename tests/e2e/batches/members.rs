//! Batches and their members: each line is accepted or refused independently.

use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{array_length, assert_answer, assert_fields};
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::keyring::Keyring;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::stream::{Event, EventStream};
use wordmill_tests::{LIMIT, wait_for};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Sends a batch with one job per line.
fn send_lines(client: &Client, query: &str, headers: &[(&str, &str)], lines: &[Value]) -> Answer {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let headers: Vec<_> = [&[NDJSON], headers].concat();
    client.send("POST", &format!("/v1/batches{query}"), &headers, body.as_bytes())
}

/// Sends a batch, asserts that it is accepted, and returns the answer.
pub(super) fn submit_batch(client: &Client, lines: &[Value]) -> Value {
    let answer = send_lines(client, "", &[], lines);
    assert_eq!(answer.status, 202, "{answer:?}");
    let batch = answer.json();
    let path = format!("/v1/batches/{}", require_batch_id(&batch));
    assert_eq!(answer.header("location"), Some(&*path));
    assert_eq!(batch["links"]["self"], path);
    batch
}

pub(super) fn require_batch_id(batch: &Value) -> &str {
    batch["batch_id"].as_str().expect("a batch id")
}

/// Returns the ids of the accepted jobs.
pub(super) fn member_ids(batch: &Value) -> Vec<String> {
    let lines = batch["lines"].as_array().expect("lines");
    lines.iter().filter_map(|line| line["job_id"].as_str()).map(str::to_owned).collect()
}

pub(super) fn get_batch(client: &Client, id: &str) -> Value {
    let answer = client.get(&format!("/v1/batches/{id}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

pub(super) fn counts(succeeded: u32, failed: u32, cancelled: u32, refused: u32) -> Value {
    json!({
        "queued": 0, "running": 0, "succeeded": succeeded, "failed": failed,
        "cancelled": cancelled, "gone": 0, "refused": refused,
    })
}

#[test]
fn each_line_is_accepted_or_refused_independently() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let url = site.put("/page", Page::new("text/html", "<p>the river</p><p>the mill</p>"));
    let long = (0..9000).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
    let body = [
        json!({"text": "the mill by the river", "labels": {"part": "1"}}).to_string(),
        "{\"text\": ".to_owned(),
        json!({"url": "ftp://example.org/"}).to_string(),
        json!({"url": url}).to_string(),
        String::new(),
        json!({"text": "a", "lane": "bulk"}).to_string(),
        json!({"text": "a", "options": {"rule": "office"}}).to_string(),
        json!({"text": "l'été", "options": {"language": "fr"}}).to_string(),
        json!({"text": long}).to_string(),
    ]
    .join("\n");
    let path = "/v1/batches?label=book:2600&top=2";
    let answer = client.send("POST", path, &[NDJSON], body.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let sent = answer.json();
    assert_fields(&sent, json!({"accepted": 4, "refused": 4}));
    let lines = sent["lines"].as_array().expect("lines").iter();
    let refused: Vec<_> = lines
        .filter(|line| line["job_id"].is_null())
        .map(|line| (line["line"].clone(), line["problem"]["code"].clone()))
        .collect();
    let expected =
        [(2, "invalid_json"), (3, "invalid_url"), (5, "invalid_request"), (6, "invalid_option")];
    assert_eq!(refused, expected.map(|(line, code)| (json!(line), json!(code))), "{sent}");

    let batch_id = require_batch_id(&sent);
    let waited = client.get(&format!("/v1/batches/{batch_id}?wait=60")).json();
    assert_fields(
        &waited,
        json!({"status": "succeeded", "lane": "bulk", "labels": {"book": "2600"}}),
    );
    assert_eq!(waited["counts"], counts(4, 0, 0, 4), "{waited}");
    assert_eq!(array_length(&waited["attempts"]), 1, "{waited}");
    assert_eq!(array_length(&waited["top_words"]), 2, "{waited}");
    let source = json!({"kind": "batch", "batch.refused": [[2, 3], [5, 6]]});
    assert_fields(&waited["source"], source);

    let jobs = member_ids(&sent);
    let first = client.get(&format!("/v1/jobs/{}", jobs[0])).json();
    assert_eq!(first["labels"], json!({"book": "2600", "part": "1"}));
    let link = &sent["links"]["self"];
    assert_fields(&first, json!({"batch": batch_id, "lane": "bulk", "links.batch": link}));
    assert_ne!(first["trace_id"], waited["trace_id"]);

    // A member is not a batch.
    client.get(&format!("/v1/batches/{}", jobs[0])).expect_problem(404, "job_not_found");
    client.get(&format!("/v1/batches/{}/result", jobs[0])).expect_problem(404, "job_not_found");
}

#[test]
fn a_json_array_is_accepted_as_a_batch() {
    let stack = Stack::start();
    let client = stack.client();
    let jobs = json!([{"text": "a b"}, {"text": "b \"]},["}]);
    let answer = client.post("/v1/batches", &jobs);
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = client.wait_until_final(require_batch_id(&answer.json()), LIMIT);
    assert_eq!(job["totals"]["words"], 3, "{job}");

    let empty = |body: &str, code: &str| {
        let answer = client.send("POST", "/v1/batches", &[JSON], body.as_bytes());
        let problem = answer.expect_problem(422, "empty_batch");
        if !code.is_empty() {
            assert_eq!(problem["lines"][0]["problem"]["code"], code, "{problem}");
        }
    };
    empty("[]", "");
    empty("{\"text\": \"a\"}", "invalid_json");
    empty("[{}]", "invalid_request");
    empty("", "invalid_json");
    let submit = |query: &str, headers: &[(&str, &str)]| {
        client.send("POST", &format!("/v1/batches{query}"), headers, b"{\"text\": \"a\"}\n")
    };
    submit("", &[("content-type", "text/csv")]).expect_problem(415, "unsupported_media_type");
    submit("", &[]).expect_problem(415, "unsupported_media_type");
    submit("?lane=interactive", &[NDJSON]).expect_problem(400, "invalid_query");
    submit("?rule=none", &[NDJSON]).expect_problem(422, "invalid_option");
    submit("?label=x", &[NDJSON]).expect_problem(422, "invalid_label");
    submit("", &[NDJSON, ("idempotency-key", "")]).expect_problem(400, "invalid_idempotency_key");
    client
        .get("/v1/batches/0198f0c2-0000-7000-8000-000000000000")
        .expect_problem(404, "job_not_found");
    client.get("/v1/batches/nonsense").expect_problem(400, "invalid_job_id");

    // The jobs before the truncated line are accepted.
    let cut = client.send("POST", "/v1/batches", &[JSON], b"[{\"text\": \"a\"}, {\"te");
    assert_eq!(cut.status, 202, "{cut:?}");
    let cut = cut.json();
    assert_fields(&cut, json!({"accepted": 1, "refused": 1}));
    assert_eq!(cut["lines"][1]["problem"]["code"], "invalid_json", "{cut}");
}

#[test]
fn lines_and_batches_are_bounded() {
    let stack = Stack::with(1, 0, &[("WORDMILL_JSON_SIZE_MAX", "1KiB")]);
    let client = stack.client();
    let long = json!({"text": "x".repeat(2000)});
    let sent = submit_batch(client, &[json!({"text": "a"}), long, json!({"text": "b"})]);
    assert_fields(&sent, json!({"accepted": 2, "refused": 1}));
    assert_eq!(sent["lines"][1]["problem"]["code"], "input_too_large", "{sent}");

    // Refused lines are part of the limit of 10,000. They keep the test fast, because the broker
    // never receives them.
    let mut many = vec![json!({}); 10_002];
    many[0] = json!({"text": "a"});
    many[9_999] = json!({"text": "b"});
    many[10_001] = json!({"text": "beyond the bound"});
    let sent = submit_batch(client, &many);
    assert_fields(&sent, json!({"accepted": 2, "refused": 9_999}));
    assert!(sent["lines"][9_999]["job_id"].is_string(), "{}", sent["lines"][9_999]);
    let last = &sent["lines"][10_000];
    assert_fields(last, json!({"line": 10_001, "problem.code": "input_too_large"}));
    assert_eq!(array_length(&sent["lines"]), 10_001, "lines beyond the limit are not read");
    let waiting = get_batch(client, require_batch_id(&sent));
    assert_eq!(waiting["counts"]["queued"], 2, "{waiting}");
    // Two batches of two jobs each, with one message per job and per batch.
    assert_eq!(Admin::connect(&stack.nats).message_count("JOBS"), 6);
}

#[test]
fn a_repeated_batch_request_runs_nothing_twice() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let url = |n: u32| site.put(&format!("/{n}"), Page::new("text/plain", "two words"));
    let lines: Vec<_> = (0..20).map(|n| json!({"url": url(n)})).collect();
    let key = [("idempotency-key", "monday")];
    let first = send_lines(client, "", &key, &lines);
    assert_eq!(first.status, 202, "{first:?}");
    let first = first.json();
    let done = client.wait_until_final(require_batch_id(&first), LIMIT);
    assert_eq!(done["totals"]["words"], 40, "{done}");
    let again = send_lines(client, "", &key, &lines);
    assert_eq!(again.status, 202, "{again:?}");
    let again = again.json();
    assert_fields(&again, json!({"batch_id": first["batch_id"], "lines": first["lines"]}));
    assert_eq!(get_batch(client, require_batch_id(&first)), done);
    assert!((0..20).all(|n| site.hits(&format!("/{n}")) == 1));
    // Other lines under the same key are refused.
    let others: Vec<_> = (0..20).map(|_| json!({"text": "other"})).collect();
    let problem =
        send_lines(client, "", &key, &others).expect_problem(422, "idempotency_key_reused");
    assert_eq!(problem["lines"][0]["problem"]["code"], "idempotency_key_reused", "{problem}");
    send_lines(client, "", &key, &lines[..19]).expect_problem(422, "idempotency_key_reused");
    // A deleted member does not change the answer.
    let job = format!("/v1/jobs/{}", member_ids(&first)[3]);
    assert_eq!(client.send("DELETE", &job, &[], &[]).status, 204);
    assert_eq!(send_lines(client, "", &key, &lines).json()["lines"], first["lines"]);
    // Without a key, each request creates a new batch.
    assert_ne!(
        require_batch_id(&submit_batch(client, &lines)),
        require_batch_id(&submit_batch(client, &lines))
    );
}

#[test]
fn a_request_with_the_same_key_continues_an_interrupted_batch() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    admin.reconfigure("JOBS", |config| config.max_messages = 300);
    let lines: Vec<_> = (0..400).map(|n| json!({"text": format!("job {n}")})).collect();
    let key = [("idempotency-key", "large")];
    let problem = send_lines(client, "", &key, &lines).expect_problem(503, "queue_full");
    let accepted = problem["accepted"].as_u64().expect("a number");
    assert!((1..400).contains(&accepted), "{accepted}");
    let batch_id = problem["batch_id"].as_str().expect("an id");
    client.get(&format!("/v1/batches/{batch_id}")).expect_problem(404, "job_not_found");
    let codes = problem["lines"].as_array().expect("lines").iter();
    assert!(codes.clone().any(|line| line["problem"]["code"] == "queue_full"), "{problem}");
    assert_eq!(codes.filter(|line| line["job_id"].is_string()).count() as u64, accepted);

    admin.reconfigure("JOBS", |config| config.max_messages = 10_000);
    let whole = wait_for("the queue has room again", LIMIT, || {
        let answer = send_lines(client, "", &key, &lines);
        (answer.status == 202).then(|| answer.json())
    });
    assert_fields(&whole, json!({"accepted": 400}));
    assert_eq!(require_batch_id(&whole), batch_id);
    assert_eq!(admin.message_count("JOBS"), 401);
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    let job = client.wait_until_final(batch_id, LIMIT);
    assert_fields(&job, json!({"totals.words": 800, "counts": counts(400, 0, 0, 0)}));
}

#[test]
fn failed_and_cancelled_members_are_counted_as_such() {
    let stack = Stack::with(1, 1, &[("WORDMILL_RETRY_BASE", "100ms")]);
    let site = Site::start();
    let client = stack.client();
    let gone = site.put("/gone", Page::status("404 Not Found"));
    let busy = site.put("/busy", Page::status("503 Service Unavailable"));
    let slow = site.put("/slow", Page::new("text/plain", "never").after(LIMIT));
    let sent = submit_batch(
        client,
        &[json!({"text": "a b"}), json!({"url": gone}), json!({"url": busy}), json!({"url": slow})],
    );
    let jobs = member_ids(&sent);
    // While a member is unfinished, the batch shows the counts of the others by status.
    let waiting = wait_for("three members are final", LIMIT, || {
        let waiting = get_batch(client, require_batch_id(&sent));
        (waiting["counts"]["failed"] == 2 && waiting["counts"]["running"] == 1).then_some(waiting)
    });
    assert_fields(&waiting, json!({"status": "queued", "counts.succeeded": 1}));
    assert!(waiting["attempts"].as_array().expect("attempts").is_empty(), "{waiting}");
    client
        .get(&format!("/v1/batches/{}/result", require_batch_id(&sent)))
        .expect_problem(409, "job_not_finished");
    let cancelled = client.send("POST", &format!("/v1/jobs/{}/cancel", jobs[3]), &[], &[]);
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let done = client.wait_until_final(require_batch_id(&sent), LIMIT);
    assert_fields(&done, json!({"status": "succeeded", "counts": counts(1, 2, 1, 0)}));
    assert_eq!(done["totals"]["words"], 2, "{done}");
    let letters = client.get("/v1/dead-letters").json();
    assert_eq!(array_length(&letters["data"]), 1, "{letters}");

    // A retry merges the same members, of which one has been deleted.
    let deleted = client.send("DELETE", &format!("/v1/jobs/{}", jobs[0]), &[], &[]);
    assert_eq!(deleted.status, 204, "{deleted:?}");
    let again =
        client.send("POST", &format!("/v1/jobs/{}/retry", require_batch_id(&sent)), &[], &[]);
    let again = client.wait_until_final(again.json()["job_id"].as_str().expect("an id"), LIMIT);
    assert_fields(&again, json!({"counts.gone": 1, "totals.words": 0}));
    assert_eq!(get_batch(client, require_batch_id(&sent)), done, "the first batch is unchanged");
}

#[test]
fn a_waiting_batch_uses_no_slot_and_shows_its_progress() {
    // Bulk jobs may use two of the three slots. One of them is occupied while the page is slow.
    let stack = Stack::with(1, 1, &[("WORDMILL_SLOTS", "3")]);
    let site = Site::start();
    let client = stack.client();
    let slow = site.put("/slow", Page::new("text/plain", "a b").after(Duration::from_secs(4)));
    let mut lines = vec![json!({"text": "a b"}); 3];
    lines.push(json!({"url": slow}));
    let sent = submit_batch(client, &lines);
    let mut events = EventStream::open(client, require_batch_id(&sent), &[]);
    wait_for("three members are final, one runs", LIMIT, || {
        let counts = &get_batch(client, require_batch_id(&sent))["counts"];
        (counts["succeeded"] == 3 && counts["running"] == 1).then_some(())
    });
    let other = client.submit(&json!({"text": "a", "lane": "bulk"}));
    client.wait_until_final(&other, LIMIT);
    assert_eq!(get_batch(client, require_batch_id(&sent))["status"], "queued");
    let mut states = Vec::new();
    while let Some(event) = events.next_job(LIMIT) {
        let Event::Job { data: job, .. } = event else { continue };
        states.push(job["counts"]["succeeded"].as_u64().expect("a number"));
        if job["status"] == "succeeded" {
            break;
        }
    }
    assert!(states.is_sorted() && states.contains(&3) && states.last() == Some(&4), "{states:?}");
    assert_eq!(client.wait_until_final(require_batch_id(&sent), LIMIT)["totals"]["words"], 8);
}

#[test]
fn cancelling_a_batch_cancels_its_unfinished_members() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let slow = |n: u32| site.put(&format!("/{n}"), Page::new("text/plain", "a").after(LIMIT));
    let mut lines: Vec<_> = (0..30).map(|n| json!({"url": slow(n)})).collect();
    lines.insert(0, json!({"text": "quick"}));
    let sent = submit_batch(client, &lines);
    let jobs = member_ids(&sent);
    client.wait_until_final(&jobs[0], LIMIT);
    let path = format!("/v1/jobs/{}/cancel", require_batch_id(&sent));
    for _ in 0..2 {
        let cancelled = client.send("POST", &path, &[], &[]);
        assert_answer(&cancelled, 200, json!({"status": "cancelled"}));
    }
    for job_id in &jobs[1..] {
        assert_eq!(client.get(&format!("/v1/jobs/{job_id}")).json()["status"], "cancelled");
    }
    assert_eq!(client.get(&format!("/v1/jobs/{}", jobs[0])).json()["status"], "succeeded");
    Admin::connect(&stack.nats).wait_until_idle();
    client
        .get(&format!("/v1/batches/{}/result", require_batch_id(&sent)))
        .expect_problem(409, "job_cancelled");
}

#[test]
fn a_quota_limits_batches_like_single_jobs() {
    let mut keys = Keyring::new();
    let key = keys.add("a", &json!({"queue_quota": 50}));
    let (name, path) = keys.setting();
    let stack = Stack::with(1, 0, &[(name, &path)]);
    let client = stack.client().with_key(&key);
    let lines: Vec<_> = (0..1000).map(|n| json!({"text": format!("job {n}")})).collect();
    let answer = send_lines(&client, "", &[], &lines);
    let problem = answer.expect_problem(429, "quota_exceeded");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(problem["accepted"].as_u64().is_some_and(|accepted| accepted < 1000), "{problem}");
}
