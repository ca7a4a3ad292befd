//! Successful requests, ordered so that no request affects a later one.

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::site::{Page, Site, closed_port};
use wordmill_tests::stack::Stack;

use super::case::{Case, Names, UNKNOWN};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub fn cases() -> Vec<Case> {
    [reading(), results(), submitting(), largest(), changing(), dead_letters(), service(), older()]
        .concat()
}

fn reading() -> Vec<Case> {
    vec![
        Case::new("200", "GET /v1/jobs?status=succeeded&label=book:a&limit=100"),
        Case::new("200", "GET /v1/jobs/{done}"),
        Case::new("200", "GET /v1/jobs/{done}?wait=60"),
        Case::new("304", "GET /v1/jobs/{done}").header("if-none-match", "\"{revision}\""),
        Case::new("304", "GET /v1/jobs/{done}?wait=1").header("if-none-match", "\"{revision}\""),
        Case::new("200", "GET /v1/jobs/{done}/events"),
        Case::new("200", "GET /v1/jobs/{done}/events").header("last-event-id", "1"),
        Case::new("204", "GET /v1/jobs/{done}/events").header("last-event-id", "{revision}"),
        Case::new("200", "GET /v1/batches/{batch}"),
        Case::new("200", "GET /v1/batches/{batch}?wait=1"),
        Case::new("304", "GET /v1/batches/{batch}").header("if-none-match", "*"),
        Case::new("200", "GET /v1/queue"),
    ]
}

fn results() -> Vec<Case> {
    vec![
        Case::new("200", "GET /v1/jobs/{done}/result"),
        Case::new("200", "GET /v1/jobs/{done}/result?format=csv&top=1&min_count=2"),
        Case::new("200", "GET /v1/jobs/{done}/result").header("accept", "application/x-ndjson"),
        Case::new("200", "GET /v1/batches/{batch}/result"),
        Case::new("200", "GET /v1/batches/{batch}/result?format=ndjson&top=1"),
        Case::new("200", "GET /v1/batches/{batch}/result").header("accept", "text/csv"),
        Case::new("200", "GET /v1/jobs/{done}/explain?rules=unicode,office"),
    ]
}

fn submitting() -> Vec<Case> {
    let text = json!({"text": "to be"});
    let form = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n\
                to be\r\n--x--\r\n";
    let named = "PUT /v1/jobs/0198f0c2-0000-7000-8000-000000000001";
    vec![
        Case::new("202", "POST /v1/jobs").json(&text),
        Case::new("202", "POST /v1/jobs").json(&json!({
            "url": "{page}",
            "options": {"rule": "office", "explain": true},
            "labels": {"book": "a"},
            "lane": "bulk",
            "webhook": {"url": "{hook}"},
        })),
        Case::new("202", "POST /v1/jobs?rule=office&label=book:b&lane=bulk").text("to be"),
        Case::new("202", "POST /v1/jobs").body("multipart/form-data; boundary=x", form),
        Case::new("200", "POST /v1/jobs").json(&text).header("prefer", "wait=60"),
        Case::new("202", named).json(&text),
        Case::new("200", named).json(&text).header("prefer", "wait=60"),
        Case::new("202", "PUT /v1/jobs/0198f0c2-0000-7000-8000-000000000002").text("to be"),
        Case::new("202", "POST /v1/batches?top=1&label=book:c").lines(&[text.clone(), json!(1)]),
        Case::new("202", "POST /v1/batches").json(&json!([text, {"url": "{page}"}])),
    ]
}

/// Requests exactly at their limits. Requests above the limits are in `refusals`.
fn largest() -> Vec<Case> {
    let labels: Value = (0..16).map(|n| (format!("{n:064}"), json!("a".repeat(256)))).collect();
    let start = "http://127.0.0.1:9/";
    let url = format!("{start}{}", "a".repeat(8192 - start.len()));
    let body = json!({"url": url, "labels": labels, "webhook": {"url": url}});
    let ids = vec![UNKNOWN; 100];
    vec![
        Case::new("202", "POST /v1/jobs").json(&body).header("idempotency-key", &"k".repeat(255)),
        Case::new("200", "POST /v1/dead-letters/replay").json(&json!({"ids": ids})),
        Case::new("202", "POST /word-count").json(&json!({"url": url})),
    ]
}

fn changing() -> Vec<Case> {
    vec![
        Case::new("202", "POST /v1/jobs/{page_job}/retry"),
        Case::new("200", "POST /v1/jobs/{page_job}/retry").header("prefer", "wait=60"),
        Case::new("200", "POST /v1/jobs/{slow}/cancel"),
        Case::new("200", "POST /v1/jobs/{slow}/cancel"),
        Case::new("202", "POST /v1/jobs/{webhook_job}/webhook"),
        Case::new("204", "DELETE /v1/jobs/{done}"),
    ]
}

fn dead_letters() -> Vec<Case> {
    let replay = |body| Case::new("200", "POST /v1/dead-letters/replay").json(&body);
    vec![
        Case::new("200", "GET /v1/dead-letters?limit=100&lane=interactive&code=fetch_connect"),
        Case::new("200", "GET /v1/dead-letters/{dead}"),
        replay(json!({"ids": ["{dead}"], "dry_run": true})),
        replay(json!({"filter": {"code": "fetch_connect", "lane": "interactive"}})),
        Case::new("204", "DELETE /v1/dead-letters/{dead}"),
    ]
}

fn service() -> Vec<Case> {
    vec![
        Case::new("200", "GET /livez"),
        Case::new("200", "GET /readyz"),
        Case::new("200", "GET /metrics"),
        Case::new("200", "GET /openapi.json"),
        Case::new("304", "GET /openapi.json").header("if-none-match", "{openapi_tag}"),
        Case::new("200", "GET /docs"),
        Case::new("304", "GET /docs").header("if-none-match", "{docs_tag}"),
    ]
}

fn older() -> Vec<Case> {
    vec![
        Case::new("200", "GET /health"),
        Case::new("202", "POST /word-count").json(&json!({"url": "{page}"})),
        Case::new("200", "GET /word-count").json(&json!({"job_id": "{page_job}"})),
        Case::new("200", "GET /word-count?job_id={page_job}"),
        Case::new("200", "GET /word-count/{page_job}"),
    ]
}

/// Creates all jobs and batches that the cases refer to.
fn prepare_names(stack: &Stack, site: &Site) -> Names {
    let client = stack.client();
    let mut names = Names::default();
    let done = client.submit(&json!({"text": "to be or not to be", "options": {"explain": true}}));
    let page = site.put("/page", Page::new("text/plain", "a page"));
    let page_job = client.submit_url(&page);
    let slow = site.put("/slow", Page::new("text/plain", "slow").after(LIMIT));
    let slow = client.submit_url(&slow);
    let webhook_job = client.submit(&json!({"text": "a", "webhook": {"url": site.url("/hook")}}));
    let dead = client.submit_url(&closed_port());
    let batch = client.post("/v1/batches", &json!([{"text": "to be"}, {"text": "or not"}])).json();
    let batch = batch["batch_id"].as_str().expect("a batch").to_owned();
    for job_id in [&done, &page_job, &webhook_job, &dead, &batch] {
        client.wait_until_final(job_id, LIMIT);
    }
    let tag = |path: &str| client.get(path).header("etag").expect("an entity tag").to_owned();
    names.add("revision", tag(&format!("/v1/jobs/{done}")).replace('"', ""));
    names.add("openapi_tag", tag("/openapi.json"));
    names.add("docs_tag", tag("/docs"));
    names.add("page", page);
    names.add("hook", site.url("/hook"));
    for (name, job_id) in [
        ("done", done),
        ("page_job", page_job),
        ("slow", slow),
        ("webhook_job", webhook_job),
        ("dead", dead),
        ("batch", batch),
    ] {
        names.add(name, job_id);
    }
    names
}

#[test]
fn every_valid_request_succeeds() {
    let stack = Stack::with(1, 1, &[("WORDMILL_WEBHOOK_SECRETS", SECRET)]);
    let site = Site::start();
    let names = prepare_names(&stack, &site);
    for case in cases() {
        case.send_and_check(stack.client(), &names);
    }
}
