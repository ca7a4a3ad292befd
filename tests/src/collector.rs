//! A span collector on loopback. It accepts OTLP over HTTP or HTTPS, fails or hangs.

use std::convert::Infallible;
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::HEXLOWER;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::traces::{Attributes, Event, Kind, Link, Span, Trace};
use crate::{runtime, wait_for};

/// Behavior of the collector for every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectorBehavior {
    /// Accepts the spans.
    Accepts,
    /// Answers with status 503.
    Fails,
    /// Never answers.
    Hangs,
}

/// A running collector. It ends with the test process.
pub struct Collector {
    endpoint: String,
    state: Arc<State>,
}

struct State {
    behavior: CollectorBehavior,
    /// Name and value of a header without which requests are answered with 401.
    required_header: Option<(&'static str, &'static str)>,
    spans: Mutex<Vec<Span>>,
    requests: AtomicUsize,
    compressed_requests: AtomicUsize,
}

impl Collector {
    /// Starts a collector on a free port.
    ///
    /// # Panics
    /// If it cannot bind a port.
    pub fn start(behavior: CollectorBehavior) -> Self {
        Self::start_with(behavior, None, None)
    }

    /// Starts a collector that uses TLS and requires a header.
    ///
    /// # Panics
    /// If it cannot bind a port.
    pub fn start_secure(
        config: ServerConfig,
        required_header: (&'static str, &'static str),
    ) -> Self {
        let tls = TlsAcceptor::from(Arc::new(config));
        Self::start_with(CollectorBehavior::Accepts, Some(tls), Some(required_header))
    }

    fn start_with(
        behavior: CollectorBehavior,
        tls: Option<TlsAcceptor>,
        required_header: Option<(&'static str, &'static str)>,
    ) -> Self {
        let state = Arc::new(State {
            behavior,
            required_header,
            spans: Mutex::default(),
            requests: AtomicUsize::new(0),
            compressed_requests: AtomicUsize::new(0),
        });
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::clone(&state);
        runtime().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(&state, stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(&state, stream).await;
                            }
                        }
                    }
                });
            }
        });
        Self { endpoint: format!("{scheme}://{address}"), state }
    }

    /// Returns the value of `OTEL_EXPORTER_OTLP_ENDPOINT` for this collector.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Returns the number of received requests.
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Returns the number of accepted requests that were compressed with gzip.
    pub fn compressed_requests(&self) -> usize {
        self.state.compressed_requests.load(Ordering::SeqCst)
    }

    /// Returns all received spans, grouped by trace.
    pub fn traces(&self) -> Vec<Trace> {
        Trace::group(self.state.spans.lock().expect("spans").clone())
    }

    /// Returns the spans of a trace that have been received so far.
    pub fn trace(&self, trace_id: &str) -> Option<Trace> {
        self.traces().into_iter().find(|trace| trace.id() == trace_id)
    }

    /// Waits until at least `spans` spans of a trace are received, and returns the trace.
    pub fn wait_for_trace(&self, trace_id: &str, spans: usize, limit: Duration) -> Trace {
        wait_for(&format!("{spans} spans of trace {trace_id}"), limit, || {
            self.trace(trace_id).filter(|trace| trace.spans.len() >= spans)
        })
    }
}

async fn serve(state: &State, stream: impl AsyncRead + AsyncWrite + Unpin) {
    let answer = service_fn(|request| receive(state, request));
    let http = hyper::server::conn::http1::Builder::new();
    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
}

async fn receive(
    state: &State,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let answer = |status: u16| {
        Ok(Response::builder().status(status).body(Full::default()).expect("a response"))
    };
    match state.behavior {
        CollectorBehavior::Accepts => {}
        CollectorBehavior::Fails => return answer(503),
        CollectorBehavior::Hangs => std::future::pending().await,
    }
    if request.uri().path() != "/v1/traces" {
        return answer(404);
    }
    if let Some((name, value)) = state.required_header
        && request.headers().get(name).is_none_or(|sent| sent != value)
    {
        return answer(401);
    }
    let is_gzip = request.headers().get("content-encoding").is_some_and(|name| name == "gzip");
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = if is_gzip { decompress(&body) } else { body };
    match ExportTraceServiceRequest::decode(body) {
        Ok(request) => {
            let spans = request.resource_spans.into_iter().flat_map(read);
            state.spans.lock().expect("spans").extend(spans);
            state.compressed_requests.fetch_add(usize::from(is_gzip), Ordering::SeqCst);
            answer(200)
        }
        Err(_) => answer(400),
    }
}

fn decompress(body: &[u8]) -> Bytes {
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut content).expect("gzip");
    content.into()
}

fn read(spans: otlp::ResourceSpans) -> Vec<Span> {
    let resource = attributes(spans.resource.unwrap_or_default().attributes);
    let scopes = spans.scope_spans.into_iter();
    scopes.flat_map(|scope| scope.spans).map(|one| span(one, &resource)).collect()
}

fn span(span: otlp::Span, resource: &Attributes) -> Span {
    let status = span.status.unwrap_or_default();
    Span {
        trace_id: HEXLOWER.encode(&span.trace_id),
        span_id: HEXLOWER.encode(&span.span_id),
        parent_id: HEXLOWER.encode(&span.parent_span_id),
        kind: match span.kind {
            2 => Kind::Server,
            3 => Kind::Client,
            4 => Kind::Producer,
            5 => Kind::Consumer,
            _ => Kind::Internal,
        },
        name: span.name,
        trace_state: span.trace_state,
        attributes: attributes(span.attributes),
        links: span.links.into_iter().map(link).collect(),
        events: span.events.into_iter().map(event).collect(),
        is_error: status.code == otlp::status::StatusCode::Error as i32,
        description: status.message,
        start_us: span.start_time_unix_nano / 1000,
        end_us: span.end_time_unix_nano / 1000,
        resource: resource.clone(),
    }
}

fn link(link: otlp::span::Link) -> Link {
    Link {
        trace_id: HEXLOWER.encode(&link.trace_id),
        span_id: HEXLOWER.encode(&link.span_id),
        trace_state: link.trace_state,
    }
}

fn event(event: otlp::span::Event) -> Event {
    Event {
        name: event.name,
        time_us: event.time_unix_nano / 1000,
        attributes: attributes(event.attributes),
    }
}

fn attributes(list: Vec<KeyValue>) -> Attributes {
    list.into_iter().map(|one| (one.key, one.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(is_so)) => is_so.to_string(),
        Some(Any::DoubleValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}
