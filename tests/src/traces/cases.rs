//! Jobs that end in different ways, and the expected trace of each.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Kind, Span, Trace};
use crate::admin::Admin;
use crate::site::{Page, Site};
use crate::stack::{Stack, Worker, wait_until_ready};
use crate::{LIMIT, wait_for};

/// Span id of the caller in the trace context of a request.
const CALLER: &str = "b7ad6b7169203331";

/// Texts that must not appear in a trace: part of a document, and secrets of a URL.
pub const SECRETS: [&str; 3] = ["unmistakable", "hunter2", "token="];

/// A final job and its expected trace.
#[derive(Debug)]
pub struct Case {
    /// The job, as the API returns it.
    pub job: Value,
    /// Expected number of spans.
    pub spans: usize,
    caller: Option<&'static str>,
    check: fn(&Trace, &Value),
    names: &'static [&'static str],
}

impl Case {
    fn new(
        job: Value,
        caller: Option<&'static str>,
        names: &'static [&'static str],
        check: fn(&Trace, &Value),
    ) -> Self {
        Self { job, spans: names.len(), caller, check, names }
    }

    /// Returns the trace id of the job.
    pub fn trace_id(&self) -> &str {
        self.job["trace_id"].as_str().expect("a trace id")
    }

    /// Returns the id of the job.
    pub fn job_id(&self) -> &str {
        self.job["job_id"].as_str().expect("a job id")
    }

    /// Asserts that the trace has the expected spans and contains no secret.
    pub fn verify(&self, trace: &Trace) {
        assert_eq!(trace.id(), self.trace_id());
        trace.assert_spans(self.names, self.caller);
        assert_submission_spans(trace, &self.job);
        (self.check)(trace, &self.job);
        let all = format!("{trace:?}");
        for secret in SECRETS {
            assert!(!all.contains(secret), "{secret} is in {trace:#?}");
        }
    }
}

/// Returns settings with which a service exports its spans every 100 ms.
pub fn settings(endpoint: &str) -> [(&str, &str); 2] {
    [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")]
}

/// Runs a job for each case on a stack of one gateway and one worker, started with [`settings`].
/// Afterwards, the first worker is killed and a second one runs.
pub fn run(stack: &mut Stack, site: &Site, settings: &[(&str, &str)]) -> Vec<Case> {
    vec![
        count_text(stack),
        count_page(stack, site),
        count_without_caller(stack),
        fail_and_repeat(stack, site),
        fail_for_good(stack, site),
        cancel_running(stack, site),
        kill_worker(stack, site, settings),
    ]
}

/// Submits a job as part of the caller's trace, and returns its id.
pub fn submit(stack: &Stack, body: &Value, trace_id: &str) -> String {
    let traceparent = format!("00-{trace_id}-{CALLER}-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let answer = stack.client().send("POST", "/v1/jobs", &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let response = answer.header("traceresponse").expect("traceresponse").to_owned();
    assert_eq!(&response[3..35], trace_id, "{answer:?}");
    assert_ne!(&response[36..52], CALLER, "the span of the caller: {answer:?}");
    let timing = format!("traceparent;desc=\"{response}\"");
    assert_eq!(answer.header("server-timing"), Some(timing.as_str()));
    answer.json()["job_id"].as_str().expect("an id").to_owned()
}

fn wait_until_final(stack: &Stack, job_id: &str) -> Value {
    stack.client().wait_until_final(job_id, LIMIT)
}

/// Asserts the spans of the submission and of each delivery, which every trace has.
fn assert_submission_spans(trace: &Trace, job: &Value) {
    let job_id = job["job_id"].as_str().expect("an id");
    let message_id = format!("public.{job_id}");
    let request = trace.only_span("POST /v1/jobs");
    let publish = trace.only_span("publish jobs");
    assert_eq!(request.kind, Kind::Server);
    assert_eq!(publish.kind, Kind::Producer);
    request.assert_attributes(&[
        ("http.request.method", "POST"),
        ("http.route", "/v1/jobs"),
        ("url.path", "/v1/jobs"),
        ("http.response.status_code", "202"),
        ("job.id", job_id),
    ]);
    publish.assert_child_of(request);
    publish.assert_attributes(&[
        ("messaging.system", "nats"),
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "jobs"),
        ("messaging.message.id", &message_id),
        ("job.id", job_id),
        ("job.lane", "interactive"),
    ]);
    let sequence = publish.attribute("messaging.nats.stream.sequence");
    assert!(sequence.parse::<u64>().is_ok(), "{publish:#?}");
    for (delivery, process) in trace.spans_named("process jobs").into_iter().enumerate() {
        assert_eq!(process.kind, Kind::Consumer);
        process.assert_child_of(publish);
        process.assert_linked_to(publish);
        process.assert_attributes(&[
            ("messaging.operation.type", "process"),
            ("messaging.consumer.group.name", "interactive"),
            ("messaging.message.id", &message_id),
            ("messaging.nats.stream.sequence", sequence),
            ("job.id", job_id),
        ]);
        let waited_ms = process.attribute("wordmill.queue.wait_ms").parse::<i64>();
        assert!(waited_ms.is_ok_and(|ms| ms >= 0), "{process:#?}");
        // A killed worker does not export the span of its delivery, so the counts differ.
        if !job["attempts"].to_string().contains("worker_crashed") {
            let count = (delivery + 1).to_string();
            process.assert_attributes(&[("messaging.nats.delivery_count", &count)]);
        }
    }
    for span in &trace.spans {
        let gateways = ["POST /v1/jobs", "publish jobs", "cancel job"];
        let service = if gateways.contains(&span.name.as_str()) { "gateway" } else { "worker" };
        assert_eq!(span.service(), format!("wordmill-{service}"), "{span:#?}");
        for name in ["service.instance.id", "service.version", "process.pid"] {
            assert!(span.resource.contains_key(name), "no {name}: {span:#?}");
        }
        assert_eq!(span.resource["service.namespace"], "wordmill");
    }
}

fn assert_counting_spans<'a>(trace: &'a Trace, process: &Span, words: &str) -> &'a Span {
    let get = trace.spans_named("GET");
    let extract = trace.only_span("extract text");
    let get = get.last().expect("a fetch");
    let count = trace.only_span("count words");
    get.assert_child_of(process);
    extract.assert_child_of(process);
    count.assert_child_of(extract);
    count.assert_attributes(&[("wordmill.words.total", words)]);
    assert_eq!(get.kind, Kind::Client);
    assert_eq!(extract.kind, Kind::Internal);
    assert!(get.attribute("url.full").starts_with("http://127.0.0.1:"), "{get:#?}");
    get.assert_attributes(&[
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
    ]);
    get
}

fn count_text(stack: &Stack) -> Case {
    let trace_id = "11f7651916cd43dd8448eb211c80319c";
    let job_id = submit(stack, &json!({"text": "an unmistakable text"}), trace_id);
    const NAMES: &[&str] = &["POST /v1/jobs", "publish jobs", "process jobs", "count words"];
    Case::new(wait_until_final(stack, &job_id), Some(CALLER), NAMES, |trace, _| {
        assert_eq!(trace.only_span("POST /v1/jobs").parent_id, CALLER);
        let process = trace.only_span("process jobs");
        process.assert_attributes(&[("job.status", "succeeded"), ("job.attempt", "1")]);
        assert!(!process.is_error, "{process:#?}");
        let count = trace.only_span("count words");
        count.assert_child_of(process);
        count.assert_attributes(&[("wordmill.words.total", "3"), ("wordmill.words.unique", "3")]);
    })
}

fn count_page(stack: &Stack, site: &Site) -> Case {
    let html = "<title>x</title><p>an unmistakable page";
    let url = site.put("/page?token=hunter2", Page::new("text/html", html));
    let job_id = submit(stack, &json!({"url": url}), "22f7651916cd43dd8448eb211c80319c");
    const NAMES: &[&str] =
        &["POST /v1/jobs", "publish jobs", "process jobs", "GET", "extract text", "count words"];
    Case::new(wait_until_final(stack, &job_id), Some(CALLER), NAMES, |trace, _| {
        let get = assert_counting_spans(trace, trace.only_span("process jobs"), "3");
        get.assert_attributes(&[("http.response.body.size", "39")]);
        assert!(get.attribute("url.full").ends_with("/page"), "{get:#?}");
    })
}

fn count_without_caller(stack: &Stack) -> Case {
    let job_id = stack.client().submit(&json!({"text": "one two"}));
    const NAMES: &[&str] = &["POST /v1/jobs", "publish jobs", "process jobs", "count words"];
    Case::new(wait_until_final(stack, &job_id), None, NAMES, |trace, _| {
        assert_eq!(trace.only_span("POST /v1/jobs").parent_id, "");
    })
}

fn fail_and_repeat(stack: &Stack, site: &Site) -> Case {
    let url = site.put("/soon", Page::status("502 Bad Gateway"));
    let job_id = submit(stack, &json!({"url": url}), "33f7651916cd43dd8448eb211c80319c");
    wait_for("the page is requested", LIMIT, || (site.hits("/soon") == 1).then_some(()));
    site.put("/soon", Page::new("text/html", "better late"));
    const NAMES: &[&str] = &[
        "POST /v1/jobs",
        "publish jobs",
        "process jobs",
        "GET",
        "process jobs",
        "GET",
        "extract text",
        "count words",
    ];
    Case::new(wait_until_final(stack, &job_id), Some(CALLER), NAMES, |trace, _| {
        let process = trace.spans_named("process jobs");
        let get = trace.spans_named("GET");
        process[0].assert_failed("fetch_http_5xx");
        process[0].assert_attributes(&[("job.status", "queued"), ("job.attempt", "1")]);
        get[0].assert_failed("fetch_http_5xx");
        get[0].assert_attributes(&[("http.response.status_code", "502")]);
        get[0].assert_child_of(process[0]);
        assert!(!process[1].is_error, "{trace:#?}");
        process[1].assert_attributes(&[("job.status", "succeeded"), ("job.attempt", "2")]);
        assert_counting_spans(trace, process[1], "2");
    })
}

fn fail_for_good(stack: &Stack, site: &Site) -> Case {
    let url = site.put("/dead", Page::status("503 Service Unavailable"));
    let job_id = submit(stack, &json!({"url": url}), "44f7651916cd43dd8448eb211c80319c");
    const NAMES: &[&str] = &[
        "POST /v1/jobs",
        "publish jobs",
        "process jobs",
        "GET",
        "process jobs",
        "GET",
        "process jobs",
        "GET",
        "publish dead_jobs",
    ];
    Case::new(wait_until_final(stack, &job_id), Some(CALLER), NAMES, |trace, job| {
        let process = trace.spans_named("process jobs");
        process.iter().for_each(|span| span.assert_failed("fetch_http_5xx"));
        process[2].assert_attributes(&[("job.status", "failed"), ("job.attempt", "3")]);
        let job_id = job["job_id"].as_str().expect("an id");
        let letter = trace.only_span("publish dead_jobs");
        assert_eq!(letter.kind, Kind::Producer);
        letter.assert_child_of(process[2]);
        letter.assert_attributes(&[
            ("messaging.destination.name", "dead_jobs"),
            ("messaging.message.id", &format!("public.{job_id}")),
            ("job.id", job_id),
        ]);
    })
}

fn cancel_running(stack: &Stack, site: &Site) -> Case {
    let slow = Page::new("text/plain", "too late").after(Duration::from_secs(30));
    let url = site.put("/slow", slow);
    let job_id = submit(stack, &json!({"url": url}), "55f7651916cd43dd8448eb211c80319c");
    wait_until_running(stack, &job_id);
    let answer = stack.client().send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    const NAMES: &[&str] = &["POST /v1/jobs", "publish jobs", "process jobs", "GET", "cancel job"];
    Case::new(wait_until_final(stack, &job_id), Some(CALLER), NAMES, |trace, job| {
        let cancel = trace.only_span("cancel job");
        let process = trace.only_span("process jobs");
        cancel.assert_child_of(trace.only_span("POST /v1/jobs"));
        cancel.assert_attributes(&[("job.id", job["job_id"].as_str().expect("an id"))]);
        assert_eq!(cancel.links.len(), 1, "a link to the cancel request: {cancel:#?}");
        process.assert_attributes(&[("job.status", "cancelled")]);
        assert!(!process.is_error, "{process:#?}");
    })
}

fn kill_worker(stack: &mut Stack, site: &Site, settings: &[(&str, &str)]) -> Case {
    Admin::connect(&stack.nats).set_ack_wait(Duration::from_secs(3));
    let slow = Page::new("text/html", "two words").after(Duration::from_secs(30));
    let url = site.put("/killed", slow);
    let job_id = submit(stack, &json!({"url": url}), "66f7651916cd43dd8448eb211c80319c");
    wait_until_running(stack, &job_id);
    stack.workers[0].process.kill();
    site.put("/killed", Page::new("text/html", "two words"));
    let second = Worker::start(&stack.nats.address(), settings);
    wait_until_ready(&second.health);
    stack.workers.push(second);
    const NAMES: &[&str] =
        &["POST /v1/jobs", "publish jobs", "process jobs", "GET", "extract text", "count words"];
    Case::new(wait_until_final(stack, &job_id), Some(CALLER), NAMES, |trace, job| {
        let process = trace.only_span("process jobs");
        process.assert_attributes(&[("job.status", "succeeded"), ("job.attempt", "2")]);
        let count: u32 =
            process.attribute("messaging.nats.delivery_count").parse().expect("a number");
        assert!(count >= 2, "{process:#?}");
        assert_eq!(process.event_names(), ["attempt lost with its worker"], "{process:#?}");
        let worker = job["attempts"][1]["worker"].as_str().expect("a worker");
        assert_eq!(process.resource["service.instance.id"], worker);
        assert_counting_spans(trace, process, "2");
    })
}

fn wait_until_running(stack: &Stack, job_id: &str) {
    let path = format!("/v1/jobs/{job_id}");
    wait_for("the job runs", LIMIT, || {
        (stack.client().get(&path).json()["status"] == "running").then_some(())
    });
}
