//! A gateway without keys refuses requests of web pages of other sites, and no others.

use serde_json::json;
use wordmill_tests::LIMIT;
use wordmill_tests::assertions::array_length;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::keyring::Keyring;
use wordmill_tests::process::Process;
use wordmill_tests::stack::{Gateway, Stack, service_command};

const EVIL: &str = "https://evil.example";

fn submit(client: &Client, headers: &[(&str, &str)]) -> Answer {
    let headers = [&[("content-type", "text/plain")][..], headers].concat();
    client.send("POST", "/v1/jobs", &headers, b"a simple request needs no preflight")
}

fn listed_jobs(client: &Client) -> usize {
    array_length(&client.get("/v1/jobs").json()["data"])
}

#[test]
fn a_refused_request_leaves_no_job_behind() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let port = client.address().rsplit(':').next().expect("a port");
    let rebound = format!("evil.example:{port}");
    let own = format!("http://{}", client.address());
    for headers in [
        &[("origin", EVIL), ("sec-fetch-site", "cross-site")][..],
        &[("origin", EVIL)],
        &[("origin", "null")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
    ] {
        let problem = submit(client, headers).expect_problem(403, "cross_site_request");
        assert_eq!(problem["retryable"], false);
    }
    let origin = format!("http://{rebound}");
    let headers = [
        ("host", rebound.as_str()),
        ("origin", origin.as_str()),
        ("sec-fetch-site", "same-origin"),
    ];
    let problem = submit(client, &headers).expect_problem(421, "unknown_host");
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains(&rebound) && detail.contains("WORDMILL_HOSTS"), "{detail}");
    client
        .send("GET", "/v1/jobs", &[("host", "evil.example")], &[])
        .expect_problem(421, "unknown_host");
    assert_eq!(listed_jobs(client), 0);

    for headers in [
        &[][..],
        &[("origin", own.as_str()), ("sec-fetch-site", "same-origin")],
        &[("origin", own.as_str())],
        &[("sec-fetch-site", "none")],
        &[("host", "localhost"), ("origin", "http://localhost")],
        &[("host", "wordmill.localhost:80")],
        &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")],
    ] {
        assert_eq!(submit(client, headers).status, 202, "{headers:?}");
    }
    assert_eq!(listed_jobs(client), 7);
}

#[test]
fn listed_names_and_origins_are_accepted() {
    let settings = [
        ("WORDMILL_HOSTS", "Wordmill.Example.org, gateway"),
        ("WORDMILL_CORS_ORIGINS", "https://app.example"),
    ];
    let stack = Stack::with(1, 0, &settings);
    let client = stack.client();
    for host in ["wordmill.example.org", "WORDMILL.example.org:443", "gateway:8080"] {
        let origin = format!("https://{}", host.to_lowercase());
        assert_eq!(submit(client, &[("host", host), ("origin", &origin)]).status, 202, "{host}");
    }
    let allowed = [("origin", "https://app.example"), ("sec-fetch-site", "cross-site")];
    assert_eq!(submit(client, &allowed).status, 202);
    submit(client, &[("origin", "https://other.example")])
        .expect_problem(403, "cross_site_request");
    // CORS preflights are answered only for accepted host names.
    let preflight = [allowed[0], ("access-control-request-method", "POST")];
    for (host, status) in [("gateway", 200), ("evil.example", 421)] {
        let headers = [&preflight[..], &[("host", host)]].concat();
        assert_eq!(client.send("OPTIONS", "/v1/jobs", &headers, &[]).status, status, "{host}");
    }
    // A page that may use the gateway can read why a request was refused.
    let answer = submit(client, &[("host", "evil.example"), allowed[0]]);
    answer.expect_problem(421, "unknown_host");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
}

#[test]
fn probes_and_metrics_accept_any_host_name() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    for path in ["/livez", "/readyz", "/health", "/metrics"] {
        let answer = client.send("GET", path, &[("host", "10-1-2-3.pods.example:8080")], &[]);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
    }
    for path in ["/", "/page/app.js", "/docs", "/openapi.json", "/word-count/x", "/nothing"] {
        let answer = client.send("GET", path, &[("host", "evil.example")], &[]);
        assert_eq!(answer.status, 421, "{path}: {answer:?}");
    }
}

#[test]
fn a_gateway_with_keys_checks_only_the_key() {
    let mut keys = Keyring::new();
    let key = keys.add("team", &json!({}));
    let (name, path) = keys.setting();
    let settings = [(name, path.as_str()), ("WORDMILL_CORS_ORIGINS", "*")];
    let stack = Stack::with(1, 0, &settings);
    let headers =
        [("host", "wordmill.example"), ("origin", EVIL), ("sec-fetch-site", "cross-site")];
    assert_eq!(submit(&stack.client().with_key(&key), &headers).status, 202);
    submit(stack.client(), &headers).expect_problem(401, "unauthenticated");
}

#[test]
fn settings_that_open_a_keyless_gateway_to_web_pages_are_refused() {
    for (name, value, reason) in [
        ("WORDMILL_CORS_ORIGINS", "*", "without API keys lets every web page use the gateway"),
        ("WORDMILL_HOSTS", "*", "must be a host name"),
        ("WORDMILL_HOSTS", "example.org:8080", "without scheme and port"),
    ] {
        let command =
            service_command("wordmill-gateway", "gateway", "127.0.0.1:1", &[(name, value)]);
        let mut process = Process::start("gateway", command);
        let status = process.wait_for_exit(LIMIT);
        assert_eq!(status.code(), Some(64), "{name}={value}: {}", process.output());
        let output = process.output();
        assert!(output.contains(name) && output.contains(reason), "{name}={value}: {output}");
    }
}

#[test]
fn a_callers_trace_is_linked_with_keys_and_continued_without() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut keys = Keyring::new();
    let key = keys.add("team", &json!({}));
    let (name, path) = keys.setting();
    let keyed = Gateway::start("127.0.0.1:1", &[(name, &path)]);
    let open = Gateway::start("127.0.0.1:1", &[]);
    let is_continued = |client: &Client| {
        let answer = client.send("GET", "/livez", &[("traceparent", PARENT)], &[]);
        answer.header("traceresponse").expect("a trace").contains(&PARENT[3..35])
    };
    assert!(is_continued(&open.client));
    assert!(!is_continued(&keyed.client.with_key(&key)));
}
