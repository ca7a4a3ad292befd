//! Webhooks from the view of clients and receivers: contents, signatures, attempts and status.

use std::process::Command;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::client::Client;
use wordmill_tests::keyring::Keyring;
use wordmill_tests::process::binary;
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::site::{Page, Site, closed_port};
use wordmill_tests::stack::{Gateway, Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

/// The main webhook secret.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// The secret that replaces the main one.
const NEW_SECRET: &str = "fedcba9876543210fedcba9876543210";
/// Settings with short delays between the attempts.
pub const FAST_RETRIES: [(&str, &str); 2] =
    [("WORDMILL_WEBHOOK_SECRETS", SECRET), ("WORDMILL_WEBHOOK_RETRY_MAX", "50ms")];

/// Settings with which a `Retry-After` of the receiver ends after the test, so that the delay is
/// still visible.
const LONG_RETRIES: [(&str, &str); 2] =
    [("WORDMILL_WEBHOOK_SECRETS", SECRET), ("WORDMILL_WEBHOOK_RETRY_MAX", "1h")];

const OK: Reply = Reply::Status("204 No Content", "");
const BUSY: Reply = Reply::Status("503 Service Unavailable", "");

/// Returns the secrets with which an owner's receivers verify signatures, as printed by
/// `wordmill-gateway webhook secret`.
fn receiver_secrets(owner: &str, main: &str) -> Vec<String> {
    let mut command = Command::new(binary("wordmill-gateway"));
    command.args(["webhook", "secret", "--owner", owner]).env("WORDMILL_WEBHOOK_SECRETS", main);
    let output = command.output().expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// Returns the secret for jobs without an API key.
pub fn public_receiver_secret() -> String {
    receiver_secrets("public", SECRET).remove(0)
}

/// Returns the webhook of a job from the API.
pub fn get_webhook(client: &Client, job_id: &str) -> Value {
    let answer = client.get(&format!("/v1/jobs/{job_id}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["webhook"].clone()
}

/// Waits until a webhook is delivered, disabled or failed, and returns it.
pub fn wait_until_settled(client: &Client, job_id: &str) -> Value {
    wait_for(&format!("the webhook of {job_id} is settled"), LIMIT, || {
        Some(get_webhook(client, job_id)).filter(|webhook| webhook["status"] != "waiting")
    })
}

fn resend(client: &Client, job_id: &str) -> wordmill_tests::client::Answer {
    client.send("POST", &format!("/v1/jobs/{job_id}/webhook"), &[], b"")
}

#[test]
fn every_final_status_is_sent_with_a_standard_signature() {
    let stack = Stack::with(1, 1, &FAST_RETRIES);
    let site = Site::start();
    let receiver = Receiver::start();
    let client = stack.client();
    let missing = site.put("/missing", Page::status("404 Not Found"));
    let busy = site.put("/busy", Page::status("503 Service Unavailable"));
    let stuck = site.put("/stuck", Page::new("text/plain", "stuck in the middle").stalls_after(5));
    let submit = |path: &str, mut body: Value| {
        body["webhook"] = json!({"url": receiver.url(path)});
        client.submit(&body)
    };
    let counted = submit("/counted", json!({"text": "to be or not", "labels": {"book": "hamlet"}}));
    let failed = submit("/failed", json!({"url": missing}));
    let dead = submit("/dead", json!({"url": busy}));
    let cancelled = submit("/cancelled", json!({"url": stuck}));
    wait_for("the job runs", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{cancelled}")).json();
        (job["status"] == "running").then_some(())
    });
    assert_eq!(get_webhook(client, &cancelled)["status"], "waiting");
    assert_eq!(client.send("POST", &format!("/v1/jobs/{cancelled}/cancel"), &[], b"").status, 200);
    let headers = [("content-type", "text/plain")];
    let path = format!("/v1/jobs?webhook={}", receiver.url("/document"));
    let document = client.send("POST", &path, &headers, b"a document of five words").json();
    let document = document["job_id"].as_str().expect("an id").to_owned();

    let secret = public_receiver_secret();
    assert!(secret.starts_with("whsec_"), "{secret}");
    for (path, job_id, kind) in [
        ("/counted", &counted, "job.succeeded"),
        ("/failed", &failed, "job.failed"),
        ("/dead", &dead, "job.failed"),
        ("/cancelled", &cancelled, "job.cancelled"),
        ("/document", &document, "job.succeeded"),
    ] {
        let request = receiver.wait_for_requests(path, 1, LIMIT).remove(0);
        assert_eq!(request.method, "POST", "{request:?}");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("webhook-id"), job_id);
        assert!(request.header("user-agent").starts_with("wordmill/"), "{request:?}");
        assert!(request.is_signed_with(&secret), "{request:?}");
        let wrong = receiver_secrets("public", NEW_SECRET).remove(0);
        assert!(!request.is_signed_with(&wrong), "{request:?}");
        assert!(request.body.len() < 20_000);
        let body = request.json();
        let job = client.get(&format!("/v1/jobs/{job_id}")).json();
        assert_eq!(body["type"], kind, "{body}");
        assert_eq!(body["timestamp"], job["finished_at"], "{body}");
        for field in
            ["job_id", "status", "labels", "totals", "failure", "dead_lettered", "trace_id"]
        {
            assert_eq!(body["data"][field], job[field], "{field}: {body}");
        }
        assert_eq!(body["data"]["links"]["self"], format!("/v1/jobs/{job_id}"));
        assert_eq!(body["data"]["top_words"], Value::Null, "{body}");
        let webhook = wait_until_settled(client, job_id);
        assert_fields(&webhook, json!({"status": "delivered", "next_attempt_at": null}));
        assert_eq!(webhook["url"], receiver.url(path));
        let attempts = webhook["attempts"].as_array().expect("attempts");
        assert_eq!(attempts.len(), 1, "{webhook}");
        assert_fields(&attempts[0], json!({"number": 1, "status_code": 204}));
        assert!(attempts[0]["failure"].is_null() && attempts[0]["at"].is_string(), "{webhook}");
        assert_eq!(receiver.requests(path).len(), 1);
    }
    assert_eq!(receiver.requests("/dead")[0].json()["data"]["dead_lettered"], true);
    let admin = Admin::connect(&stack.nats);
    admin.wait_until_idle();
    wait_for("nothing waits", LIMIT, || (admin.message_count("WEBHOOKS") == 0).then_some(()));
}

#[test]
fn a_job_without_webhook_shows_none() {
    let stack = Stack::with(1, 1, &FAST_RETRIES);
    let client = stack.client();
    let silent = client.submit(&json!({"text": "hush"}));
    assert_eq!(client.wait_until_final(&silent, LIMIT)["webhook"], Value::Null);
    resend(client, &silent).expect_problem(409, "webhook_not_requested");
}

#[test]
fn a_failing_receiver_is_retried_and_every_attempt_is_shown() {
    let settings = [&FAST_RETRIES[..], &[("WORDMILL_WEBHOOK_TIMEOUT", "1s")]].concat();
    let stack = Stack::with(1, 1, &settings);
    let receiver = Receiver::start();
    let client = stack.client();
    let elsewhere = receiver.url("/elsewhere");
    let location: &'static str = Box::leak(format!("Location: {elsewhere}").into_boxed_str());
    let replies = [
        Reply::Status("500 Internal Server Error", ""),
        Reply::Status("404 Not Found", ""),
        Reply::Status("307 Temporary Redirect", location),
        Reply::Hang,
        BUSY,
        OK,
    ];
    receiver.set_replies("/hook", &replies);
    let job_id = client.submit(&json!({"text": "a b", "webhook": {"url": receiver.url("/hook")}}));
    let requests = receiver.wait_for_requests("/hook", 6, LIMIT);
    let webhook = wait_until_settled(client, &job_id);
    let attempts = webhook["attempts"].as_array().expect("attempts");
    let codes: Vec<&Value> = attempts.iter().map(|attempt| &attempt["status_code"]).collect();
    assert_eq!(json!(codes), json!([500, 404, 307, null, 503, 204]), "{webhook}");
    assert_eq!(attempts[3]["failure"]["code"], "fetch_timeout", "{webhook}");
    assert_eq!(webhook["status"], "delivered", "{webhook}");
    assert!(receiver.requests("/elsewhere").is_empty(), "redirects are not followed");
    for request in &requests {
        // Each attempt has its own signature, with the same id and body.
        assert!(request.is_signed_with(&public_receiver_secret()), "{request:?}");
        assert_eq!(request.header("webhook-id"), job_id);
        assert_eq!(request.body, requests[0].body);
    }
}

#[test]
fn a_webhook_fails_after_ten_attempts() {
    let stack = Stack::with(1, 1, &FAST_RETRIES);
    let receiver = Receiver::start();
    let client = stack.client();
    receiver.set_replies("/busy", &[BUSY]);
    let submit = |url: &str| client.submit(&json!({"text": "a b", "webhook": {"url": url}}));
    let busy = submit(&receiver.url("/busy"));
    let unreachable = submit(&closed_port());
    for (job_id, status_code, code) in
        [(&busy, json!(503), Value::Null), (&unreachable, Value::Null, json!("fetch_connect"))]
    {
        let webhook = wait_until_settled(client, job_id);
        assert_eq!(webhook["status"], "failed", "{webhook}");
        let attempts = webhook["attempts"].as_array().expect("attempts");
        assert_eq!(attempts.len(), 10, "{webhook}");
        for (number, attempt) in (1..).zip(attempts) {
            assert_eq!(attempt["number"], number, "{webhook}");
            assert_eq!(attempt["status_code"], status_code, "{webhook}");
            assert_eq!(attempt["failure"]["code"], code, "{webhook}");
        }
    }
    assert_eq!(receiver.requests("/busy").len(), 10);
    // The failed webhook does not affect the job.
    assert_eq!(client.get(&format!("/v1/jobs/{busy}")).json()["status"], "succeeded");
}

#[test]
fn a_410_disables_the_webhook() {
    let stack = Stack::with(1, 1, &LONG_RETRIES);
    let receiver = Receiver::start();
    let client = stack.client();
    receiver.set_replies("/gone", &[Reply::Status("410 Gone", "")]);
    let hook = json!({"url": receiver.url("/gone")});
    let gone = client.submit(&json!({"text": "a b", "webhook": hook}));
    let webhook = wait_until_settled(client, &gone);
    assert_fields(&webhook, json!({"status": "disabled", "attempts.0.status_code": 410}));
    assert_eq!(receiver.requests("/gone").len(), 1);
}

#[test]
fn a_retry_after_of_a_receiver_is_honoured() {
    let stack = Stack::with(1, 1, &LONG_RETRIES);
    let receiver = Receiver::start();
    let client = stack.client();
    let later = Reply::Status("429 Too Many Requests", "Retry-After: 1800");
    receiver.set_replies("/later", &[later]);
    let hook = json!({"url": receiver.url("/later")});
    let waits = client.submit(&json!({"text": "a b", "webhook": hook}));
    let webhook = wait_for("the first attempt has ended", LIMIT, || {
        Some(get_webhook(client, &waits)).filter(|it| it["attempts"][0]["status_code"] == 429)
    });
    assert_eq!(webhook["status"], "waiting", "{webhook}");
    let at = |text: &Value| {
        let text = text.as_str().expect("a time").replace('Z', "+00:00");
        // Minutes are precise enough.
        let (hours, minutes): (i64, i64) =
            (text[11..13].parse().expect("hours"), text[14..16].parse().expect("minutes"));
        60 * hours + minutes
    };
    let wait = at(&webhook["next_attempt_at"]) - at(&webhook["attempts"][0]["at"]);
    assert!((29..=31).contains(&wait.rem_euclid(24 * 60)), "{webhook}");
    assert_eq!(receiver.requests("/later").len(), 1);
}

#[test]
fn a_webhook_can_be_sent_again_once_its_job_is_final() {
    let stack = Stack::with(1, 1, &FAST_RETRIES);
    let site = Site::start();
    let receiver = Receiver::start();
    let client = stack.client();
    receiver.set_replies("/hook", &[Reply::Status("410 Gone", ""), BUSY, OK]);
    let job_id = client.submit(&json!({"text": "a b", "webhook": {"url": receiver.url("/hook")}}));
    assert_eq!(wait_until_settled(client, &job_id)["status"], "disabled");
    let answer = resend(client, &job_id);
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json()["webhook"]["status"], "waiting", "{answer:?}");
    assert_eq!(answer.json()["webhook"]["attempts"], json!([]), "{answer:?}");
    let requests = receiver.wait_for_requests("/hook", 3, LIMIT);
    let webhook = wait_until_settled(client, &job_id);
    assert_eq!(webhook["status"], "delivered", "{webhook}");
    assert_eq!(array_length(&webhook["attempts"]), 2, "{webhook}");
    assert!(
        requests
            .iter()
            .all(|one| one.header("webhook-id") == job_id && one.body == requests[0].body)
    );
    // A delivered webhook can be sent again.
    assert_eq!(resend(client, &job_id).status, 202);
    receiver.wait_for_requests("/hook", 4, LIMIT);

    let stuck = site.put("/stuck", Page::new("text/plain", "stuck in the middle").stalls_after(5));
    let hook = json!({"url": receiver.url("/other")});
    let running = client.submit(&json!({"url": stuck, "webhook": hook}));
    resend(client, &running).expect_problem(409, "job_not_finished");
    resend(client, "0198f0c2-0000-7000-8000-000000000000").expect_problem(404, "job_not_found");
    resend(client, "x").expect_problem(400, "invalid_job_id");

    // The webhook of a deleted job is neither shown nor sent, and leaves only a tombstone.
    wait_until_settled(client, &job_id);
    assert_eq!(client.send("DELETE", &format!("/v1/jobs/{job_id}"), &[], b"").status, 204);
    resend(client, &job_id).expect_problem(410, "result_expired");
    let admin = Admin::connect(&stack.nats);
    let state =
        admin.last_message("KV_webhook_state", &format!("$KV.webhook_state.public.{job_id}"));
    assert_eq!(state.map(|(payload, _)| payload), Some(String::new()), "only a tombstone is left");
}

#[test]
fn an_invalid_webhook_is_refused_before_the_job_is_queued() {
    let stack = Stack::with(1, 0, &FAST_RETRIES);
    let client = stack.client();
    let long = format!("http://example.org/{}", "a".repeat(9000));
    for (url, detail) in [
        ("example.org", "The URL of the webhook is not valid"),
        ("", "The URL of the webhook is not valid"),
        ("ftp://example.org/", "http and https"),
        ("http://user:word@example.org/", "user name"),
        (&long, "longer than"),
    ] {
        let refused = client.post("/v1/jobs", &json!({"text": "a", "webhook": {"url": url}}));
        let problem = refused.expect_problem(422, "invalid_webhook");
        assert!(problem["detail"].as_str().expect("text").contains(detail), "{problem}");
    }
    for webhook in [json!("http://example.org/"), json!({}), json!({"url": "http://a.b", "x": 1})] {
        let refused = client.post("/v1/jobs", &json!({"text": "a", "webhook": webhook}));
        assert!(matches!(refused.status, 400 | 422), "{refused:?}");
    }
    let body = [("content-type", "text/plain")];
    let refused = client.send("POST", "/v1/jobs?webhook=nowhere", &body, b"a document");
    refused.expect_problem(422, "invalid_webhook");
    assert_eq!(Admin::connect(&stack.nats).message_count("JOBS"), 0);

    // Two bodies that differ only in the webhook are different requests.
    let named = [("content-type", "application/json"), ("idempotency-key", "one")];
    let hook = |url| json!({"text": "a", "webhook": {"url": url}}).to_string();
    let send = |url| client.send("POST", "/v1/jobs", &named, hook(url).as_bytes());
    assert_eq!(send("http://example.org/a").status, 202);
    assert_eq!(send("http://example.org/a").status, 202);
    send("http://example.org/b").expect_problem(422, "idempotency_key_reused");

    let without = Gateway::start(&stack.nats.address(), &[]);
    wait_until_ready(&without.client);
    let hook = json!({"text": "a", "webhook": {"url": "http://example.org/"}});
    without.client.post("/v1/jobs", &hook).expect_problem(422, "webhooks_disabled");
}

#[test]
fn forbidden_webhook_addresses_are_never_connected_to() {
    let stack = Stack::with(
        1,
        1,
        &[&FAST_RETRIES[..], &[("WORDMILL_FETCH_ALLOW", "127.0.0.1/32")]].concat(),
    );
    let receiver = Receiver::start();
    let trap = Site::start_on("127.0.0.2:0");
    let submit =
        |url: String| stack.client().submit(&json!({"text": "a b", "webhook": {"url": url}}));
    let fine = submit(receiver.url("/hook"));
    assert_eq!(wait_until_settled(stack.client(), &fine)["status"], "delivered");
    let blocked = submit(trap.url("/hook"));
    let webhook = wait_until_settled(stack.client(), &blocked);
    assert_eq!(webhook["status"], "failed", "{webhook}");
    assert_eq!(webhook["attempts"][0]["failure"]["code"], "url_blocked", "{webhook}");
    assert_eq!(array_length(&webhook["attempts"]), 1, "{webhook}");
    assert_eq!(trap.connections(), 0);
}

#[test]
fn secret_rotation_causes_no_rejected_requests() {
    let both = format!("{NEW_SECRET},{SECRET}");
    let stack = Stack::with(1, 0, &FAST_RETRIES);
    let receiver = Receiver::start();
    let client = stack.client();
    let [old] = receiver_secrets("public", SECRET).try_into().expect("one secret");
    let [new] = receiver_secrets("public", NEW_SECRET).try_into().expect("one secret");
    assert_eq!(receiver_secrets("public", &both), [new.clone(), old.clone()]);
    assert_ne!(receiver_secrets("a", SECRET)[0], old);
    for (main, is_old, is_new) in
        [(SECRET, true, false), (&both, true, true), (NEW_SECRET, false, true)]
    {
        let worker = Worker::start(&stack.nats.address(), &[("WORDMILL_WEBHOOK_SECRETS", main)]);
        wait_until_ready(&worker.health);
        let path = format!("/{is_old}-{is_new}");
        client.submit(&json!({"text": "a b", "webhook": {"url": receiver.url(&path)}}));
        let request = receiver.wait_for_requests(&path, 1, LIMIT).remove(0);
        assert_eq!(request.is_signed_with(&old), is_old);
        assert_eq!(request.is_signed_with(&new), is_new);
    }
}

#[test]
fn owners_have_separate_secrets_and_webhooks() {
    let mut keys = Keyring::new();
    let a = keys.add("a", &json!({}));
    let b = keys.add("b", &json!({}));
    let (name, path) = keys.setting();
    let stack = Stack::with(1, 1, &[&FAST_RETRIES[..], &[(name, &path)]].concat());
    let receiver = Receiver::start();
    let a = stack.client().with_key(&a);
    let b = stack.client().with_key(&b);
    let hook = json!({"text": "a b", "webhook": {"url": receiver.url("/a")}});
    let job_id = a.submit(&hook);
    let request = receiver.wait_for_requests("/a", 1, LIMIT).remove(0);
    assert!(request.is_signed_with(&receiver_secrets("a", SECRET)[0]));
    assert!(!request.is_signed_with(&receiver_secrets("b", SECRET)[0]));
    wait_until_settled(&a, &job_id);
    resend(&b, &job_id).expect_problem(404, "job_not_found");
    assert_eq!(resend(&a, &job_id).status, 202);
    receiver.wait_for_requests("/a", 2, LIMIT);
}
