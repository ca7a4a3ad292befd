//! Pages of other origins may use the API only if they are listed.

use serde_json::json;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::process::Process;
use wordmill_tests::stack::{Stack, service_command};
use wordmill_tests::wait_for;

const LISTED_ORIGIN: &str = "https://app.example.org";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";

fn preflight(client: &Client, origin: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "content-type,prefer"),
    ];
    client.send("OPTIONS", "/v1/jobs/0198f0c2-0000-7000-8000-000000000001", &headers, &[])
}

#[test]
fn no_origin_is_allowed_by_default() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let answer = client.send("GET", "/v1/jobs", &[("origin", LISTED_ORIGIN)], &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header(ALLOW_ORIGIN), None);
    let answer = preflight(client, LISTED_ORIGIN);
    assert_eq!(answer.status, 405, "{answer:?}");
    assert_eq!(answer.header(ALLOW_ORIGIN), None);
}

#[test]
fn listed_origins_may_use_the_api_and_read_problems() {
    let origins = format!("{LISTED_ORIGIN},http://localhost:3000");
    let stack = Stack::with(1, 0, &[("WORDMILL_CORS_ORIGINS", &origins)]);
    let client = stack.client();
    for origin in [LISTED_ORIGIN, "http://localhost:3000"] {
        let answer = preflight(client, origin);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header(ALLOW_ORIGIN), Some(origin));
        let methods = answer.header("access-control-allow-methods").expect("methods");
        assert!(methods.contains("PUT") && methods.contains("DELETE"), "{methods}");
        let headers = answer.header("access-control-allow-headers").expect("header fields");
        for header in ["content-type", "prefer", "idempotency-key", "last-event-id", "traceparent"]
        {
            assert!(headers.contains(header), "{headers}");
        }
        let headers = [("origin", origin), ("content-type", "application/json")];
        let body = json!({"text": "a"}).to_string();
        let answer = client.send("POST", "/v1/jobs", &headers, body.as_bytes());
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.header(ALLOW_ORIGIN), Some(origin));
        let exposed = answer.header("access-control-expose-headers").expect("header fields");
        assert!(exposed.contains("location") && exposed.contains("etag"), "{exposed}");
        let answer = client.send("GET", "/nothing", &[("origin", origin)], &[]);
        answer.expect_problem(404, "route_not_found");
        assert_eq!(answer.header(ALLOW_ORIGIN), Some(origin));
    }
    for origin in ["https://evil.example.org", "https://app.example.org.evil.example", "null"] {
        assert_eq!(preflight(client, origin).header(ALLOW_ORIGIN), None);
        let answer = client.send("GET", "/v1/jobs", &[("origin", origin)], &[]);
        assert_eq!(answer.header(ALLOW_ORIGIN), None);
    }
}

#[test]
fn an_invalid_origin_is_refused_at_start() {
    for origins in ["example.org", "https://example.org/", "*,https://example.org"] {
        let settings = [("WORDMILL_CORS_ORIGINS", origins)];
        let command = service_command("wordmill-gateway", "gateway", "127.0.0.1:1", &settings);
        let mut process = Process::start("gateway", command);
        let status = process.wait_for_exit(std::time::Duration::from_secs(30));
        assert_eq!(status.code(), Some(64), "{}", process.output());
        wait_for("the gateway prints the reason", std::time::Duration::from_secs(30), || {
            process.output().contains("WORDMILL_CORS_ORIGINS").then_some(())
        });
    }
}
