//! Invalid requests, and requests that the status of their job does not allow.

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::array_length;
use wordmill_tests::client::Client;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;

use super::case::{Case, Names, UNKNOWN};
use super::limits::SHORT_SHUTDOWN_GRACE;
use super::successes::SECRET;

/// Requests that submit one job.
const SUBMIT: [&str; 2] = ["POST /v1/jobs", "PUT /v1/jobs/0198f0c2-0000-7000-8000-000000000001"];
/// All requests about one job, with their variants.
const ABOUT_A_JOB: [&str; 12] = [
    "GET /v1/jobs/{id}",
    "GET /v1/jobs/{id}?wait=1",
    "GET /v1/jobs/{id}/result",
    "GET /v1/jobs/{id}/explain",
    "GET /v1/jobs/{id}/events",
    "POST /v1/jobs/{id}/cancel",
    "POST /v1/jobs/{id}/retry",
    "POST /v1/jobs/{id}/webhook",
    "DELETE /v1/jobs/{id}",
    "GET /v1/batches/{id}",
    "GET /v1/batches/{id}?wait=1",
    "GET /v1/batches/{id}/result",
];

pub fn cases() -> Vec<Case> {
    [bodies(), submissions(), batches(), keys(), queries(), jobs(), conflicts(), older()].concat()
}

fn bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    for request in SUBMIT {
        let form = |body| {
            Case::new("400 invalid_multipart", request)
                .body("multipart/form-data; boundary=x", body)
        };
        cases.extend([
            Case::new("400 invalid_json", request).body("application/json", "{"),
            Case::new("415 unsupported_media_type", request).body("image/png", "a"),
            Case::new("415 unsupported_media_type", request),
            form("--x--\r\n"),
            form("no form"),
            Case::new("422 invalid_request", request).json(&json!({})),
            Case::new("422 invalid_request", request)
                .json(&json!({"text": "a", "url": "http://a.b"})),
        ]);
    }
    let replay = "POST /v1/dead-letters/replay";
    let many: Vec<_> = (0..101).map(|_| UNKNOWN).collect();
    cases.extend([
        Case::new("400 invalid_json", replay).body("application/json", "{"),
        Case::new("415 unsupported_media_type", replay).text("a"),
        Case::new("422 invalid_request", replay).json(&json!({})),
        Case::new("422 invalid_request", replay).json(&json!({"ids": []})),
        Case::new("422 invalid_request", replay).json(&json!({"ids": many})),
        Case::new("422 invalid_request", replay).json(&json!({"filter": {}, "cursor": "x"})),
    ]);
    cases
}

fn submissions() -> Vec<Case> {
    let mut cases = Vec::new();
    let labels: Value = (0..17).map(|n| (format!("n{n}"), json!("a"))).collect();
    let long = "a".repeat(257);
    let url = format!("http://a.b/{}", "a".repeat(9000));
    for request in SUBMIT {
        for (code, more) in [
            ("invalid_label", json!({"labels": labels})),
            ("invalid_label", json!({"labels": {"a": long}})),
            ("invalid_label", json!({"labels": {"n".repeat(65): "a"}})),
            ("invalid_option", json!({"options": {"rule": "none"}})),
            ("invalid_webhook", json!({"webhook": {"url": "nowhere"}})),
            ("invalid_webhook", json!({"webhook": {"url": url}})),
        ] {
            let mut body = more;
            body["text"] = json!("a");
            cases.push(Case::new(&format!("422 {code}"), request).json(&body));
        }
        for source in ["ftp://example.org/", "http://user@example.org/", &url] {
            cases.push(Case::new("422 invalid_url", request).json(&json!({"url": source})));
        }
        for (expected, query) in [
            ("400 invalid_query", "lane=fast"),
            ("422 invalid_label", "label=a"),
            ("422 invalid_option", "rule=none"),
            ("422 invalid_webhook", "webhook=nowhere"),
        ] {
            let request = format!("{request}?{query}");
            cases.push(Case::new(expected, &request).text("a"));
            cases.push(Case::new(expected, &request).json(&json!({"text": "a"})));
        }
    }
    cases
}

fn batches() -> Vec<Case> {
    let request = "POST /v1/batches";
    let mut cases = vec![
        Case::new("415 unsupported_media_type", request).text("a"),
        Case::new("422 empty_batch", request).lines(&[]),
        Case::new("422 empty_batch", request).lines(&[json!({"url": "nowhere"})]),
        Case::new("422 empty_batch", request).body("application/json", "["),
    ];
    for (expected, query) in [
        ("400 invalid_query", "lane=interactive"),
        ("422 invalid_label", "label=a"),
        ("422 invalid_option", "rule=none"),
        ("422 invalid_webhook", "webhook=nowhere"),
    ] {
        let request = format!("{request}?{query}");
        cases.push(Case::new(expected, &request).lines(&[json!({"text": "a"})]));
    }
    cases
}

/// Requests with an idempotency key or an id of the client: invalid, reused, expired, or with an
/// unreadable record.
fn keys() -> Vec<Case> {
    const KEY: &str = "idempotency-key";
    let text = |text: &str| json!({"text": text});
    let too_long = "k".repeat(256);
    let mut cases = Vec::new();
    for key in ["a b", too_long.as_str()] {
        let expected = "400 invalid_idempotency_key";
        cases.extend([
            Case::new(expected, "POST /v1/jobs").json(&text("a")).header(KEY, key),
            Case::new(expected, "POST /v1/batches").lines(&[text("a")]).header(KEY, key),
            Case::new(expected, "POST /v1/jobs/{failed}/retry").header(KEY, key),
        ]);
    }
    for (expected, key, id) in [
        ("422 idempotency_key_reused", "taken", "{done}"),
        ("410 result_expired", "gone", "{gone}"),
        ("500 internal", "broken", "{broken}"),
    ] {
        // Only a readable record can be compared with another request; the other cases repeat the
        // first one.
        let other = if key == "taken" { text("another") } else { text(key) };
        cases.extend([
            Case::new(expected, "POST /v1/jobs").json(&other).header(KEY, key),
            Case::new(expected, &format!("PUT /v1/jobs/{id}")).json(&other),
        ]);
        let mut lines = vec![text(key)];
        // The same lines with the same key are the same batch. Another line changes the request.
        lines.extend((key == "taken").then(|| text("another")));
        let key = format!("batch-{key}");
        cases.push(Case::new(expected, "POST /v1/batches").lines(&lines).header(KEY, &key));
    }
    let retry = "POST /v1/jobs/{failed}/retry";
    cases.push(Case::new("422 idempotency_key_reused", retry).header(KEY, "taken"));
    cases
}

fn queries() -> Vec<Case> {
    let requests = [
        "GET /v1/jobs?limit=101",
        "GET /v1/jobs?limit=0",
        "GET /v1/jobs?status=lost",
        "GET /v1/jobs?label=a",
        "GET /v1/jobs?cursor=nowhere",
        "GET /v1/jobs/{done}?wait=61",
        "GET /v1/jobs/{done}/result?top=many",
        "GET /v1/jobs/{done}/result?format=xml",
        "GET /v1/jobs/{done}/explain?rules=unicode",
        "GET /v1/batches/{batch}?wait=61",
        "GET /v1/batches/{batch}/result?format=xml",
        "GET /v1/dead-letters?limit=101",
        "GET /v1/dead-letters?lane=fast",
        "GET /v1/dead-letters?cursor=nowhere",
    ];
    let mut cases: Vec<_> = requests.map(|one| Case::new("400 invalid_query", one)).into();
    for one in ["GET /v1/jobs/{done}/result", "GET /v1/batches/{batch}/result"] {
        cases.push(Case::new("406 not_acceptable", one).header("accept", "image/png"));
    }
    cases
}

/// Invalid ids, missing and deleted jobs, and unreadable records.
fn jobs() -> Vec<Case> {
    let for_job = |expected: &'static str, id: &'static str| {
        ABOUT_A_JOB.map(|request| Case::new(expected, request).with_name("{id}", id))
    };
    let mut cases = [
        for_job("400 invalid_job_id", "17"),
        for_job("404 job_not_found", UNKNOWN),
        for_job("410 result_expired", "{gone}"),
        for_job("500 internal", "{broken}"),
    ]
    .concat();
    cases.extend([
        Case::new("400 invalid_job_id", "PUT /v1/jobs/17").json(&json!({"text": "a"})),
        Case::new("404 job_not_found", "GET /v1/batches/{done}"),
        Case::new("404 job_not_found", "GET /v1/batches/{done}/result"),
        Case::new("410 result_expired", "GET /v1/batches/{gone_batch}"),
        Case::new("410 result_expired", "GET /v1/batches/{gone_batch}/result"),
        Case::new("404 dead_letter_not_found", "GET /v1/dead-letters/{done}"),
        Case::new("404 dead_letter_not_found", "DELETE /v1/dead-letters/nonsense"),
    ]);
    cases
}

/// Requests that the status of the job does not allow.
fn conflicts() -> Vec<Case> {
    let requests = [
        ("409 job_not_finished", "GET /v1/jobs/{slow}/result"),
        ("409 job_not_finished", "GET /v1/jobs/{slow}/explain"),
        ("409 job_not_finished", "POST /v1/jobs/{slow}/retry"),
        ("409 job_not_finished", "POST /v1/jobs/{slow}/webhook"),
        ("409 job_not_finished", "DELETE /v1/jobs/{slow}"),
        ("409 job_not_finished", "GET /v1/batches/{slow_batch}/result"),
        ("409 job_failed", "GET /v1/jobs/{failed}/result"),
        ("409 job_failed", "GET /v1/jobs/{failed}/explain"),
        ("409 job_failed", "GET /v1/batches/{failed_batch}/result"),
        ("409 job_cancelled", "GET /v1/jobs/{cancelled}/result"),
        ("409 job_cancelled", "GET /v1/jobs/{cancelled}/explain"),
        ("409 job_cancelled", "GET /v1/batches/{cancelled_batch}/result"),
        ("409 already_finished", "POST /v1/jobs/{done}/cancel"),
        ("409 already_finished", "POST /v1/jobs/{failed}/cancel"),
        ("409 explain_not_recorded", "GET /v1/jobs/{done}/explain"),
        ("409 webhook_not_requested", "POST /v1/jobs/{done}/webhook"),
        ("410 source_gone", "POST /v1/jobs/{done}/retry"),
    ];
    requests.map(|(expected, request)| Case::new(expected, request)).into()
}

fn older() -> Vec<Case> {
    let job = |id: &str| json!({"job_id": id});
    vec![
        Case::new("400 invalid_json", "POST /word-count").text("a"),
        Case::new("400 invalid_json", "POST /word-count").json(&json!({})),
        Case::new("400 invalid_json", "POST /word-count").json(&json!({"url": "nowhere"})),
        Case::new("400 invalid_job_id", "GET /word-count"),
        Case::new("400 invalid_job_id", "GET /word-count").json(&job("17")),
        Case::new("400 invalid_job_id", "GET /word-count").json(&job(UNKNOWN)),
        Case::new("400 invalid_job_id", "GET /word-count?job_id={gone}"),
        Case::new("400 invalid_job_id", "GET /word-count/17"),
        Case::new("400 invalid_job_id", &format!("GET /word-count/{UNKNOWN}")),
        Case::new("500 internal", "GET /word-count?job_id={broken}"),
        Case::new("500 internal", "GET /word-count/{broken}"),
    ]
}

/// Creates all jobs and batches that the cases refer to.
fn prepare_names(stack: &Stack, site: &Site) -> Names {
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let mut names = Names::default();
    let slow = site.put("/slow", Page::new("text/plain", "slow").after(LIMIT));
    let missing = site.put("/missing", Page::status("404 Not Found"));
    let submit_named = |key: &str, path: &str, body: Value, id: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let answer = client.send("POST", path, &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()[id].as_str().expect("an id").to_owned()
    };
    let job = |key: &str, body: Value| submit_named(key, "/v1/jobs", body, "job_id");
    let batch = |key: &str, body: Value| submit_named(key, "/v1/batches", body, "batch_id");
    let text = |key: &str| job(key, json!({"text": key}));
    let texts = |key: &str| batch(&format!("batch-{key}"), json!([{"text": key}]));

    let done = text("taken");
    let gone = text("gone");
    let broken = text("broken");
    let done_batch = texts("taken");
    let gone_batch = texts("gone");
    let broken_batch = texts("broken");
    let failed = job("failed", json!({"url": missing}));
    let slow_job = job("slow", json!({"url": slow}));
    let cancelled = job("cancelled", json!({"url": slow}));
    let slow_batch = batch("slow-batch", json!([{"url": slow}]));
    let failed_batch = batch("failed-batch", json!([{"url": slow}]));
    let cancelled_batch = batch("cancelled-batch", json!([{"url": slow}]));
    for id in [&done, &gone, &broken, &failed, &done_batch, &gone_batch, &broken_batch] {
        client.wait_until_final(id, LIMIT);
    }
    for id in [&gone, &gone_batch] {
        assert_eq!(client.send("DELETE", &format!("/v1/jobs/{id}"), &[], &[]).status, 204);
    }
    for id in [&broken, &broken_batch] {
        admin.rewrite_record(id, |record| record["attempts"] = json!("no list"));
    }
    for id in [&cancelled, &cancelled_batch] {
        let path = format!("/v1/jobs/{id}/cancel");
        assert_eq!(client.send("POST", &path, &[], &[]).status, 200);
    }
    fail_as_lost(client, &admin, &failed_batch);
    for (name, id) in [
        ("done", done),
        ("gone", gone),
        ("broken", broken),
        ("failed", failed),
        ("slow", slow_job),
        ("cancelled", cancelled),
        ("batch", done_batch),
        ("gone_batch", gone_batch),
        ("slow_batch", slow_batch),
        ("failed_batch", failed_batch),
        ("cancelled_batch", cancelled_batch),
    ] {
        names.add(name, id);
    }
    names
}

/// Removes the message of an unfinished job and waits until the sweeper ends it as lost.
fn fail_as_lost(client: &Client, admin: &Admin, job_id: &str) {
    admin.remove_message("JOBS", &format!("jobs.bulk.public.{job_id}"));
    assert_eq!(client.wait_until_final(job_id, LIMIT)["status"], "failed");
}

#[test]
fn every_refusal_has_its_code_on_every_route() {
    let settings = [
        ("WORDMILL_WEBHOOK_SECRETS", SECRET),
        ("WORDMILL_SWEEP_INTERVAL", "200ms"),
        ("WORDMILL_SWEEP_GRACE", "3s"),
        SHORT_SHUTDOWN_GRACE,
    ];
    let stack = Stack::with(1, 1, &settings);
    let site = Site::start();
    let names = prepare_names(&stack, &site);
    let client = stack.client();
    let jobs = || array_length(&client.get("/v1/jobs?limit=100").json()["data"]);
    let before = jobs();
    for case in cases() {
        case.send_and_check(client, &names);
    }
    assert_eq!(jobs(), before, "a refused request must not start a job");
}
