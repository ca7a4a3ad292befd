//! One job for each way that traces have to tell about, and what its trace has to say.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Kind, Span, Trace};
use crate::admin::Admin;
use crate::site::{Page, Site};
use crate::stack::{Stack, Worker, ready};
use crate::{LIMIT, wait_for};

/// The span that a caller says it comes from.
const CALLER: &str = "b7ad6b7169203331";

/// What is never part of a trace: a document's text, and what a URL may hide.
pub const SECRETS: [&str; 3] = ["unmistakable", "hunter2", "token="];

/// A job that has come to its end.
#[derive(Debug)]
pub struct Case {
    /// Its record as clients see it.
    pub job: Value,
    /// How many spans its trace has.
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

    /// Returns the id of its trace.
    pub fn trace_id(&self) -> &str {
        self.job["trace_id"].as_str().expect("a trace id")
    }

    /// Returns the job's id.
    pub fn job_id(&self) -> &str {
        self.job["job_id"].as_str().expect("a job id")
    }

    /// Asserts that the trace is as it has to be.
    pub fn verify(&self, trace: &Trace) {
        assert_eq!(trace.id(), self.trace_id());
        trace.consists_of(self.names, self.caller);
        submitted(trace, &self.job);
        (self.check)(trace, &self.job);
        let all = format!("{trace:?}");
        for secret in SECRETS {
            assert!(!all.contains(secret), "{secret} is in {trace:#?}");
        }
    }
}

/// Settings that make traces come soon.
pub fn settings(endpoint: &str) -> [(&str, &str); 2] {
    [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")]
}

/// Takes jobs through a stack of one gateway and one worker, started with [`settings`], to every
/// kind of end; afterwards the first worker is dead and there is another.
pub fn run(stack: &mut Stack, site: &Site, settings: &[(&str, &str)]) -> Vec<Case> {
    vec![
        text(stack),
        page(stack, site),
        without_a_caller(stack),
        retried(stack, site),
        dead_lettered(stack, site),
        cancelled(stack, site),
        killed(stack, site, settings),
    ]
}

/// Submits a job as part of a caller's trace, and returns its id.
pub fn submit(stack: &Stack, body: &Value, trace_id: &str) -> String {
    let traceparent = format!("00-{trace_id}-{CALLER}-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let answer = stack.client().send("POST", "/v1/jobs", &headers, body.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let response = answer.header("traceresponse").expect("traceresponse").to_owned();
    assert_eq!(&response[3..35], trace_id, "{answer:?}");
    assert_ne!(&response[36..52], CALLER, "the span that answers: {answer:?}");
    let timing = format!("traceparent;desc=\"{response}\"");
    assert_eq!(answer.header("server-timing"), Some(timing.as_str()));
    answer.json()["job_id"].as_str().expect("an id").to_owned()
}

fn finished(stack: &Stack, job_id: &str) -> Value {
    stack.client().finished(job_id, LIMIT)
}

/// What is the same in every trace of a job that was submitted.
fn submitted(trace: &Trace, job: &Value) {
    let job_id = job["job_id"].as_str().expect("an id");
    let (request, publish) = (trace.the("POST /v1/jobs"), trace.the("publish jobs"));
    assert_eq!(request.kind, Kind::Server);
    assert_eq!(publish.kind, Kind::Producer);
    request.has(&[
        ("http.request.method", "POST"),
        ("http.route", "/v1/jobs"),
        ("url.path", "/v1/jobs"),
        ("http.response.status_code", "202"),
        ("job.id", job_id),
    ]);
    publish.is_child_of(request);
    publish.has(&[
        ("messaging.system", "nats"),
        ("messaging.operation.name", "publish"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "jobs"),
        ("job.id", job_id),
        ("job.lane", "interactive"),
    ]);
    let sequence = publish.get("messaging.nats.stream.sequence");
    assert!(sequence.parse::<u64>().is_ok(), "{publish:#?}");
    for (delivery, process) in trace.all("process jobs").into_iter().enumerate() {
        assert_eq!(process.kind, Kind::Consumer);
        process.is_child_of(publish);
        process.is_linked_to(publish);
        process.has(&[
            ("messaging.operation.type", "process"),
            ("messaging.nats.stream.sequence", sequence),
            ("job.id", job_id),
        ]);
        let waited_ms = process.get("wordmill.queue.wait_ms").parse::<i64>();
        assert!(waited_ms.is_ok_and(|ms| ms >= 0), "{process:#?}");
        // A worker that was killed tells nothing about its delivery.
        if !job["attempts"].to_string().contains("worker_crashed") {
            let count = (delivery + 1).to_string();
            process.has(&[("messaging.nats.delivery_count", &count)]);
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

fn counted<'a>(trace: &'a Trace, process: &Span, words: &str) -> &'a Span {
    let (get, extract) = (trace.all("GET"), trace.the("extract text"));
    let (get, count) = (get.last().expect("a fetch"), trace.the("count words"));
    get.is_child_of(process);
    extract.is_child_of(process);
    count.is_child_of(extract);
    count.has(&[("wordmill.words.total", words)]);
    assert_eq!(get.kind, Kind::Client);
    assert_eq!(extract.kind, Kind::Internal);
    assert!(get.get("url.full").starts_with("http://127.0.0.1:"), "{get:#?}");
    get.has(&[
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
    ]);
    get
}

fn text(stack: &Stack) -> Case {
    let trace_id = "11f7651916cd43dd8448eb211c80319c";
    let job_id = submit(stack, &json!({"text": "an unmistakable text"}), trace_id);
    const NAMES: &[&str] = &["POST /v1/jobs", "publish jobs", "process jobs", "count words"];
    Case::new(finished(stack, &job_id), Some(CALLER), NAMES, |trace, _| {
        assert_eq!(trace.the("POST /v1/jobs").parent_id, CALLER);
        let process = trace.the("process jobs");
        process.has(&[("job.status", "succeeded"), ("job.attempt", "1")]);
        assert!(!process.is_error, "{process:#?}");
        let count = trace.the("count words");
        count.is_child_of(process);
        count.has(&[("wordmill.words.total", "3"), ("wordmill.words.unique", "3")]);
    })
}

fn page(stack: &Stack, site: &Site) -> Case {
    let html = "<title>x</title><p>an unmistakable page";
    let url = site.put("/page?token=hunter2", Page::new("text/html", html));
    let job_id = submit(stack, &json!({"url": url}), "22f7651916cd43dd8448eb211c80319c");
    const NAMES: &[&str] =
        &["POST /v1/jobs", "publish jobs", "process jobs", "GET", "extract text", "count words"];
    Case::new(finished(stack, &job_id), Some(CALLER), NAMES, |trace, _| {
        let get = counted(trace, trace.the("process jobs"), "3");
        get.has(&[("http.response.body.size", "39")]);
        assert!(get.get("url.full").ends_with("/page"), "{get:#?}");
    })
}

fn without_a_caller(stack: &Stack) -> Case {
    let job_id = stack.client().submit(&json!({"text": "one two"}));
    const NAMES: &[&str] = &["POST /v1/jobs", "publish jobs", "process jobs", "count words"];
    Case::new(finished(stack, &job_id), None, NAMES, |trace, _| {
        assert_eq!(trace.the("POST /v1/jobs").parent_id, "");
    })
}

fn retried(stack: &Stack, site: &Site) -> Case {
    let url = site.put("/soon", Page::status("502 Bad Gateway"));
    let job_id = submit(stack, &json!({"url": url}), "33f7651916cd43dd8448eb211c80319c");
    wait_for("it has failed once", LIMIT, || (site.hits("/soon") == 1).then_some(()));
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
    Case::new(finished(stack, &job_id), Some(CALLER), NAMES, |trace, _| {
        let (process, get) = (trace.all("process jobs"), trace.all("GET"));
        process[0].failed("fetch_http_5xx");
        process[0].has(&[("job.status", "queued"), ("job.attempt", "1")]);
        get[0].failed("fetch_http_5xx");
        get[0].has(&[("http.response.status_code", "502")]);
        get[0].is_child_of(process[0]);
        assert!(!process[1].is_error, "{trace:#?}");
        process[1].has(&[("job.status", "succeeded"), ("job.attempt", "2")]);
        counted(trace, process[1], "2");
    })
}

fn dead_lettered(stack: &Stack, site: &Site) -> Case {
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
    Case::new(finished(stack, &job_id), Some(CALLER), NAMES, |trace, job| {
        let process = trace.all("process jobs");
        process.iter().for_each(|span| span.failed("fetch_http_5xx"));
        process[2].has(&[("job.status", "failed"), ("job.attempt", "3")]);
        let letter = trace.the("publish dead_jobs");
        assert_eq!(letter.kind, Kind::Producer);
        letter.is_child_of(process[2]);
        letter.has(&[
            ("messaging.destination.name", "dead_jobs"),
            ("job.id", job["job_id"].as_str().expect("an id")),
        ]);
    })
}

fn cancelled(stack: &Stack, site: &Site) -> Case {
    let slow = Page::new("text/plain", "too late").after(Duration::from_secs(30));
    let url = site.put("/slow", slow);
    let job_id = submit(stack, &json!({"url": url}), "55f7651916cd43dd8448eb211c80319c");
    running(stack, &job_id);
    let answer = stack.client().send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    const NAMES: &[&str] = &["POST /v1/jobs", "publish jobs", "process jobs", "GET", "cancel job"];
    Case::new(finished(stack, &job_id), Some(CALLER), NAMES, |trace, job| {
        let (cancel, process) = (trace.the("cancel job"), trace.the("process jobs"));
        cancel.is_child_of(trace.the("POST /v1/jobs"));
        cancel.has(&[("job.id", job["job_id"].as_str().expect("an id"))]);
        assert_eq!(cancel.links.len(), 1, "to the request that asked for it: {cancel:#?}");
        process.has(&[("job.status", "cancelled")]);
        assert!(!process.is_error, "{process:#?}");
    })
}

fn killed(stack: &mut Stack, site: &Site, settings: &[(&str, &str)]) -> Case {
    Admin::of(&stack.nats).set_ack_wait(Duration::from_secs(3));
    let slow = Page::new("text/html", "two words").after(Duration::from_secs(30));
    let url = site.put("/killed", slow);
    let job_id = submit(stack, &json!({"url": url}), "66f7651916cd43dd8448eb211c80319c");
    running(stack, &job_id);
    stack.workers[0].process.kill();
    site.put("/killed", Page::new("text/html", "two words"));
    let second = Worker::start(&stack.nats.address(), settings);
    ready(&second.health);
    stack.workers.push(second);
    const NAMES: &[&str] =
        &["POST /v1/jobs", "publish jobs", "process jobs", "GET", "extract text", "count words"];
    Case::new(finished(stack, &job_id), Some(CALLER), NAMES, |trace, job| {
        let process = trace.the("process jobs");
        process.has(&[("job.status", "succeeded"), ("job.attempt", "2")]);
        let count: u32 = process.get("messaging.nats.delivery_count").parse().expect("a number");
        assert!(count >= 2, "{process:#?}");
        assert_eq!(process.events, ["attempt lost with its worker"], "{process:#?}");
        let worker = job["attempts"][1]["worker"].as_str().expect("a worker");
        assert_eq!(process.resource["service.instance.id"], worker);
        counted(trace, process, "2");
    })
}

fn running(stack: &Stack, job_id: &str) {
    let path = format!("/v1/jobs/{job_id}");
    wait_for("the job runs", LIMIT, || {
        (stack.client().get(&path).json()["status"] == "running").then_some(())
    });
}
