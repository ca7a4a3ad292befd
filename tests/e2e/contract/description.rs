//! The description of the API: the OpenAPI document and the reference page.

use serde_json::{Value, json};
use wordmill_tests::client::Client;
use wordmill_tests::keyring::Keyring;
use wordmill_tests::repository;
use wordmill_tests::stack::Gateway;

/// Starts a gateway without a broker, which these routes do not need.
fn start_gateway(settings: &[(&str, &str)]) -> Gateway {
    Gateway::start("127.0.0.1:1", settings)
}

fn assert_revalidates(client: &Client, path: &str) {
    let answer = client.get(path);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("public, max-age=300"), "{answer:?}");
    let etag = answer.header("etag").expect("an entity tag").to_owned();
    let again = client.send("GET", path, &[("if-none-match", &etag)], b"");
    assert_eq!(again.status, 304, "{again:?}");
    assert_eq!(again.text, "", "{again:?}");
    assert_eq!(again.header("etag"), Some(etag.as_str()), "{again:?}");
    let other = client.send("GET", path, &[("if-none-match", "\"other\"")], b"");
    assert_eq!(other.status, 200, "{other:?}");
    assert_eq!(other.text.len(), answer.text.len());
    client.send("POST", path, &[], b"").expect_problem(405, "method_not_allowed");
}

#[test]
fn the_description_is_served_without_a_key() {
    let mut keys = Keyring::new();
    keys.add("team", &json!({}));
    let (name, path) = keys.setting();
    let gateway = start_gateway(&[(name, &path)]);
    let client = &gateway.client;
    assert_revalidates(client, "/openapi.json");
    let answer = client.get("/openapi.json");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    let golden = std::fs::read_to_string(repository().join("docs/openapi.json")).expect("the file");
    assert!(answer.json() == serde_json::from_str::<Value>(&golden).expect("JSON"), "outdated");
    assert_eq!(answer.json()["openapi"], "3.1.0");
    assert_eq!(answer.json()["security"], json!([{"api_key": []}]));
}

#[test]
fn a_gateway_without_keys_describes_open_access() {
    let gateway = start_gateway(&[]);
    let description = gateway.client.get("/openapi.json").json();
    assert_eq!(description["security"], json!([{"api_key": []}, {}]));
}

#[test]
fn the_reference_page_loads_nothing_else() {
    let gateway = start_gateway(&[]);
    let client = &gateway.client;
    assert_revalidates(client, "/docs");
    let answer = client.get("/docs");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"), "{answer:?}");
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{answer:?}");
    }
    for part in [
        "<article id=\"submitJob\">",
        "<article id=\"schema-Job\">",
        "/v1/dead-letters",
        "at least one <a href=\"#schema-NewBatchJob\">",
    ] {
        assert!(answer.text.contains(part), "{part}");
    }
    for part in ["<script", "http://", "https://", "url(", "@import"] {
        assert!(!answer.text.contains(part), "{part}");
    }
}
