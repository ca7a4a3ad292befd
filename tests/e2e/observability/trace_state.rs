//! The caller's `tracestate`, from the request to the last span and message of its job.

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::collector::{Collector, CollectorBehavior};
use wordmill_tests::dead_letters::wait_for_dead_letter;
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::traces::{Link, cases};
use wordmill_tests::{LIMIT, wait_for};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const JSON: (&str, &str) = ("content-type", "application/json");
/// A list in two lines, as a proxy may send it.
const LINES: [(&str, &str); 2] =
    [("tracestate", "congo=t61rcWkgMzE , "), ("tracestate", "rojo=00f067aa0ba902b7")];
const STATE: &str = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7";
/// The second attempt to deliver a webhook is after the end of the test.
const WEBHOOKS: [(&str, &str); 2] = [
    ("WORDMILL_WEBHOOK_SECRETS", "0123456789abcdef0123456789abcdef"),
    ("WORDMILL_WEBHOOK_RETRY_MAX", "1h"),
];

/// Submits a job with header fields, and returns its id.
fn submit(stack: &Stack, headers: &[(&str, &str)], body: &Value) -> String {
    let headers = [&[JSON], headers].concat();
    let answer = stack.client().send("POST", "/v1/jobs", &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["job_id"].as_str().expect("an id").to_owned()
}

/// Waits for the last message of a subject, and returns its `traceparent` and `tracestate`.
fn trace_headers(stack: &Stack, stream: &str, subject: &str) -> (String, Option<String>) {
    let admin = Admin::connect(&stack.nats);
    let (_, headers) =
        wait_for(&format!("a message of {subject}"), LIMIT, || admin.last_message(stream, subject));
    let values = |wanted: &str| {
        let named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let [parent] = &values("traceparent")[..] else { panic!("not one traceparent: {headers:?}") };
    let states = values("tracestate");
    assert!(states.len() <= 1, "{headers:?}");
    (parent.clone(), states.first().cloned())
}

/// Submits a job whose attempts and webhook fail, runs it with a worker, and asserts the trace
/// context of each of its messages.
fn run_failing_job(settings: &[(&str, &str)]) -> Stack {
    let settings = [settings, &WEBHOOKS].concat();
    let mut stack = Stack::with(1, 0, &settings);
    let site = Site::start();
    let receiver = Receiver::start();
    receiver.set_replies("/hook", &[Reply::Status("503 Service Unavailable", "")]);
    let url = site.put("/page", Page::status("503 Service Unavailable"));
    let headers = [&[("traceparent", TRACEPARENT)][..], &LINES].concat();
    let body = json!({"url": url, "webhook": {"url": receiver.url("/hook")}});
    let job_id = submit(&stack, &headers, &body);
    let assert_context = |stack: &Stack, stream: &str, subject: &str| {
        let (parent, state) = trace_headers(stack, stream, &format!("{subject}.{job_id}"));
        assert_eq!(&parent[3..35], TRACE_ID, "{subject}");
        assert_eq!(state.as_deref(), Some(STATE), "{subject}");
    };
    assert_context(&stack, "JOBS", "jobs.interactive.public");
    let admin = Admin::connect(&stack.nats);
    let record = admin.last_message("KV_job_state", &format!("$KV.job_state.public.{job_id}"));
    let record: Value = serde_json::from_str(&record.expect("a record").0).expect("JSON");
    assert_eq!(record["tracestate"], STATE, "{record}");
    let worker = Worker::start(&stack.nats.address(), &settings);
    wait_until_ready(&worker.health);
    stack.workers.push(worker);
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_eq!(job["dead_lettered"], true, "{job}");
    assert_context(&stack, "DEAD_JOBS", "dead.interactive.public");
    assert_context(&stack, "WEBHOOKS", "webhooks.public");
    receiver.wait_for_requests("/hook", 1, LIMIT);
    stack
}

#[test]
fn every_span_and_message_of_a_job_has_the_callers_trace_state() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let _stack = run_failing_job(&cases::settings(&endpoint));
    let trace = collector.wait_for_trace(TRACE_ID, 12, LIMIT);
    trace.assert_spans(
        &[
            &["POST /v1/jobs", "publish jobs", "publish dead_jobs"][..],
            &["process jobs", "GET"].repeat(3),
            &["publish webhooks", "process webhooks", "POST"],
        ]
        .concat(),
        Some("00f067aa0ba902b7"),
    );
    for span in &trace.spans {
        assert_eq!(span.trace_state, STATE, "{span:#?}");
        let links = span.links.iter().filter(|link| link.trace_id == TRACE_ID);
        links.for_each(|link| assert_eq!(link.trace_state, STATE, "{span:#?}"));
    }
}

#[test]
fn messages_have_a_list_that_the_sdk_refuses() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let stack = Stack::with(1, 0, &cases::settings(&collector.endpoint()));
    // A system of 14 characters is valid, but not for version 0.33 of the SDK.
    let state = "tenant@abcdefghijklmn=1";
    let headers = [("traceparent", TRACEPARENT), ("tracestate", state)];
    let job_id = submit(&stack, &headers, &json!({"text": "a"}));
    let (_, found) = trace_headers(&stack, "JOBS", &format!("jobs.interactive.public.{job_id}"));
    assert_eq!(found.as_deref(), Some(state));
}

#[test]
fn trace_state_is_propagated_without_a_collector() {
    run_failing_job(&[]);
}

#[test]
fn trace_state_is_propagated_if_the_caller_does_not_record() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let stack = Stack::with(1, 0, &cases::settings(&collector.endpoint()));
    let unsampled = format!("00-{TRACE_ID}-00f067aa0ba902b7-00");
    let headers = [&[("traceparent", unsampled.as_str())][..], &LINES].concat();
    let job_id = submit(&stack, &headers, &json!({"text": "a"}));
    let subject = format!("jobs.interactive.public.{job_id}");
    let (parent, state) = trace_headers(&stack, "JOBS", &subject);
    assert_eq!(&parent[3..35], TRACE_ID);
    assert_eq!(state.as_deref(), Some(STATE));
}

#[test]
fn invalid_trace_state_is_dropped_and_the_trace_continues() {
    let stack = Stack::with(1, 0, &[]);
    let parent = ("traceparent", TRACEPARENT);
    // Without its last member of more than 128 bytes, the list is short enough.
    let kept = format!("first={},second={}", "x".repeat(200), "y".repeat(100));
    let long = format!("{kept},third={}", "z".repeat(200));
    for (headers, expected_trace, expected_state) in [
        (&[parent, ("tracestate", "congo=1")][..], Some(TRACE_ID), Some("congo=1")),
        (&[parent], Some(TRACE_ID), None),
        (&[parent, ("tracestate", "")], Some(TRACE_ID), None),
        (&[parent, ("tracestate", "congo=1,Rojo=2")], Some(TRACE_ID), None),
        (&[("tracestate", "congo=1")], None, None),
        (&[("traceparent", "00-nonsense"), ("tracestate", "congo=1")], None, None),
        (&[parent, parent, ("tracestate", "congo=1")], None, None),
        (&[parent, ("tracestate", &long)], Some(TRACE_ID), Some(&kept)),
    ] {
        let job_id = submit(&stack, headers, &json!({"text": "a"}));
        let subject = format!("jobs.interactive.public.{job_id}");
        let (parent, state) = trace_headers(&stack, "JOBS", &subject);
        assert_eq!(&parent[3..35] == TRACE_ID, expected_trace.is_some(), "{headers:?}");
        assert_eq!(state.as_deref(), expected_state, "{headers:?}");
    }
}

#[test]
fn the_trace_state_of_an_untrusted_caller_is_only_in_the_link() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let settings = [&cases::settings(&endpoint)[..], &[("WORDMILL_TRACE_INBOUND", "link")]];
    let stack = Stack::with(1, 1, &settings.concat());
    let headers = [&[("traceparent", TRACEPARENT)][..], &LINES].concat();
    let job_id = submit(&stack, &headers, &json!({"text": "a b"}));
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    let trace = collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 4, LIMIT);
    let theirs = Link {
        trace_id: TRACE_ID.to_owned(),
        span_id: "00f067aa0ba902b7".to_owned(),
        trace_state: STATE.to_owned(),
    };
    assert_eq!(trace.only_span("POST /v1/jobs").links, [theirs]);
    for span in &trace.spans {
        assert_eq!(span.trace_state, "", "{span:#?}");
    }
}

#[test]
fn traces_that_begin_here_have_the_trace_state_only_in_their_links() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let settings = cases::settings(&endpoint);
    let stack = Stack::with(1, 1, &settings);
    let client = stack.client();
    let site = Site::start();
    let url = site.put("/page", Page::status("503 Service Unavailable"));
    let headers = [&[JSON, ("traceparent", TRACEPARENT)][..], &LINES].concat();

    let batch = client.send("POST", "/v1/batches", &headers, br#"[{"text": "a"}]"#).json();
    let line = client.wait_until_final(batch["lines"][0]["job_id"].as_str().expect("an id"), LIMIT);
    let line = collector.wait_for_trace(line["trace_id"].as_str().expect("an id"), 4, LIMIT);
    let [link] = &line.only_span("batch line").links[..] else { panic!("not one link: {line:#?}") };
    assert_eq!(link.trace_state, STATE, "{line:#?}");

    let old = submit(&stack, &headers[1..], &json!({"url": url}));
    wait_for_dead_letter(client, &old);
    site.put("/page", Page::new("text/html", "here again"));
    let body = json!({"ids": [old]}).to_string();
    let answer = client.send("POST", "/v1/dead-letters/replay", &[JSON], body.as_bytes()).json();
    let new = client.wait_until_final(answer["data"][0]["job_id"].as_str().expect("an id"), LIMIT);
    let replay = collector.wait_for_trace(new["trace_id"].as_str().expect("an id"), 6, LIMIT);
    let links = &replay.only_span("replay job").links;
    let letter = links.iter().find(|link| link.trace_id == TRACE_ID).expect("the dead letter");
    assert_eq!(letter.trace_state, STATE, "{replay:#?}");
    for span in line.spans.iter().chain(&replay.spans) {
        assert_eq!(span.trace_state, "", "{span:#?}");
    }
}
