//! Warnings of jobs: in answers, events, webhooks and batches.

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::document::{post_document, require_accepted};
use wordmill_tests::receiver::Receiver;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;
use wordmill_tests::stream::{Event, EventStream};

/// A page whose text is created by scripts.
const SCRIPT_PAGE: &str = "<!doctype html><title>Mills</title><div id=root></div>\
                           <script src=/mills.js></script>";
const HTML: &str = "text/html; charset=utf-8";

/// Returns the list of one warning.
fn one(code: &str, count: u64, location: Option<&str>) -> Value {
    json!([{"code": code, "count": count, "where": location}])
}

/// Waits until a job is final, asserts that it has succeeded, and returns its warnings.
fn warnings_of(client: &Client, job_id: &str) -> Value {
    let job = client.wait_until_final(job_id, LIMIT);
    assert_eq!(job["status"], "succeeded", "{job}");
    job["warnings"].clone()
}

#[test]
fn a_page_without_text_has_warnings_in_every_answer() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let job_id = client.submit_url(&site.put("/app", Page::new(HTML, SCRIPT_PAGE)));
    let expected = json!([
        {"code": "no_text_found", "count": 1, "where": null},
        {"code": "script_only_page", "count": 1, "where": null},
    ]);
    assert_eq!(warnings_of(client, &job_id), expected);
    assert_eq!(client.result(&job_id)["warnings"], expected);
    assert_eq!(client.get("/v1/jobs").json()["data"][0]["warnings"], expected);
    let event = EventStream::open(client, &job_id, &[]).next_job(LIMIT).expect("an event");
    assert!(matches!(&event, Event::Job { data, .. } if data["warnings"] == expected), "{event:?}");
    for (format, text) in [("csv", "word,count\r\n"), ("ndjson", "")] {
        let answer = client.get(&format!("/v1/jobs/{job_id}/result?format={format}"));
        assert_eq!(answer.text, text, "{format}");
    }
}

#[test]
fn a_job_without_reasons_for_warnings_has_an_empty_list() {
    let stack = Stack::start();
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "the mill"}));
    assert_eq!(warnings_of(client, &job_id), json!([]));
    assert_eq!(client.result(&job_id)["warnings"], json!([]));
}

#[test]
fn every_job_that_finds_no_words_has_a_warning() {
    let stack = Stack::start();
    let client = stack.client();
    let page = "<nav>Home of the mill</nav><main><img src=mill.png></main>";
    for (query, content_type, body, location) in [
        ("", "text/plain", "—", None),
        ("", HTML, "<title>Mill</title>", None),
        ("?scope=main", HTML, page, Some("main")),
        ("?min_len=50", HTML, page, Some("options")),
        ("?numbers=skip", "text/plain", "1 2 3", Some("options")),
    ] {
        let answer =
            post_document(client, query, &[("content-type", content_type)], body.as_bytes());
        let warnings = warnings_of(client, &require_accepted(&answer));
        assert_eq!(warnings, one("no_text_found", 1, location), "{query} {body}");
    }
    // A short text in JSON is counted without a slot.
    let job_id = client.submit(&json!({"text": "…"}));
    assert_eq!(warnings_of(client, &job_id), one("no_text_found", 1, None));
}

#[test]
fn hidden_text_is_reported_in_characters() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let page = "<p>The mill<p hidden>by the river";
    let job_id = client.submit_url(&site.put("/mill", Page::new(HTML, page)));
    assert_eq!(warnings_of(client, &job_id), one("hidden_text_present", 10, None));
}

#[test]
fn a_guessed_charset_is_reported() {
    let stack = Stack::start();
    let client = stack.client();
    // "мельница у реки" twice in windows-1251.
    let mill = b"\xec\xe5\xeb\xfc\xed\xe8\xf6\xe0 \xf3 \xf0\xe5\xea\xe8 ";
    let body = [mill.as_slice(), mill].concat();
    let answer = post_document(client, "", &[("content-type", "text/plain")], &body);
    let job_id = require_accepted(&answer);
    assert_eq!(warnings_of(client, &job_id), one("charset_guessed", 1, Some("windows-1251")));
}

#[test]
fn declarations_and_bytes_that_contradict_the_charset_are_reported() {
    let stack = Stack::start();
    let client = stack.client();
    let declared = "utf-8; meta windows-1251";
    for (content_type, body, count, location) in [
        (HTML, "<meta charset=windows-1251>мельница".as_bytes(), 1, declared),
        ("text/plain; charset=utf-8", b"caf\xe9 d\xe9j\xe0", 3, "utf-8; invalid from byte 3"),
    ] {
        let answer = post_document(client, "", &[("content-type", content_type)], body);
        let warnings = warnings_of(client, &require_accepted(&answer));
        assert_eq!(warnings, one("charset_contradicted", count, Some(location)));
    }
}

#[test]
fn a_batch_merges_the_warnings_of_its_members_by_code() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let hidden = |words: &str| Page::new(HTML, format!("<p>The mill<p hidden>{words}"));
    let lines = [
        json!({"url": site.put("/first", hidden("by the river"))}),
        json!({"text": "the mill"}),
        json!({"text": "—"}),
        json!({"url": site.put("/second", hidden("bread"))}),
        json!({"url": site.put("/app", Page::new(HTML, SCRIPT_PAGE))}),
        json!({"url": site.put("/missing", Page::status("404 Not Found"))}),
    ];
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let headers = [("content-type", "application/x-ndjson")];
    let sent = client.send("POST", "/v1/batches", &headers, body.as_bytes()).json();
    let batch_id = sent["batch_id"].as_str().expect("an id");
    let expected = json!([
        {"code": "no_text_found", "count": 2, "where": null},
        {"code": "script_only_page", "count": 1, "where": null},
        {"code": "hidden_text_present", "count": 15, "where": null},
    ]);
    assert_eq!(warnings_of(client, batch_id), expected);
    let result = client.get(&format!("/v1/batches/{batch_id}/result")).json();
    assert_eq!(result["warnings"], expected);
}

#[test]
fn a_batch_without_a_succeeded_member_has_a_warning() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let line = json!({"url": site.put("/missing", Page::status("404 Not Found"))});
    let headers = [("content-type", "application/x-ndjson")];
    let sent = client.send("POST", "/v1/batches", &headers, line.to_string().as_bytes()).json();
    let batch_id = sent["batch_id"].as_str().expect("an id");
    assert_eq!(warnings_of(client, batch_id), one("no_text_found", 1, None));
}

#[test]
fn a_webhook_has_the_warnings_of_its_job() {
    let secrets = ("WORDMILL_WEBHOOK_SECRETS", "0123456789abcdef0123456789abcdef");
    let stack = Stack::with(1, 1, &[secrets]);
    let client = stack.client();
    let receiver = Receiver::start();
    for (path, text, expected) in
        [("/empty", "—", one("no_text_found", 1, None)), ("/mill", "the mill", json!([]))]
    {
        client.submit(&json!({"text": text, "webhook": {"url": receiver.url(path)}}));
        let requests = receiver.wait_for_requests(path, 1, LIMIT);
        assert_eq!(requests[0].json()["data"]["warnings"], expected, "{path}");
    }
}

#[test]
fn warnings_of_a_newer_worker_are_shown_unchanged() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "the mill"}));
    client.wait_until_final(&job_id, LIMIT);
    let newer = json!([
        {"code": "font_missing", "count": 3, "where": "page 2"},
        {"code": "unclosed_hidden_element", "count": 1, "where": "video"},
        {"code": "nesting_too_deep", "count": 7, "where": null},
    ]);
    admin.rewrite_record(&job_id, |record| record["warnings"] = newer.clone());
    assert_eq!(warnings_of(client, &job_id), newer);
    assert_eq!(client.result(&job_id)["warnings"], newer);
    assert_eq!(client.get("/v1/jobs").json()["data"][0]["warnings"], newer);
}

#[test]
fn a_record_of_an_older_worker_has_no_warnings() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "—"}));
    client.wait_until_final(&job_id, LIMIT);
    admin.rewrite_record(&job_id, |record| {
        record.as_object_mut().expect("an object").remove("warnings").expect("warnings");
    });
    assert_eq!(warnings_of(client, &job_id), json!([]));
    assert_eq!(client.result(&job_id)["warnings"], json!([]));
}
