//! One trace for each job, read from the spans that a collector receives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::collector::{Collector, CollectorBehavior};
use wordmill_tests::dead_letters::wait_for_dead_letter;
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;
use wordmill_tests::traces::cases::{self, SECRETS};
use wordmill_tests::traces::{Kind, Span, Trace};
use wordmill_tests::{LIMIT, wait_for};

use crate::webhooks::delivery::FAST_RETRIES;

/// Maximum time for a service to stop, even if its collector fails or hangs.
const STOP_MAX: Duration = Duration::from_secs(3);

fn trace_id(job: &Value) -> &str {
    job["trace_id"].as_str().expect("a trace id")
}

#[test]
fn every_job_has_exactly_one_trace() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let settings = cases::settings(&endpoint);
    let mut stack = Stack::with(1, 1, &settings);
    let site = Site::start();
    let cases = cases::run(&mut stack, &site, &settings);
    Admin::connect(&stack.nats).wait_until_idle();
    // A graceful stop sends all remaining spans.
    stack.gateways[0].process.stop();
    stack.workers[1].process.stop();
    for case in &cases {
        let trace = collector.trace(case.trace_id()).expect("a trace");
        case.verify(&trace);
        let others = collector.traces().into_iter().filter(|other| {
            let names_job = |span: &Span| span.attribute("job.id") == case.job_id();
            other.id() != case.trace_id() && other.spans.iter().any(names_job)
        });
        assert_eq!(others.count(), 0, "the job is in one trace only: {}", case.job);
    }
    // The cancel request has its own trace; polls have none.
    let all = collector.traces();
    all.iter().flat_map(|trace| &trace.spans).for_each(assert_resource);
    assert_eq!(all.len(), cases.len() + 1, "{all:#?}");
    let request = all.iter().find(|trace| trace.spans[0].name == "POST /v1/jobs/{id}/cancel");
    let cancel = cases.iter().find_map(|case| {
        let trace = collector.trace(case.trace_id())?;
        trace.spans.into_iter().find(|span| span.name == "cancel job")
    });
    cancel.expect("a cancelled job").assert_linked_to(&request.expect("the request").spans[0]);
}

/// Asserts the attributes of the process that recorded a span.
fn assert_resource(span: &Span) {
    let host = rustix::system::uname();
    for (name, value) in [
        ("service.namespace", "wordmill"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("host.name", host.nodename().to_str().expect("a name")),
        ("telemetry.sdk.name", "opentelemetry"),
        ("telemetry.sdk.language", "rust"),
    ] {
        assert_eq!(span.resource.get(name).map(String::as_str), Some(value), "{name}: {span:#?}");
    }
    for name in ["telemetry.sdk.version", "service.instance.id", "process.pid"] {
        assert!(
            span.resource.get(name).is_some_and(|value| !value.is_empty()),
            "{name}: {span:#?}"
        );
    }
    assert!(["wordmill-gateway", "wordmill-worker"].contains(&span.service()), "{span:#?}");
}

#[test]
fn a_replay_is_a_new_trace_with_a_link_to_the_old_one() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let settings = cases::settings(&endpoint);
    let stack = Stack::with(1, 1, &settings);
    let site = Site::start();
    let url = site.put("/page", Page::status("503 Service Unavailable"));
    let old = stack.client().wait_until_final(&stack.client().submit_url(&url), LIMIT);
    assert_eq!(old["dead_lettered"], true, "{old}");
    wait_for_dead_letter(stack.client(), old["job_id"].as_str().expect("an id"));
    site.put("/page", Page::new("text/html", "here again"));
    let body = json!({"ids": [old["job_id"]]}).to_string();
    let json = [("content-type", "application/json")];
    let answer =
        stack.client().send("POST", "/v1/dead-letters/replay", &json, body.as_bytes()).json();
    let job_id = answer["data"][0]["job_id"].as_str().expect("a new job").to_owned();
    let new = stack.client().wait_until_final(&job_id, LIMIT);
    assert_ne!(trace_id(&new), trace_id(&old));
    let old = collector.wait_for_trace(trace_id(&old), 9, LIMIT);
    let new = collector.wait_for_trace(trace_id(&new), 6, LIMIT);
    new.assert_spans(
        &["replay job", "publish jobs", "process jobs", "GET", "extract text", "count words"],
        None,
    );
    let replay = new.only_span("replay job");
    let publish = new.only_span("publish jobs");
    assert_eq!(replay.parent_id.as_str(), "", "{replay:#?}");
    assert_eq!(replay.links.len(), 2, "{replay:#?}");
    replay.assert_linked_to(old.only_span("publish dead_jobs"));
    replay.assert_attributes(&[("job.id", &job_id)]);
    publish.assert_child_of(replay);
    new.only_span("process jobs").assert_child_of(publish);
}

/// Asserts that `publish` has one delivery for each of `answers` as a child, each with one attempt
/// that received this status code.
fn assert_webhook_deliveries(trace: &Trace, publish: &Span, job_id: &str, answers: &[&str]) {
    let of = |parent: &Span, name| {
        let spans = trace.spans_named(name).into_iter();
        spans.filter(|span| span.parent_id == parent.span_id).cloned().collect::<Vec<_>>()
    };
    assert_eq!(publish.kind, Kind::Producer);
    publish.assert_attributes(&[("messaging.destination.name", "webhooks"), ("job.id", job_id)]);
    let processed = of(publish, "process webhooks");
    assert_eq!(processed.len(), answers.len(), "{trace:#?}");
    for (process, answer) in processed.iter().zip(answers) {
        assert_eq!(process.kind, Kind::Consumer);
        assert_eq!(process.service(), "wordmill-worker");
        process.assert_child_of(publish);
        process.assert_linked_to(publish);
        process.assert_attributes(&[
            ("messaging.destination.name", "webhooks"),
            ("messaging.consumer.group.name", "webhooks"),
            ("messaging.message.id", publish.attribute("messaging.message.id")),
            ("job.id", job_id),
        ]);
        let [post] = &of(process, "POST")[..] else { panic!("not one attempt: {trace:#?}") };
        assert_eq!(post.kind, Kind::Client);
        post.assert_child_of(process);
        post.assert_attributes(&[
            ("http.request.method", "POST"),
            ("http.response.status_code", answer),
        ]);
        assert!(post.attribute("url.full").ends_with("/hook"), "without its query: {post:#?}");
        if *answer == "503" {
            post.assert_failed("503")
        } else {
            assert!(!post.is_error, "{post:#?}")
        }
    }
}

#[test]
fn a_webhook_is_in_the_trace_of_its_job() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let receiver = Receiver::start();
    let endpoint = collector.endpoint();
    let settings = [&cases::settings(&endpoint)[..], &FAST_RETRIES].concat();
    let stack = Stack::with(1, 1, &settings);
    let path = "/hook?token=hunter2";
    let client = stack.client();
    let answers = ["503 Service Unavailable", "204 No Content"].map(|one| Reply::Status(one, ""));
    receiver.set_replies(path, &answers);
    let job_id = client.submit(&json!({"text": "a", "webhook": {"url": receiver.url(path)}}));
    receiver.wait_for_requests(path, 2, LIMIT);
    let again = client.send("POST", &format!("/v1/jobs/{job_id}/webhook"), &[], b"");
    assert_eq!(again.status, 202, "{again:?}");
    receiver.wait_for_requests(path, 3, LIMIT);
    let job = client.wait_until_final(&job_id, LIMIT);
    let trace = collector.wait_for_trace(trace_id(&job), 13, LIMIT);
    trace.assert_spans(
        &[
            &["POST /v1/jobs", "publish jobs", "process jobs", "count words"][..],
            &["publish webhooks", "process webhooks", "POST", "process webhooks", "POST"],
            &["send webhook", "publish webhooks", "process webhooks", "POST"],
        ]
        .concat(),
        None,
    );
    let publishes = trace.spans_named("publish webhooks");
    publishes[0].assert_child_of(trace.only_span("process jobs"));
    assert_eq!(publishes[0].service(), "wordmill-worker");
    let first_id = format!("public.{job_id}");
    publishes[0].assert_attributes(&[("messaging.message.id", &first_id)]);
    let second_id = publishes[1].attribute("messaging.message.id");
    assert!(second_id.starts_with(&format!("{first_id}.")), "{:#?}", publishes[1]);
    assert_webhook_deliveries(&trace, publishes[0], &job_id, &["503", "204"]);
    let sent = trace.only_span("send webhook");
    assert_eq!(sent.kind, Kind::Internal);
    assert_eq!(sent.service(), "wordmill-gateway");
    sent.assert_child_of(trace.only_span("POST /v1/jobs"));
    sent.assert_attributes(&[("job.id", &job_id)]);
    let request = again.header("traceresponse").expect("a trace")[3..35].to_owned();
    let request = collector.wait_for_trace(&request, 1, LIMIT);
    request.assert_spans(&["POST /v1/jobs/{id}/webhook"], None);
    sent.assert_linked_to(&request.spans[0]);
    publishes[1].assert_child_of(sent);
    assert_webhook_deliveries(&trace, publishes[1], &job_id, &["204"]);
    let all = format!("{:?}", collector.traces());
    assert!(SECRETS.iter().all(|secret| !all.contains(secret)), "{all}");
}

#[test]
fn each_line_of_a_batch_is_a_trace_linked_to_the_request() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let stack = Stack::with(1, 1, &cases::settings(&endpoint));
    let client = stack.client();
    let sent = client.post("/v1/batches", &json!([{"text": "a"}, {"text": "b c"}])).json();
    let batch = client.wait_until_final(sent["batch_id"].as_str().expect("an id"), LIMIT);
    assert_eq!(trace_id(&batch), sent["trace_id"], "{sent}");
    let mut all = BTreeSet::from([trace_id(&batch).to_owned()]);
    let request = collector.wait_for_trace(trace_id(&batch), 3, LIMIT);
    let root = request.only_span("POST /v1/batches").clone();
    let publish = request.only_span("publish jobs");
    publish.assert_child_of(&root);
    publish.assert_attributes(&[
        ("job.id", sent["batch_id"].as_str().expect("an id")),
        ("job.lane", "bulk"),
    ]);
    for line in sent["lines"].as_array().expect("lines") {
        let job_id = line["job_id"].as_str().expect("an id");
        let job = client.wait_until_final(job_id, LIMIT);
        let trace = collector.wait_for_trace(trace_id(&job), 4, LIMIT);
        trace.assert_spans(&["batch line", "publish jobs", "process jobs", "count words"], None);
        let line = trace.only_span("batch line");
        let publish = trace.only_span("publish jobs");
        assert_eq!(line.kind, Kind::Internal);
        assert_eq!(line.service(), "wordmill-gateway");
        line.assert_linked_to(&root);
        line.assert_attributes(&[("job.id", job_id)]);
        publish.assert_child_of(line);
        trace.only_span("process jobs").assert_child_of(publish);
        assert!(all.insert(trace_id(&job).to_owned()), "each line has its own trace: {job}");
    }
}

/// Submits a job with a trace context and returns it when it is final.
fn submit_with_traceparent(stack: &Stack, traceparent: &str) -> Value {
    let headers = [("content-type", "application/json"), ("traceparent", traceparent)];
    let answer = stack.client().send("POST", "/v1/jobs", &headers, br#"{"text": "a b"}"#);
    let job_id = answer.json()["job_id"].as_str().expect("an id").to_owned();
    stack.client().wait_until_final(&job_id, LIMIT)
}

#[test]
fn a_malformed_trace_context_starts_a_new_trace() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let stack = Stack::with(1, 1, &cases::settings(&endpoint));
    for bad in [
        "nonsense",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "ff-77f7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01",
    ] {
        let job = submit_with_traceparent(&stack, bad);
        let trace = collector.wait_for_trace(trace_id(&job), 4, LIMIT);
        assert_eq!(trace.only_span("POST /v1/jobs").parent_id, "", "{bad}");
    }
}

#[test]
fn an_unsampled_trace_context_is_propagated_without_spans() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let stack = Stack::with(1, 1, &cases::settings(&endpoint));
    let unsampled = "77f7651916cd43dd8448eb211c80319c";
    let job = submit_with_traceparent(&stack, &format!("00-{unsampled}-00f067aa0ba902b7-00"));
    assert_eq!(trace_id(&job), unsampled);
    // Once the spans of a later job have arrived, spans of this one would have arrived, too.
    let later = submit_with_traceparent(&stack, "");
    collector.wait_for_trace(trace_id(&later), 4, LIMIT);
    assert!(collector.trace(unsampled).is_none());
}

#[test]
fn an_untrusted_caller_is_linked() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let mut settings = cases::settings(&endpoint).to_vec();
    settings.push(("WORDMILL_TRACE_INBOUND", "link"));
    settings.push(("WORDMILL_TRACE_URL", "http://127.0.0.1:16686/"));
    let attributes = "deployment.environment.name=a%20test,host.name=node-1,service.name=listed";
    settings.push(("OTEL_RESOURCE_ATTRIBUTES", attributes));
    settings.push(("OTEL_SERVICE_NAME", "named"));
    let stack = Stack::with(1, 1, &settings);
    let theirs = "88f7651916cd43dd8448eb211c80319c";
    let traceparent = format!("00-{theirs}-00f067aa0ba902b7-00");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let answer = stack.client().send("POST", "/v1/jobs", &headers, br#"{"text": "a b"}"#);
    let job = answer.json();
    assert_ne!(trace_id(&job), theirs);
    let url = format!("http://127.0.0.1:16686/trace/{}", trace_id(&job));
    assert_eq!(job["links"]["trace"], url, "{job}");
    let trace = collector.wait_for_trace(trace_id(&job), 4, LIMIT);
    let request = trace.only_span("POST /v1/jobs");
    assert_eq!(request.kind, Kind::Server);
    let [link] = &request.links[..] else { panic!("not one link: {request:#?}") };
    assert_eq!((link.trace_id.as_str(), link.span_id.as_str()), (theirs, "00f067aa0ba902b7"));
    assert_eq!(request.resource["deployment.environment.name"], "a test");
    assert_eq!(request.resource["host.name"], "node-1");
    assert_eq!(request.service(), "named");
}

#[test]
fn trace_ids_are_propagated_without_a_collector() {
    for off in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_SDK_DISABLED", "true")],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"), ("OTEL_TRACES_EXPORTER", "none")],
    ] {
        let stack = Stack::with(1, 1, off);
        let theirs = "99f7651916cd43dd8448eb211c80319c";
        let traceparent = format!("00-{theirs}-00f067aa0ba902b7-01");
        let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
        let answer = stack.client().send("POST", "/v1/jobs", &headers, br#"{"text": "a b"}"#);
        assert_eq!(answer.header("traceresponse"), Some(traceparent.as_str()));
        let job_id = answer.json()["job_id"].as_str().expect("an id").to_owned();
        let job = stack.client().wait_until_final(&job_id, LIMIT);
        assert_eq!(trace_id(&job), theirs);
        assert_eq!(job["links"]["trace"], Value::Null, "{job}");
        let problem = stack.client().get("/v1/jobs/nonsense").expect_problem(400, "invalid_job_id");
        assert_ne!(trace_id(&problem), theirs);
        for process in [&stack.gateways[0].process, &stack.workers[0].process] {
            let threads = format!("/proc/{}/task", process.id());
            for thread in std::fs::read_dir(threads).expect("threads").flatten() {
                let name = std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
                assert!(!name.contains("Telemetry"), "{name}");
            }
        }
    }
}

#[test]
fn a_failing_collector_only_loses_spans() {
    let failing = Collector::start(CollectorBehavior::Fails);
    let hanging = Collector::start(CollectorBehavior::Hangs);
    let refused = wordmill_tests::site::closed_port();
    for (endpoint, reached) in [
        (refused.trim_end_matches('/').to_owned(), None),
        (failing.endpoint(), Some(&failing)),
        (hanging.endpoint(), Some(&hanging)),
    ] {
        let mut settings = cases::settings(&endpoint).to_vec();
        // A small queue, so that it overflows.
        settings.push(("OTEL_BSP_MAX_QUEUE_SIZE", "4"));
        let mut stack = Stack::with(1, 1, &settings);
        for _ in 0..20 {
            let started = Instant::now();
            let job_id = stack.client().submit(&json!({"text": "a b"}));
            // A request that waited for an export would take up to the export timeout of 3 s.
            assert!(started.elapsed() < Duration::from_secs(2), "{endpoint}");
            assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["status"], "succeeded");
        }
        if let Some(collector) = reached {
            wait_for("a request arrives", LIMIT, || (collector.requests() > 0).then_some(()));
        }
        for process in [&mut stack.gateways[0].process, &mut stack.workers[0].process] {
            let started = Instant::now();
            let status = process.stop();
            assert!(status.success(), "{status}: {}", process.output());
            assert!(started.elapsed() < STOP_MAX, "{endpoint}: {}", process.output());
            let warning =
                process.wait_for_log("some spans were not exported before shutdown", LIMIT);
            assert!(
                warning["dropped"].as_u64() > Some(0) || warning["flushed"] == false,
                "{warning}"
            );
            let noise = process.output().matches("cannot send spans").count();
            assert!(noise <= 1, "logged once: {}", process.output());
        }
    }
}

#[test]
fn every_log_line_about_a_job_contains_its_id_and_trace_id() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    for settings in [&cases::settings(&endpoint)[..], &[]] {
        let mut settings = settings.to_vec();
        settings.push(("WORDMILL_LOG", "debug"));
        let mut stack = Stack::with(1, 1, &settings);
        let site = Site::start();
        let url = site.put("/page?token=hunter2", Page::new("text/html", "unmistakable"));
        let page = stack.client().wait_until_final(&stack.client().submit_url(&url), LIMIT);
        let text = stack.client().submit(&json!({"text": "unmistakable"}));
        let text = stack.client().wait_until_final(&text, LIMIT);
        stack.gateways[0].process.stop();
        stack.workers[0].process.stop();
        let mut lines = 0;
        for process in [&stack.gateways[0].process, &stack.workers[0].process] {
            let output = process.output();
            for secret in SECRETS {
                assert!(!output.contains(secret), "{secret} in {output}");
            }
            for line in output.lines() {
                let line: Value = serde_json::from_str(line).expect("one JSON object a line");
                assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
                let jobs = [&page, &text];
                let job = jobs.iter().find(|job| line["job.id"] == job["job_id"]);
                let is_about_a_job =
                    ["job accepted", "job finished"].iter().any(|text| line["message"] == *text);
                assert!(job.is_some() || !is_about_a_job, "{line}");
                if let Some(job) = job {
                    assert_eq!(line["trace_id"], job["trace_id"], "{line}");
                    lines += 1;
                }
            }
        }
        assert!(lines >= 4, "{lines}");
    }
}
