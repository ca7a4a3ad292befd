//! Failed spans describe the reason, without secrets.

use serde_json::json;
use wordmill_tests::LIMIT;
use wordmill_tests::admin::Admin;
use wordmill_tests::collector::{Collector, CollectorBehavior};
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::site::{Page, Site, closed_port};
use wordmill_tests::stack::Stack;
use wordmill_tests::traces::cases::{self, SECRETS};

use crate::webhooks::delivery::FAST_RETRIES;

/// A job fails at once, so that it has one span of each kind.
const SETTINGS: [(&str, &str); 1] = [("WORDMILL_ATTEMPTS", "1")];

#[test]
fn a_failed_fetch_is_described_in_both_spans() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let stack = Stack::with(1, 1, &[&cases::settings(&endpoint)[..], &SETTINGS].concat());
    let site = Site::start();
    let closed = closed_port();
    let refused = format!("{closed}?token=hunter2");
    let authority = closed.trim_start_matches("http://").trim_end_matches('/');
    let missing = site.put("/missing?token=hunter2", Page::status("404 Not Found"));
    let to = missing.replace("http://", "http://user:hunter2@");
    let redirect = site.put("/redirect", Page::status("302 Found").header("location", &to));
    for (url, code, description) in [
        (refused, "fetch_connect", format!("Cannot connect to {authority}.")),
        (missing, "fetch_http_4xx", "The host responded with status 404.".to_owned()),
        (
            redirect,
            "url_blocked",
            "Redirect 1 was not followed: URLs with a user name or password are not fetched."
                .to_owned(),
        ),
    ] {
        let job_id = stack.client().submit_url(&url);
        let job = stack.client().wait_until_final(&job_id, LIMIT);
        let trace = job["trace_id"].as_str().expect("an id");
        let trace = collector.wait_for_trace(trace, 4, LIMIT);
        for name in ["GET", "process jobs"] {
            let span = trace.only_span(name);
            span.assert_failed(code);
            assert_eq!(span.description, description, "{span:#?}");
        }
        let all = format!("{trace:?}");
        assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{all}");
    }
}

#[test]
fn spans_contain_no_credentials_and_no_query_of_a_url() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let settings = [&cases::settings(&endpoint)[..], &SETTINGS, &FAST_RETRIES].concat();
    let stack = Stack::with(1, 1, &settings);
    let secret = |scheme: &str| format!("{scheme}://user:hunter2@127.0.0.1:9/page?token=hunter2");
    // The gateway accepts no such URL, so the message comes from elsewhere.
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let job_id = "0198f0c2-0000-7000-8000-000000000000";
    let message = json!({
        "format": 1,
        "job_id": job_id,
        "owner": "public",
        "lane": "interactive",
        "source": {"kind": "url", "url": secret("https")},
        "options": {"rule": "unicode", "case": "lower", "scope": "page"},
        "labels": {},
        "created_at": "2026-01-01T00:00:00Z",
        "trace_id": trace_id,
        "webhook": {"url": secret("http")},
    });
    let subject = format!("jobs.interactive.public.{job_id}");
    Admin::connect(&stack.nats).publish(&subject, &message.to_string());
    let job = stack.client().wait_until_final(job_id, LIMIT);
    assert_eq!(job["failure"]["code"], "url_blocked", "{job}");
    let trace = collector.wait_for_trace(trace_id, 5, LIMIT);
    for name in ["GET", "POST"] {
        let span = trace.spans_named(name)[0];
        span.assert_failed("url_blocked");
        let description = "URLs with a user name or password are not fetched.";
        assert_eq!(span.description, description, "{span:#?}");
        assert!(span.attribute("url.full").ends_with("://127.0.0.1:9/page"), "{span:#?}");
    }
    let all = format!("{trace:?}");
    assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{all}");
}

#[test]
fn a_document_that_cannot_be_counted_is_described() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let stack = Stack::with(1, 1, &cases::settings(&endpoint));
    let site = Site::start();
    let url = site.put("/image", Page::new("image/png", "unmistakable"));
    let job = stack.client().wait_until_final(&stack.client().submit_url(&url), LIMIT);
    let trace = collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 6, LIMIT);
    let count = trace.only_span("count words");
    count.assert_failed("unsupported_format");
    assert_eq!(count.description, job["failure"]["detail"], "{count:#?}");
    assert!(!format!("{trace:?}").contains(SECRETS[0]), "{trace:#?}");
}

#[test]
fn a_refused_webhook_is_described_by_its_status() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let receiver = Receiver::start();
    receiver.set_replies("/hook", &[Reply::Status("410 Gone", "")]);
    let stack = Stack::with(1, 1, &[&cases::settings(&endpoint)[..], &FAST_RETRIES].concat());
    let body = json!({"text": "a", "webhook": {"url": receiver.url("/hook")}});
    let job = stack.client().wait_until_final(&stack.client().submit(&body), LIMIT);
    let trace = collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 7, LIMIT);
    let post = trace.only_span("POST");
    post.assert_failed("410");
    assert_eq!(post.description, "The host responded with status 410.", "{post:#?}");
}

#[test]
fn a_refused_submission_has_the_detail_of_its_problem() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let stack = Stack::with(1, 0, &cases::settings(&collector.endpoint()));
    Admin::connect(&stack.nats).reconfigure("JOBS", |stream| stream.max_messages = 1);
    let problem = loop {
        let answer = stack.client().post("/v1/jobs", &json!({"text": "a"}));
        if answer.status != 202 {
            break answer.expect_problem(503, "queue_full");
        }
    };
    let trace = collector.wait_for_trace(problem["trace_id"].as_str().expect("an id"), 1, LIMIT);
    let request = trace.only_span("POST /v1/jobs");
    request.assert_failed("queue_full");
    assert_eq!(request.description, problem["detail"], "{request:#?}");
}
