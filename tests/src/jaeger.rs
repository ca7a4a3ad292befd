//! A real Jaeger, built by `make jaeger`, and its query API.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::client::{Answer, Client};
use crate::process::Process;
use crate::traces::{Attributes, Event, Kind, Link, Span, Trace};
use crate::{repository, setting, wait_for};

/// Maximum wait for Jaeger to start.
const START_MAX: Duration = Duration::from_secs(60);

/// A running Jaeger with in-memory storage.
pub struct Jaeger {
    /// The process.
    pub process: Process,
    client: Client,
    otlp: String,
}

impl Jaeger {
    /// Starts Jaeger on free ports, with the configuration of `make run TRACE=1`.
    ///
    /// # Panics
    /// If the variable `JAEGER` is unset, or Jaeger does not start.
    pub fn start() -> Self {
        let program = program();
        // All three ports are bound at the same time, so that they differ.
        let ports = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [http, grpc, otlp] =
            ports.map(|port| port.local_addr().expect("an address").to_string());
        let mut command = Command::new(program);
        command.arg("--config").arg(repository().join("deploy/local/jaeger.yaml"));
        command.env("JAEGER_HTTP", &http).env("JAEGER_GRPC", &grpc).env("JAEGER_OTLP", &otlp);
        // Jaeger must not record its own traces.
        command.env("OTEL_TRACES_SAMPLER", "always_off");
        let mut process = Process::start("jaeger", command);
        let client = Client::new(&http);
        wait_for("Jaeger answers", START_MAX, || {
            assert!(process.exit_status().is_none(), "{}", process.output());
            let answer = client.try_send("GET", "/api/services", &[], &[]).ok()?;
            (answer.status == 200).then_some(())
        });
        Self { process, client, otlp }
    }

    /// Validates a configuration file, given by its path in the repository. Returns the error
    /// output, or `None` if the file is valid.
    ///
    /// # Panics
    /// If the variable `JAEGER` is unset.
    pub fn config_error(config: &str) -> Option<String> {
        let mut command = Command::new(program());
        command.args(["validate", "--config"]).arg(repository().join(config));
        let output = command.output().expect("Jaeger starts");
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Returns the value of `OTEL_EXPORTER_OTLP_ENDPOINT` for this Jaeger.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.otlp)
    }

    /// Returns the stored spans of a trace, or `None` if the trace is unknown.
    pub fn trace(&self, trace_id: &str) -> Option<Trace> {
        let answer = self.client.get(&format!("/api/traces/{trace_id}"));
        (answer.status == 200).then(|| traces(&answer).pop()).flatten()
    }

    /// Returns up to 100 traces of the last hour that contain a span of this service with this
    /// attribute.
    pub fn search(&self, service: &str, attribute: (&str, &str)) -> Vec<Trace> {
        let tags = serde_json::json!({ attribute.0: attribute.1 }).to_string();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("service", service).append_pair("tags", &tags);
        query.append_pair("lookback", "1h").append_pair("limit", "100");
        traces(&self.client.get(&format!("/api/traces?{}", query.finish())))
    }

    /// Returns pairs of a calling and a called service.
    pub fn dependencies(&self) -> Vec<(String, String)> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time");
        let path = format!("/api/dependencies?endTs={}&lookback=3600000", now.as_millis());
        let answer = self.client.get(&path).json();
        let text = |value: &Value| value.as_str().expect("a service").to_owned();
        let edges = answer["data"].as_array().cloned().unwrap_or_default();
        edges.iter().map(|edge| (text(&edge["parent"]), text(&edge["child"]))).collect()
    }
}

fn traces(answer: &Answer) -> Vec<Trace> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let traces = answer.json()["data"].as_array().cloned().unwrap_or_default();
    traces.iter().flat_map(|trace| Trace::group(spans(trace))).collect()
}

fn spans(trace: &Value) -> Vec<Span> {
    let services = trace["processes"].as_object().expect("processes");
    let resources: BTreeMap<&String, Attributes> = services
        .iter()
        .map(|(id, process)| {
            let mut resource = attributes(&process["tags"]);
            resource.insert("service.name".to_owned(), text(&process["serviceName"]));
            (id, resource)
        })
        .collect();
    let spans = trace["spans"].as_array().expect("spans").iter();
    spans.map(|one| span(one, &resources[&text(&one["processID"])])).collect()
}

fn span(span: &Value, resource: &Attributes) -> Span {
    let attributes = attributes(&span["tags"]);
    let references = span["references"].as_array().cloned().unwrap_or_default();
    let of = |kind: &str| {
        let chosen = references.iter().filter(|one| one["refType"] == kind);
        let link = |one: &Value| Link {
            trace_id: text(&one["traceID"]),
            span_id: text(&one["spanID"]),
            trace_state: String::new(),
        };
        chosen.map(link).collect::<Vec<_>>()
    };
    let parents = of("CHILD_OF");
    let links = of("FOLLOWS_FROM");
    // If a span also links to its parent, Jaeger stores only the link and treats it as the parent.
    let own = |one: &&Link| span["traceID"] == one.trace_id;
    let parent = parents.first().or_else(|| links.iter().find(own));
    let parent_id = parent.map(|parent| parent.span_id.clone()).unwrap_or_default();
    let events = span["logs"].as_array().cloned().unwrap_or_default();
    let start_us = span["startTime"].as_u64().expect("a time");
    Span {
        trace_id: text(&span["traceID"]),
        span_id: text(&span["spanID"]),
        parent_id,
        name: text(&span["operationName"]),
        kind: match attributes.get("span.kind").map(String::as_str) {
            Some("server") => Kind::Server,
            Some("client") => Kind::Client,
            Some("producer") => Kind::Producer,
            Some("consumer") => Kind::Consumer,
            _ => Kind::Internal,
        },
        trace_state: attributes.get("w3c.tracestate").cloned().unwrap_or_default(),
        links,
        events: events.iter().filter_map(event).collect(),
        is_error: attributes.get("otel.status_code").is_some_and(|code| code == "ERROR"),
        description: attributes.get("otel.status_description").cloned().unwrap_or_default(),
        start_us,
        end_us: start_us + span["duration"].as_u64().expect("a duration"),
        resource: resource.clone(),
        attributes,
    }
}

fn event(log: &Value) -> Option<Event> {
    let mut attributes = attributes(&log["fields"]);
    let name = attributes.remove("event")?;
    Some(Event { name, time_us: log["timestamp"].as_u64()?, attributes })
}

fn attributes(tags: &Value) -> Attributes {
    let tags = tags.as_array().cloned().unwrap_or_default();
    tags.iter().map(|tag| (text(&tag["key"]), text(&tag["value"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn program() -> String {
    setting("JAEGER").expect("JAEGER must be set: run `make test-external`")
}
