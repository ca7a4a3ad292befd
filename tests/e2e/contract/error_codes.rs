//! Asserts that a test expects each documented error code, by a search of the sources. Provokes the
//! codes that no other test expects.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::admin::{Admin, job_message};
use wordmill_tests::assertions::array_length;
use wordmill_tests::certificates::Authority;
use wordmill_tests::client::Client;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Nats, Stack};
use wordmill_tests::{LIMIT, repository};

/// Returns the codes that have a heading in the documentation.
fn documented_codes() -> BTreeSet<String> {
    let page = fs::read_to_string(repository().join("docs/errors.md")).expect("the page");
    let headings = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    headings.map(str::to_owned).collect()
}

/// Appends the contents of all files below a folder whose names end with `ending`.
fn append_sources(folder: &Path, ending: &str, all: &mut String) {
    for entry in
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
    {
        if entry.is_dir() {
            append_sources(&entry, ending, all);
        } else if entry.to_str().is_some_and(|name| name.ends_with(ending)) {
            *all += &fs::read_to_string(&entry).expect("a source");
        }
    }
}

#[test]
fn every_documented_code_is_expected_by_a_test() {
    let documented = documented_codes();
    assert!(documented.len() > 50, "{documented:?}");
    let mut tests = String::new();
    for folder in ["tests/e2e", "tests/external"] {
        append_sources(&repository().join(folder), ".rs", &mut tests);
    }
    // The check of the deployment provokes the error of the load balancer.
    append_sources(&repository().join("deploy"), "_check.py", &mut tests);
    let missing: Vec<&String> =
        documented.iter().filter(|code| !tests.contains(&format!("\"{code}\""))).collect();
    assert!(missing.is_empty(), "no test expects {missing:?}");
}

#[test]
fn a_gateway_without_a_broker_is_not_ready() {
    let gateway = Gateway::start("127.0.0.1:1", &[]);
    let problem = gateway.client.get("/readyz").expect_problem(503, "not_ready");
    assert_eq!(problem["retryable"], true, "{problem}");
}

#[test]
fn a_record_that_cannot_be_read_is_an_internal_problem() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a"}));
    admin.rewrite_record(&job_id, |record| record["attempts"] = json!("no list"));
    let problem = client.get(&format!("/v1/jobs/{job_id}")).expect_problem(500, "internal");
    assert_eq!(problem["retryable"], true, "{problem}");
    assert!(!problem["detail"].to_string().contains("no list"), "{problem}");
}

#[test]
fn an_unreadable_message_fails_as_internal() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    admin.publish("jobs.bulk.public.0198f0c2-0000-7000-8000-000000000001", "not a job");
    let letters = wordmill_tests::wait_for("the message becomes a dead letter", LIMIT, || {
        let letters = client.get("/v1/dead-letters").json();
        letters["data"][0].is_object().then_some(letters)
    });
    assert_eq!(letters["data"][0]["failure"]["code"], "internal", "{letters}");
}

/// Submits a page, asserts that its job fails, and returns the job.
fn submit_failing_page(client: &Client, url: &str) -> Value {
    let job_id = client.submit_url(url);
    let job = client.wait_until_final(&job_id, LIMIT);
    assert_eq!(job["status"], "failed", "{job}");
    client.get(&format!("/v1/jobs/{job_id}/result")).expect_problem(409, "job_failed");
    job
}

#[test]
fn a_host_that_does_not_exist_fails() {
    let stack = Stack::start();
    let client = stack.client();
    let job = submit_failing_page(client, "http://nowhere.invalid/");
    assert_eq!(job["failure"]["code"], "fetch_dns", "{job}");
    assert_eq!(job["failure"]["retryable"], true, "{job}");
    assert_eq!(array_length(&job["attempts"]), 3, "{job}");
}

#[test]
fn a_page_that_redirects_to_itself_fails() {
    let stack = Stack::start();
    let client = stack.client();
    let site = Site::start();
    let circle = site.put("/circle", Page::status("302 Found").header("Location", "/circle"));
    let job = submit_failing_page(client, &circle);
    assert_eq!(job["failure"]["code"], "fetch_redirects", "{job}");
    assert_eq!(job["failure"]["retryable"], false, "{job}");
}

#[test]
fn a_host_with_an_untrusted_certificate_fails() {
    let folder = TempDir::new().expect("a directory");
    let authority = Authority::new();
    let certified = authority.certify("localhost");
    let paths = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    for (path, content) in paths.iter().zip([&certified.certificate, &certified.key]) {
        fs::write(path, content).expect("the file is written");
    }
    let [certificate, key] = paths.each_ref().map(|path| path.to_str().expect("a path"));
    let settings = [("WORDMILL_TLS_CERT", certificate), ("WORDMILL_TLS_KEY", key)];
    let host = Gateway::start("127.0.0.1:1", &settings);
    let stack = Stack::start();
    let job =
        submit_failing_page(stack.client(), &format!("https://{}/livez", host.client.address()));
    assert_eq!(job["failure"]["code"], "fetch_tls", "{job}");
    assert_eq!(job["failure"]["retryable"], false, "{job}");
}

#[test]
fn an_attempt_that_takes_too_long_fails() {
    let settings = [("WORDMILL_ATTEMPT_DEADLINE", "1s"), ("WORDMILL_ATTEMPTS", "1")];
    let stack = Stack::with(1, 1, &settings);
    let site = Site::start();
    let slow = site.put("/slow", Page::new("text/plain", "a b c").after(Duration::from_secs(30)));
    let job = submit_failing_page(stack.client(), &slow);
    assert_eq!(job["failure"]["code"], "deadline_exceeded", "{job}");
    assert_eq!(job["dead_lettered"], true, "{job}");
}

#[test]
fn a_url_that_the_gateway_would_refuse_fails_at_the_worker() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = "0198f0c2-0000-7000-8000-000000000002";
    let mut message: Value =
        serde_json::from_str(&job_message("interactive", job_id, "")).expect("JSON");
    message["source"] = json!({"kind": "url", "url": "http://["});
    admin.publish(&format!("jobs.interactive.public.{job_id}"), &message.to_string());
    let job = wordmill_tests::wait_for("the job is final", LIMIT, || {
        let answer = client.get(&format!("/v1/jobs/{job_id}"));
        (answer.status == 200 && answer.json()["status"] == "failed").then(|| answer.json())
    });
    assert_eq!(job["failure"]["code"], "parse_error", "{job}");
}

#[test]
fn a_document_with_too_many_unique_words_fails() {
    let stack = Stack::start();
    let client = stack.client();
    let mut text = String::with_capacity(18 << 20);
    for number in 0..2_000_100 {
        text += &format!("w{number} ");
    }
    let answer =
        client.send("POST", "/v1/jobs", &[("content-type", "text/plain")], text.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = client.wait_until_final(answer.json()["job_id"].as_str().expect("an id"), LIMIT);
    assert_eq!(job["failure"]["code"], "too_many_unique_words", "{job}");
    assert_eq!(job["failure"]["retryable"], false, "{job}");
}

/// Sends raw bytes and reads until the connection ends. Returns the status, the head in lower case,
/// and the JSON body.
fn send_raw(client: &Client, bytes: &[u8]) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(client.address()).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    // The gateway may close the connection before everything is sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        answer.extend_from_slice(&buffer[..length]);
    }
    let answer = String::from_utf8(answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn malformed_request_heads_get_problems() {
    let folder = TempDir::new().expect("a directory");
    let nats = Nats::start(folder.path());
    let gateway = Gateway::start(&nats.address(), &[]);
    let client = &gateway.client;
    let field = |size: usize| {
        format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(size))
            .into_bytes()
    };
    let fields: String = (0..200).map(|number| format!("X-{number}: a\r\n")).collect();
    let target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(65_535));
    for (bytes, status, code) in [
        (b"nonsense\r\n\r\n".to_vec(), 400, "malformed_request"),
        (b"GET /livez HTTP/1.1\r\nno field\r\n\r\n".to_vec(), 400, "malformed_request"),
        (b"GET /livez HTTP/7.0\r\n\r\n".to_vec(), 400, "malformed_request"),
        (b"GET /word-count HTTP/1.1\r\n: a\r\n\r\n".to_vec(), 400, "malformed_request"),
        (field(70_000), 431, "head_too_large"),
        (format!("GET /livez HTTP/1.1\r\n{fields}\r\n").into_bytes(), 431, "head_too_large"),
        (target.into_bytes(), 431, "head_too_large"),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let (actual, head, problem) = send_raw(client, &bytes);
        assert_eq!(actual, status, "{shown}: {head}");
        assert!(head.contains("content-type: application/problem+json"), "{shown}: {head}");
        assert!(head.contains("connection: close"), "{shown}: {head}");
        assert_eq!(problem["code"], code, "{shown}: {problem}");
        assert_eq!(problem["status"], status, "{shown}: {problem}");
        assert_eq!(problem["trace_id"].as_str().map(str::len), Some(32), "{shown}: {problem}");
        assert_eq!(problem["retryable"], false, "{shown}: {problem}");
    }
    // A client that starts with HTTP/2 without negotiation gets no answer.
    let mut stream = TcpStream::connect(client.address()).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("the bytes are sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the end");
    assert_eq!(String::from_utf8_lossy(&answer), "");
    // A valid request earlier on the same connection is still answered.
    let both = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nnonsense\r\n\r\n";
    let (status, head, _) = send_raw(client, both);
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("traceresponse"), "{head}");
}
