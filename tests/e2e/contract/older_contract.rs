//! The older contract, as its clients use it.

use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Stack};
use wordmill_tests::wait_for;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Header fields and a body.
type RequestParts<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);

/// Sends a GET request with a JSON body, like the older clients.
fn send_older_request(client: &Client, body: &Value) -> Answer {
    client.send("GET", "/word-count", &[JSON], body.to_string().as_bytes())
}

fn require_envelope(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    let envelope = answer.json();
    let mut fields: Vec<&String> = envelope.as_object().expect("an object").keys().collect();
    fields.sort();
    assert_eq!(fields, ["data", "message", "success"], "{envelope}");
    assert_eq!(envelope["success"], (200..300).contains(&status), "{envelope}");
    envelope
}

fn wait_until_final(client: &Client, job_id: &str) -> Value {
    wait_for("the job has ended", Duration::from_secs(20), || {
        let envelope =
            require_envelope(&send_older_request(client, &json!({"job_id": job_id})), 200);
        assert_eq!(envelope["message"], format!("Fetched Job: {job_id}"));
        let data = envelope["data"].clone();
        (data["status"] != "IN_PROGRESS").then_some(data)
    })
}

#[test]
fn a_page_is_scheduled_and_fetched_when_complete() {
    let stack = Stack::start();
    let site = Site::start();
    let page =
        Page::new("text/html", "<p>One fish, two fish</p>").after(Duration::from_millis(700));
    let url = site.put("/fish", page);

    let scheduled =
        require_envelope(&stack.client().post("/word-count", &json!({"url": url})), 202);
    let job_id = scheduled["data"]["job_id"].as_str().expect("a job id").to_owned();
    assert_eq!(scheduled["message"], format!("Scheduled Job: {job_id}"));
    assert_eq!(scheduled["data"], json!({"job_id": job_id, "url": url, "status": "IN_PROGRESS"}));

    let early =
        require_envelope(&send_older_request(stack.client(), &json!({"job_id": job_id})), 200);
    assert_eq!(early["data"]["status"], "IN_PROGRESS", "{early}");
    assert!(early["data"].get("word_count").is_none(), "{early}");

    let data = wait_until_final(stack.client(), &job_id);
    assert_eq!(data["status"], "COMPLETE", "{data}");
    assert_eq!(data["word_count"], json!({"fish": 2, "one": 1, "two": 1}));
    for path in [format!("/word-count?job_id={job_id}"), format!("/word-count/{job_id}")] {
        let same = require_envelope(&stack.client().get(&path), 200);
        assert_eq!(same["data"], data, "{path}");
    }
}

#[test]
fn an_unreadable_large_result_never_looks_complete() {
    let stack = Stack::start();
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    // Poorly compressible, so that it is stored in several chunks.
    let word = |n: u64| format!("w{:016x} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let text: String = (1..=40_000).map(word).collect();
    let job_id = client.submit(&json!({"text": text}));
    client.wait_until_final(&job_id, Duration::from_secs(60));
    let path = format!("/word-count/{job_id}");
    let answer = client.get(&path);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let begin =
        format!("{{\"data\":{{\"job_id\":\"{job_id}\",\"status\":\"COMPLETE\",\"word_count\":{{");
    assert!(answer.text.starts_with(&begin), "{}", &answer.text[..200]);
    let end = format!(":1}}}},\"message\":\"Fetched Job: {job_id}\",\"success\":true}}");
    assert!(answer.text.ends_with(&end), "{}", &answer.text[answer.text.len() - 200..]);
    let envelope = require_envelope(&answer, 200);
    assert_eq!(envelope["data"]["word_count"].as_object().map(serde_json::Map::len), Some(40_000));

    // The metadata is the last message of an object, preceded by its last chunk.
    assert!(admin.message_count("OBJ_results") > 2, "several chunks");
    admin.delete_message("OBJ_results", admin.last_sequence("OBJ_results") - 1);
    let cut = client.try_send("GET", &path, &[], &[]);
    assert!(cut.is_err(), "the answer must be incomplete: {cut:?}");
    admin.purge("OBJ_results", "$O.results.>");
    let gone = client.get(&path);
    assert_eq!(require_envelope(&gone, 500)["data"], json!({}), "{gone:?}");
}

#[test]
fn an_unreachable_host_is_a_failure_with_a_reason() {
    let stack = Stack::start();
    // A loopback address and port without a listener.
    let url = json!({"url": "http://127.0.0.77:8999/nobody"});
    let scheduled = require_envelope(&stack.client().post("/word-count", &url), 202);
    let job_id = scheduled["data"]["job_id"].as_str().expect("a job id");
    let data = wait_until_final(stack.client(), job_id);
    assert_eq!(data["status"], "FAIL", "{data}");
    let error = data["error"].as_str().expect("a detail");
    assert!(error.contains("onnect") && error.ends_with('.'), "{error}");
}

#[test]
fn every_invalid_request_is_a_400() {
    let stack = Stack::start();
    let client = stack.client();
    let unknown = "0198f0c2-0000-7000-8000-000000000000";
    let posts: [RequestParts<'_>; 6] = [
        (&[("content-type", "text/plain")], br#"{"url":"http://example.org/"}"#),
        (&[], br#"{"url":"http://example.org/"}"#),
        (&[JSON], b"{"),
        (&[JSON], b"{}"),
        (&[JSON], br#"{"url":"not a url"}"#),
        (&[JSON], br#"{"url":17}"#),
    ];
    for (headers, body) in posts {
        let answer = client.send("POST", "/word-count", headers, body);
        assert_eq!(require_envelope(&answer, 400)["data"], json!({}), "{answer:?}");
    }
    let gets = [
        client.send("GET", "/word-count", &[("content-type", "text/plain")], b"{}"),
        send_older_request(client, &json!({})),
        send_older_request(client, &json!({"job_id": "what?"})),
        send_older_request(client, &json!({"job_id": unknown})),
        client.get("/word-count"),
        client.get(&format!("/word-count?job_id={unknown}")),
        client.get(&format!("/word-count/{unknown}")),
        client.get("/word-count/%FF"),
        client.get("/word-count?job_id=a&job_id=b"),
    ];
    for answer in gets {
        assert_eq!(require_envelope(&answer, 400)["data"], json!({}), "{answer:?}");
    }
    require_envelope(&client.send("DELETE", "/word-count", &[], b""), 405);
}

#[test]
fn health_shows_whether_the_services_are_online() {
    let mut stack = Stack::start();
    let health = require_envelope(&stack.client().get("/health"), 200);
    assert_eq!(health["message"], "Completed Health Check");
    assert_eq!(health["data"], json!({"status": "PASS", "info": "All services are online"}));

    stack.nats.process.kill();
    let down = wait_for("the health check fails", Duration::from_secs(10), || {
        let answer = stack.client().get("/health");
        (answer.status != 200).then_some(answer)
    });
    let health = require_envelope(&down, 500);
    let data = json!({"status": "FAIL", "info": "At least one service is offline"});
    assert_eq!(health["data"], data);
    let url = json!({"url": "http://example.org/"});
    require_envelope(&stack.client().post("/word-count", &url), 500);
    stack.nats.restart();
}

#[test]
fn without_a_broker_older_routes_answer_in_their_envelope() {
    let gateway = Gateway::start("127.0.0.1:1", &[]);
    require_envelope(&gateway.client.get("/health"), 500);
    let url = json!({"url": "http://example.org/"});
    require_envelope(&gateway.client.post("/word-count", &url), 500);
}
