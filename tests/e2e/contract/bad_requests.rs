//! Every invalid request gets a problem with a stable code.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::stack::Stack;

const JSON: (&str, &str) = ("content-type", "application/json");
const UNKNOWN: &str = "0198f0c2-0000-7000-8000-000000000000";

fn post(client: &Client, body: &[u8]) -> Answer {
    client.send("POST", "/v1/jobs", &[JSON], body)
}

#[test]
fn routes_and_methods_that_do_not_exist_are_problems() {
    let stack = Stack::start();
    let client = stack.client();
    for path in ["/nothing", "/v1", "/v1/jobs/", "/v2/jobs", "/v1/jobs/a/b/c"] {
        client.get(path).expect_problem(404, "route_not_found");
    }
    for (method, path) in [("DELETE", "/v1/jobs"), ("PATCH", "/readyz"), ("PUT", "/livez")] {
        let answer = client.send(method, path, &[], b"");
        answer.expect_problem(405, "method_not_allowed");
        assert!(answer.header("allow").is_some(), "{answer:?}");
    }
    assert_eq!(client.get("/livez").status, 200);
}

#[test]
fn invalid_bodies_have_different_codes() {
    let stack = Stack::start();
    let client = stack.client();
    let text = br#"{"text":"a"}"#;
    for headers in [&[][..], &[("content-type", "image/png")]] {
        client
            .send("POST", "/v1/jobs", headers, text)
            .expect_problem(415, "unsupported_media_type");
    }
    for headers in [[("content-type", "application/json; charset=utf-8")], [JSON]] {
        assert_eq!(client.send("POST", "/v1/jobs", &headers, text).status, 202);
    }
    for body in [&b""[..], b"{", b"hello", b"{\"text\":\"a\"} x", b"{\"text\":\"\xff\"}"] {
        post(client, body).expect_problem(400, "invalid_json");
    }
    for body in [
        json!([]),
        json!({}),
        json!("text"),
        json!({"text": "a", "url": "http://example.org/"}),
        json!({"text": 1}),
        json!({"text": "a", "lane": "express"}),
        json!({"text": "a", "labels": {"a": 1}}),
        json!({"text": "a", "colour": "red"}),
    ] {
        let problem = client.post("/v1/jobs", &body).expect_problem(422, "invalid_request");
        assert_eq!(problem["retryable"], false, "{problem}");
    }
    for body in [
        json!({"text": "a", "options": {"rule": "nonsense"}}),
        json!({"text": "a", "options": {"nonsense": 1}}),
        json!({"text": "a", "options": 5}),
    ] {
        client.post("/v1/jobs", &body).expect_problem(422, "invalid_option");
    }
    for labels in [
        json!({"": "a"}),
        json!({"a b": "c"}),
        json!({"a": "x".repeat(257)}),
        json!({"a": "two\nlines"}),
        json!({"n".repeat(65): "a"}),
        (0..17).map(|n| (format!("l{n}"), json!("v"))).collect(),
    ] {
        let body = json!({"text": "a", "labels": labels});
        client.post("/v1/jobs", &body).expect_problem(422, "invalid_label");
    }
}

#[test]
fn urls_that_cannot_be_fetched_are_refused_by_the_gateway() {
    let stack = Stack::start();
    let long = format!("http://example.org/{}", "a".repeat(9000));
    for url in [
        "",
        "example.org",
        "http://",
        "ftp://example.org/a",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://exa mple.org/",
        "http://[::1/",
        long.as_str(),
    ] {
        let problem = stack.client().post("/v1/jobs", &json!({"url": url}));
        let problem = problem.expect_problem(422, "invalid_url");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
}

#[test]
fn invalid_ids_and_unknown_jobs_have_different_codes() {
    let stack = Stack::start();
    let client = stack.client();
    for path in ["/v1/jobs/17", "/v1/jobs/17/result", "/v1/jobs/%FF", "/v1/jobs/public.*"] {
        client.get(path).expect_problem(400, "invalid_job_id");
    }
    client.get(&format!("/v1/jobs/{UNKNOWN}")).expect_problem(404, "job_not_found");
    client.get(&format!("/v1/jobs/{UNKNOWN}/result")).expect_problem(404, "job_not_found");
    for query in ["top=many", "top=-1", "top=1&top=2", "bottom=3"] {
        client
            .get(&format!("/v1/jobs/{UNKNOWN}/result?{query}"))
            .expect_problem(400, "invalid_query");
    }
}

#[test]
fn the_result_of_an_unfinished_or_failed_job_is_a_conflict() {
    let stack = Stack::with(1, 0, &[]);
    let job_id = stack.client().submit(&json!({"text": "a"}));
    let early = stack.client().get(&format!("/v1/jobs/{job_id}/result"));
    assert_eq!(early.expect_problem(409, "job_not_finished")["retryable"], true);
    assert_eq!(early.header("retry-after"), Some("1"));

    let job = stack.client().get(&format!("/v1/jobs/{job_id}"));
    assert_eq!(job.json()["status"], "queued");
    assert_eq!(job.header("retry-after"), Some("1"));
    assert!(job.header("etag").is_some_and(|etag| etag.starts_with('"')), "{job:?}");
}

#[test]
fn too_long_and_endless_bodies_are_cut_off() {
    let stack = Stack::with(1, 0, &[("WORDMILL_JSON_SIZE_MAX", "2KiB")]);
    let body = json!({"text": "word ".repeat(1000)});
    stack.client().post("/v1/jobs", &body).expect_problem(413, "input_too_large");
    assert_eq!(stack.client().post("/v1/jobs", &json!({"text": "word"})).status, 202);

    // A chunked body without a length, far beyond the limit.
    let address = stack.client().url("").replace("http://", "");
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("the bytes are sent");
    let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
    let mut answer = Vec::new();
    for _ in 0..16 {
        // The gateway may close the connection before everything is sent.
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let mut buffer = [0; 4096];
    while let Ok(length) = stream.read(&mut buffer) {
        if length == 0 {
            break;
        }
        answer.extend_from_slice(&buffer[..length]);
        if answer.windows(15).any(|part| part == b"input_too_large") {
            break;
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("input_too_large"), "{answer}");
}

#[test]
fn the_trace_id_is_inherited_or_generated() {
    let stack = Stack::start();
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    let headers = [JSON, ("traceparent", parent.as_str())];
    let answer = stack.client().send("POST", "/v1/jobs", &headers, br#"{"text":"a"}"#);
    assert_eq!(answer.json()["trace_id"], trace_id);
    let refused = stack.client().send("GET", "/nothing", &headers[1..], b"");
    assert_eq!(refused.expect_problem(404, "route_not_found")["trace_id"], trace_id);

    let bad = [JSON, ("traceparent", "00-zz-zz-00")];
    let answer = stack.client().send("POST", "/v1/jobs", &bad, br#"{"text":"a"}"#);
    let generated = answer.json()["trace_id"].as_str().expect("a trace id").to_owned();
    assert!(generated.len() == 32 && generated != trace_id, "{generated}");
    let job_id = answer.json()["job_id"].as_str().expect("a job id").to_owned();
    let job = stack.client().wait_until_final(&job_id, Duration::from_secs(20));
    assert_eq!(job["trace_id"], generated.as_str());
}

#[test]
fn invalid_settings_are_reported_together() {
    let mut command = wordmill_tests::stack::service_command(
        "wordmill-gateway",
        "gateway",
        "127.0.0.1:1",
        &[("WORDMILL_LISTEN", "nowhere"), ("WORDMILL_RESULT_TTL", "soon")],
    );
    let output = command.output().expect("the gateway runs");
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("WORDMILL_LISTEN=nowhere") && text.contains("WORDMILL_RESULT_TTL=soon"));
}

#[test]
fn services_print_their_usage() {
    for name in ["wordmill-gateway", "wordmill-worker"] {
        let run = |argument: &str| {
            let mut command =
                wordmill_tests::stack::service_command(name, "worker", "127.0.0.1:1", &[]);
            command.arg(argument).output().expect("the service runs")
        };
        let usage = format!("Usage: {name} ");
        let help = run("--help");
        assert_eq!(help.status.code(), Some(0), "{name}");
        assert!(String::from_utf8_lossy(&help.stdout).starts_with(&usage), "{name}");
        let unknown = run("serve");
        assert_eq!(unknown.status.code(), Some(64), "{name}");
        assert!(String::from_utf8_lossy(&unknown.stderr).starts_with(&usage), "{name}");
    }
}

#[test]
fn the_health_check_of_the_images_agrees_with_readiness() {
    let stack = Stack::start();
    let check = |name: &str, variable: &str, url: String| {
        let address = url.trim_start_matches("http://").to_owned();
        let settings = [(variable, address.as_str())];
        let mut command =
            wordmill_tests::stack::service_command(name, "nobody", "127.0.0.1:1", &settings);
        command.arg("healthcheck").status().expect("the check runs").code()
    };
    let gateway = |url| check("wordmill-gateway", "WORDMILL_LISTEN", url);
    let worker = |url| check("wordmill-worker", "WORDMILL_WORKER_LISTEN", url);
    assert_eq!(gateway(stack.client().url("")), Some(0));
    assert_eq!(worker(stack.workers[0].health.url("")), Some(0));
    assert_eq!(gateway("http://127.0.0.1:1".to_owned()), Some(1));
    // The gateway is alive, but not ready.
    let unready = wordmill_tests::stack::Gateway::start("127.0.0.1:1", &[]);
    assert_eq!(gateway(unready.client.url("")), Some(1));
}
