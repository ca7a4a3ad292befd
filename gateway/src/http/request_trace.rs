//! The trace of a request: inherited or new, recorded as a span, and returned in every response.

use std::fmt;

use axum::extract::{MatchedPath, Request};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use tracing::{Instrument, Span, field, info_span};
use wordmill_common::id::JobId;
use wordmill_common::job::Job;
use wordmill_common::trace_context::{TraceContext, TraceId, TraceState};
use wordmill_service::env::Env;
use wordmill_service::telemetry;

use crate::App;
use crate::http::problem::{Problem, ProblemCause};

/// Request header with a W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// Request header with data of tracing systems about the caller's trace.
const TRACESTATE: &str = "tracestate";
/// Response header with a W3C trace context.
const TRACERESPONSE: &str = "traceresponse";
/// Header that browsers expose to scripts. It carries the trace context as the description of a
/// metric.
const SERVER_TIMING: &str = "server-timing";
/// Default `Cache-Control`: browsers revalidate each time, shared caches store nothing.
const DEFAULT_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("private, no-cache");
/// Placeholder for the trace id in `WORDMILL_TRACE_URL`.
const PLACEHOLDER: &str = "{trace_id}";

/// Use of a caller's trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InboundTrace {
    /// The request joins the caller's trace, and is recorded if the caller's context is sampled.
    Trust,
    /// The request begins a new trace with a link to the caller's.
    Link,
}

impl fmt::Display for InboundTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trust => "trust",
            Self::Link => "link",
        })
    }
}

/// Trace settings of the gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `WORDMILL_TRACE_INBOUND`: `trust` or `link`. A trusted caller chooses trace ids and decides
    /// which requests are recorded. The default is `link` with keys, whose holders may not trust
    /// each other, and `trust` without keys.
    inbound: InboundTrace,
    /// `WORDMILL_TRACE_URL`: base URL of a Jaeger UI, or any URL that contains `{trace_id}`. If it
    /// is set, jobs have the link `links.trace`.
    url: Option<String>,
}

impl Settings {
    /// Reads the settings.
    pub(crate) fn read(env: &mut Env, has_keys: bool) -> Self {
        let default = if has_keys { InboundTrace::Link } else { InboundTrace::Trust };
        let inbound = env.read("WORDMILL_TRACE_INBOUND", default, |text| match text {
            "trust" => Ok(InboundTrace::Trust),
            "link" => Ok(InboundTrace::Link),
            _ => Err("must be trust or link".to_owned()),
        });
        let url = env.read("WORDMILL_TRACE_URL", String::new(), parse_url_template);
        Self { inbound, url: Some(url).filter(|url| !url.is_empty()) }
    }

    /// Returns the URL of a trace in the trace viewer, if one is configured.
    pub(crate) fn url_of(&self, trace_id: TraceId) -> Option<String> {
        Some(self.url.as_ref()?.replace(PLACEHOLDER, &trace_id.to_string()))
    }
}

fn parse_url_template(text: &str) -> Result<String, String> {
    let is_web = url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    match (is_web, text.contains(PLACEHOLDER)) {
        (false, _) => Err("must be an http or https URL".to_owned()),
        (true, true) => Ok(text.to_owned()),
        (true, false) => Ok(format!("{}/trace/{PLACEHOLDER}", text.trim_end_matches('/'))),
    }
}

/// Renders a problem from its status and detail.
pub(crate) type RenderProblem = fn(StatusCode, &str) -> Response;

/// Runs a request in its span, renders its problem (with `render_older` for the older contract),
/// and sets the default `Cache-Control` and the trace headers.
pub(crate) async fn trace_request<F: Future<Output = Response>>(
    app: &App,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
    render_older: Option<RenderProblem>,
) -> Response {
    let (span, trace) = begin_request_span(app, &request);
    request.extensions_mut().insert(trace.clone());
    let response = next(request).instrument(span.clone()).await;
    end_span(&span, &response);
    let mut response = match response.extensions().get::<Problem>() {
        None => response,
        Some(problem) => match render_older {
            Some(render) => {
                let mut refused = render(problem.status(), problem.detail());
                refused.headers_mut().extend(response.headers().clone());
                refused
            }
            None => problem.render(trace.trace_id(), response.headers()),
        },
    };
    response.headers_mut().entry(CACHE_CONTROL).or_insert(DEFAULT_CACHE_CONTROL);
    let trace = trace.parent.to_string();
    if let Ok(value) = HeaderValue::try_from(format!("traceparent;desc=\"{trace}\"")) {
        response.headers_mut().insert(SERVER_TIMING, value);
    }
    if let Ok(value) = HeaderValue::try_from(trace) {
        response.headers_mut().insert(TRACERESPONSE, value);
    }
    response
}

/// Begins the span of a request. Returns it with the trace context for the job and further spans.
fn begin_request_span(app: &App, request: &Request) -> (Span, TraceContext) {
    let inbound = app.trace.inbound;
    let caller_context = parse_trace_context(request.headers());
    let span = begin_server_span(request, app.scheme);
    let trace = match (inbound, &caller_context) {
        (InboundTrace::Trust, Some(parent)) => {
            telemetry::set_parent(&span, parent);
            telemetry::context_within(&span, parent)
        }
        (InboundTrace::Link, Some(other)) => {
            telemetry::link(&span, other);
            telemetry::context(&span).unwrap_or_else(TraceContext::random)
        }
        (_, None) => telemetry::context(&span).unwrap_or_else(TraceContext::random),
    };
    telemetry::record_trace_id(&span, trace.trace_id());
    (span, trace)
}

/// Parses the trace context of the caller; `None` if its `traceparent` is missing, malformed or
/// repeated. An invalid `tracestate` is ignored.
fn parse_trace_context(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let parent = value.to_str().ok()?.parse().ok()?;
    let lines: Result<Vec<&str>, _> =
        headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str).collect();
    Some(TraceContext { parent, state: lines.map(TraceState::parse).unwrap_or_default() })
}

fn begin_server_span(request: &Request, scheme: &'static str) -> Span {
    // A macro, because the target of a span must be a constant.
    macro_rules! server {
        ($target:expr) => {{
            let method = method_name(request.method());
            let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
            info_span!(
                target: $target,
                "request",
                otel.name = route.map(|route| format!("{method} {route}")).as_deref().unwrap_or(method),
                otel.kind = "server",
                http.request.method = method,
                http.route = route,
                url.path = request.uri().path(),
                url.scheme = scheme,
                http.response.status_code = field::Empty,
                job.id = field::Empty,
                key.name = field::Empty,
            )
        }};
    }
    if request.method().is_safe() { server!(telemetry::POLL) } else { server!(module_path!()) }
}

/// Returns the name of a method. Unknown methods share one name, because there must be few span
/// names.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "HTTP",
    }
}

fn end_span(span: &Span, response: &Response) {
    let status = response.status();
    span.record("http.response.status_code", i64::from(status.as_u16()));
    let extensions = response.extensions();
    let cause = extensions.get::<ProblemCause>().map(|cause| &cause.0);
    let problem = extensions.get::<Problem>().or(cause);
    if status.is_server_error() {
        let code = problem.map_or("internal", Problem::code_name);
        telemetry::fail(span, code, problem.map_or("", Problem::detail));
    } else if let Some(problem) = problem {
        telemetry::set_attribute(span, "error.type", problem.code_name());
    }
}

/// Records the job id in the span of the request, and thereby in its log lines.
pub(crate) fn record_job_id(job_id: JobId) {
    Span::current().record("job.id", field::display(job_id));
}

/// Begins the span `cancel job` in the job's own trace, next to the spans of its submission.
pub(crate) fn begin_cancel_span(job: &Job, request: &TraceContext) -> Span {
    let span = info_span!("cancel job", job.id = %job.job_id);
    join_trace_of(job, &span, request);
    span
}

/// Begins the span `send webhook` in the job's own trace.
pub(crate) fn begin_webhook_span(job: &Job, request: &TraceContext) -> Span {
    let span = info_span!("send webhook", job.id = %job.job_id);
    join_trace_of(job, &span, request);
    span
}

/// Adds `span` to the trace of `job`, and links it to the request.
fn join_trace_of(job: &Job, span: &Span, request: &TraceContext) {
    if let Some(parent) = job.trace_context() {
        telemetry::set_parent(span, &parent);
        telemetry::link(span, request);
    }
    telemetry::record_trace_id(span, job.trace_id);
}

/// Begins a trace for one line of a batch, linked to the request. A single trace with the spans of
/// 10,000 jobs would be unreadable.
pub(crate) fn begin_member_trace(request: &TraceContext) -> (Span, TraceContext) {
    let span = info_span!(parent: None, "batch line", job.id = field::Empty);
    let trace = start_trace(&span, [request]);
    (span, trace)
}

/// Begins the trace of a job that replays a dead letter, linked to the trace of the old job and to
/// the request.
pub(crate) fn begin_replay_trace(
    old: Option<&TraceContext>,
    request: &TraceContext,
) -> (Span, TraceContext) {
    let span = info_span!(parent: None, "replay job", job.id = field::Empty);
    let trace = start_trace(&span, old.into_iter().chain([request]));
    (span, trace)
}

/// Links a span without a parent to `links`, and returns its trace context.
fn start_trace<'a>(span: &Span, links: impl IntoIterator<Item = &'a TraceContext>) -> TraceContext {
    for link in links {
        telemetry::link(span, link);
    }
    let trace = telemetry::context(span).unwrap_or_else(TraceContext::random);
    telemetry::record_trace_id(span, trace.trace_id());
    trace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_urls_are_built_from_a_base_or_a_template() {
        let trace_id: TraceId = "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
        for (setting, expected) in [
            (
                "http://127.0.0.1:16686",
                "http://127.0.0.1:16686/trace/4bf92f3577b34da6a3ce929d0e0e4736",
            ),
            (
                "https://jaeger.example/ui/",
                "https://jaeger.example/ui/trace/4bf92f3577b34da6a3ce929d0e0e4736",
            ),
            (
                "https://x.example/?t={trace_id}&v=1",
                "https://x.example/?t=4bf92f3577b34da6a3ce929d0e0e4736&v=1",
            ),
        ] {
            let mut env: Env = [("WORDMILL_TRACE_URL", setting)].into_iter().collect();
            let settings = Settings::read(&mut env, false);
            assert_eq!(settings.url_of(trace_id).as_deref(), Some(expected));
            env.finish().unwrap();
        }
        let mut env: Env = [("WORDMILL_TRACE_URL", "jaeger:16686")].into_iter().collect();
        assert_eq!(Settings::read(&mut env, false).url_of(trace_id), None);
        env.finish().unwrap_err();
    }

    #[test]
    fn with_keys_a_callers_trace_is_linked_by_default() {
        let read = |settings: &[(&str, &str)], has_keys| {
            let mut env: Env = settings.iter().copied().collect();
            Settings::read(&mut env, has_keys).inbound
        };
        assert_eq!(read(&[], false), InboundTrace::Trust);
        assert_eq!(read(&[], true), InboundTrace::Link);
        assert_eq!(read(&[("WORDMILL_TRACE_INBOUND", "trust")], true), InboundTrace::Trust);
        assert_eq!(read(&[("WORDMILL_TRACE_INBOUND", "link")], false), InboundTrace::Link);
    }

    #[test]
    fn a_malformed_or_repeated_context_is_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TRACEPARENT, HeaderValue::from_static(value));
            }
            parse_trace_context(&headers).map(|context| context.parent)
        };
        assert_eq!(read(&[good]), good.parse().ok());
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[good, good]), None);
        assert_eq!(read(&["00-nonsense"]), None);
    }

    #[test]
    fn trace_state_is_read_from_all_lines_if_the_context_is_valid() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |parent: &'static str, lines: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            headers.append(TRACEPARENT, HeaderValue::from_static(parent));
            for line in lines {
                headers.append(TRACESTATE, HeaderValue::from_bytes(line).unwrap());
            }
            Some(parse_trace_context(&headers)?.state.as_str().to_owned())
        };
        let lines: &[&[u8]] = &[b"foo=1 , bar=2", b"", b"baz=3"];
        assert_eq!(read(good, lines).as_deref(), Some("foo=1,bar=2,baz=3"));
        assert_eq!(read("00-nonsense", lines), None);
        for bad in [&b"FOO=1"[..], b"bar=\xff"] {
            assert_eq!(read(good, &[b"foo=1", bad]).as_deref(), Some(""));
        }
    }
}
