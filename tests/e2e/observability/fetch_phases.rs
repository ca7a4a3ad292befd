//! The phases of a fetch, as events of its span.

use serde_json::json;
use wordmill_tests::LIMIT;
use wordmill_tests::collector::{Collector, CollectorBehavior};
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;
use wordmill_tests::traces::cases::{self, SECRETS};
use wordmill_tests::traces::{Event, Span};

use crate::webhooks::delivery::FAST_RETRIES;

/// Asserts that the events are in order and within the span.
fn assert_times(span: &Span) {
    let times: Vec<u64> = span.events.iter().map(|event| event.time_us).collect();
    assert!(times.is_sorted(), "{span:#?}");
    assert!(times.iter().all(|time| (span.start_us..=span.end_us).contains(time)), "{span:#?}");
}

fn attribute<'a>(event: &'a Event, name: &str) -> &'a str {
    event.attributes.get(name).map_or("", String::as_str)
}

#[test]
fn the_span_of_a_fetch_shows_its_phases() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let stack = Stack::with(1, 1, &cases::settings(&endpoint));
    let site = Site::start();
    let page = site.put("/page?token=hunter2", Page::new("text/html", "some words"));
    let redirect = site.put("/", Page::status("302 Found").header("location", &page));
    let by_name = redirect.replace("127.0.0.1", "localhost");
    let job = stack.client().wait_until_final(&stack.client().submit_url(&by_name), LIMIT);
    assert_eq!(job["status"], "succeeded", "{job}");
    let trace = collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 6, LIMIT);
    let get = trace.only_span("GET");
    let names = [
        "name resolved",
        "connected",
        "response header received",
        "redirected",
        "connected",
        "response header received",
        "body received",
    ];
    assert_eq!(get.event_names(), names, "{get:#?}");
    assert_times(get);
    let resolved: usize =
        attribute(&get.events[0], "wordmill.fetch.addresses").parse().expect("one");
    assert!(resolved >= 1, "{get:#?}");
    for connected in [&get.events[1], &get.events[4]] {
        assert_eq!(attribute(connected, "network.peer.address"), "127.0.0.1", "{get:#?}");
        assert_eq!(attribute(connected, "network.peer.port"), site.port().to_string());
    }
    assert_eq!(attribute(&get.events[2], "http.response.status_code"), "302", "{get:#?}");
    assert_eq!(attribute(&get.events[3], "url.full"), page.split('?').next().expect("a URL"));
    assert_eq!(attribute(&get.events[5], "http.response.status_code"), "200", "{get:#?}");
    assert_eq!(attribute(&get.events[6], "http.response.body.size"), "10", "{get:#?}");
    let all = format!("{trace:?}");
    assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{all}");
}

#[test]
fn the_span_of_a_failed_fetch_shows_the_phases_before_the_failure() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let settings = [&cases::settings(&endpoint)[..], &[("WORDMILL_ATTEMPTS", "1")]].concat();
    let stack = Stack::with(1, 1, &settings);
    let site = Site::start();
    let page = Page::new("text/html", "some words");
    let secure = site.put("/page", page.clone()).replace("http://", "https://");
    let corrupt = site.put("/corrupt", page.header("content-encoding", "gzip"));
    for (url, code, names) in [
        (secure, "fetch_tls", &["connected"][..]),
        (corrupt, "decode_error", &["connected", "response header received"]),
    ] {
        let job = stack.client().wait_until_final(&stack.client().submit_url(&url), LIMIT);
        let trace = collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 4, LIMIT);
        let get = trace.only_span("GET");
        get.assert_failed(code);
        assert_eq!(get.event_names(), names, "{get:#?}");
        assert_times(get);
    }
}

#[test]
fn the_span_of_a_webhook_shows_its_phases() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let receiver = Receiver::start();
    receiver.set_replies("/hook", &[Reply::Status("204 No Content", "")]);
    let stack = Stack::with(1, 1, &[&cases::settings(&endpoint)[..], &FAST_RETRIES].concat());
    let body = json!({"text": "a", "webhook": {"url": receiver.url("/hook")}});
    let job = stack.client().wait_until_final(&stack.client().submit(&body), LIMIT);
    let trace = collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 7, LIMIT);
    let post = trace.only_span("POST");
    assert_eq!(post.event_names(), ["connected", "response header received"], "{post:#?}");
    assert_times(post);
}
