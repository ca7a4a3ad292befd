//! Security headers of every answer, and the cache policy of every route.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use wordmill_tests::LIMIT;
use wordmill_tests::client::Answer;
use wordmill_tests::stack::Stack;

const ORIGIN: &str = "https://app.example";
const UNKNOWN: &str = "/v1/jobs/0198f0c2-0000-7000-8000-000000000000";

/// Sends a raw request and returns the head of the answer in lower case.
fn raw_head(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("the bytes are sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).expect("an answer"), 1, "the connection was closed");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("UTF-8").to_lowercase()
}

fn assert_protected(request: &str, answer: &Answer) {
    let nosniff = answer.header("x-content-type-options");
    assert_eq!(nosniff, Some("nosniff"), "{request}: {answer:?}");
    let policy = answer.header("cross-origin-resource-policy");
    assert_eq!(policy, Some("same-origin"), "{request}: {answer:?}");
    assert_eq!(answer.header("strict-transport-security"), None, "{request}: {answer:?}");
}

#[test]
fn no_answer_can_be_sniffed_or_embedded_by_other_origins() {
    let stack = Stack::with(1, 1, &[("WORDMILL_CORS_ORIGINS", ORIGIN)]);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "one two"}));
    client.wait_until_final(&job_id, LIMIT);
    let job = format!("/v1/jobs/{job_id}");
    let result = format!("{job}/result");
    let events = format!("{job}/events");
    let older = format!("/word-count/{job_id}");
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/page/app.js", 200),
        ("GET", "/docs", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/livez", 200),
        ("GET", "/metrics", 200),
        ("GET", "/health", 200),
        ("GET", job.as_str(), 200),
        ("GET", &result, 200),
        ("GET", &events, 200),
        ("GET", &older, 200),
        ("GET", "/v1/jobs", 200),
        ("GET", "/v1/queue", 200),
        ("GET", UNKNOWN, 404),
        ("GET", "/nothing", 404),
        ("POST", "/livez", 405),
        ("POST", "/v1/jobs", 415),
        ("HEAD", "/", 200),
        ("DELETE", &job, 204),
    ] {
        let answer = client.send(method, path, &[], &[]);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_protected(&format!("{method} {path}"), &answer);
    }
    let unknown_host = client.send("GET", "/", &[("host", "evil.example")], &[]);
    assert_eq!(unknown_host.status, 421);
    assert_protected("an unknown host", &unknown_host);
    let preflight = [("origin", ORIGIN), ("access-control-request-method", "PUT")];
    assert_protected("a preflight", &client.send("OPTIONS", &job, &preflight, &[]));
    // These are answered before a request reaches the gateway's router.
    for request in ["GET / HTTP/1.1\r\nno colon\r\n\r\n", "\0\r\n\r\n"] {
        let head = raw_head(client.address(), request);
        assert!(head.starts_with("http/1.1 400 "), "{head}");
        assert!(head.contains("\r\nx-content-type-options: nosniff\r\n"), "{head}");
        assert!(head.contains("\r\ncross-origin-resource-policy: same-origin\r\n"), "{head}");
    }
}

#[test]
fn a_job_is_cached_only_by_its_client_and_revalidated() {
    let stack = Stack::with(1, 1, &[]);
    let client = stack.client();
    let accepted = client.post("/v1/jobs", &json!({"text": "one two"}));
    let job_id = accepted.json()["job_id"].as_str().expect("an id").to_owned();
    client.wait_until_final(&job_id, LIMIT);
    let job = format!("/v1/jobs/{job_id}");
    let answer = client.get(&job);
    let etag = answer.header("etag").expect("a tag").to_owned();
    let unchanged = client.send("GET", &job, &[("if-none-match", &etag)], &[]);
    assert_eq!(unchanged.status, 304, "{unchanged:?}");
    assert_eq!(unchanged.header("etag"), Some(etag.as_str()));
    for answer in [
        &accepted,
        &answer,
        &unchanged,
        &client.get("/v1/jobs"),
        &client.get("/v1/dead-letters"),
        &client.get(UNKNOWN),
        &client.get(&format!("/word-count/{job_id}")),
    ] {
        assert_eq!(answer.header("cache-control"), Some("private, no-cache"), "{answer:?}");
    }
    let result = client.get(&format!("{job}/result"));
    let policy = result.header("cache-control").expect("a policy");
    assert!(policy.starts_with("private, max-age="), "{policy}");
}

#[test]
fn pages_of_allowed_origins_can_read_the_trace_of_an_answer() {
    let stack = Stack::with(1, 0, &[("WORDMILL_CORS_ORIGINS", ORIGIN)]);
    let answer = stack.client().send("GET", "/v1/jobs", &[("origin", ORIGIN)], &[]);
    let exposed = answer.header("access-control-expose-headers").expect("header fields");
    assert!(exposed.split(',').any(|name| name.trim() == "traceresponse"), "{exposed}");
    assert!(answer.header("traceresponse").is_some(), "{answer:?}");
}
