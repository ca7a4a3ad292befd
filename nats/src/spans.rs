//! Spans of messages. The trace context travels in the headers `traceparent` and `tracestate` of
//! each message.
//!
//! The span that publishes a message is the parent of the spans of its deliveries, which also link
//! to it. OpenTelemetry allows this for messages that are processed one by one, and it shows a job
//! as one trace.

use async_nats::{HeaderMap, HeaderValue};
use tracing::{Span, debug_span, field, info_span};
use wordmill_common::clock;
use wordmill_common::id::JobId;
use wordmill_common::job::Job;
use wordmill_common::message::JobMessage;
use wordmill_common::trace_context::{TraceContext, TraceId, TraceParent, TraceState};
use wordmill_service::telemetry;

/// Header with the W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// Header with the caller's data about the trace, absent if there is none.
const TRACESTATE: &str = "tracestate";

/// The delivery that a span describes.
#[derive(Debug, Clone)]
pub struct DeliveryInfo {
    /// Trace context in the headers of the message.
    pub context: Option<TraceContext>,
    /// Id that the publisher gave the message; `None` for messages of other programs.
    pub message_id: Option<String>,
    /// Name of the durable consumer.
    pub consumer: &'static str,
    /// Sequence number of the message in its stream.
    pub stream_sequence: u64,
    /// Number of deliveries of the message, including this one.
    pub delivery_count: u64,
}

/// Span and context of a message that is about to be published.
#[derive(Debug, Clone)]
pub struct PublishSpan {
    /// Covers the time until the stream has answered.
    pub span: Span,
    /// Context for the headers of the message.
    pub context: TraceContext,
}

/// Begins a span `publish <stream>`.
macro_rules! publish_span {
    ($destination:literal, $($fields:tt)*) => {
        info_span!(
            concat!("publish ", $destination),
            otel.kind = "producer",
            messaging.system = "nats",
            messaging.operation.name = "publish",
            messaging.operation.r#type = "send",
            messaging.destination.name = $destination,
            $($fields)*
        )
    };
}

/// Begins a span `process <stream>` for one delivery.
macro_rules! process_span {
    ($destination:literal, $delivery:expr, $($fields:tt)*) => {
        info_span!(
            concat!("process ", $destination),
            otel.kind = "consumer",
            messaging.system = "nats",
            messaging.operation.name = "process",
            messaging.operation.r#type = "process",
            messaging.destination.name = $destination,
            messaging.consumer.group.name = $delivery.consumer,
            messaging.message.id = $delivery.message_id,
            messaging.nats.stream.sequence = to_i64($delivery.stream_sequence),
            messaging.nats.delivery_count = to_i64($delivery.delivery_count),
            $($fields)*
        )
    };
}

/// Begins the span `publish jobs`, as a child of `parent`.
#[must_use]
pub fn begin_publish_span(message: &JobMessage, parent: &TraceContext) -> PublishSpan {
    let span = publish_span!(
        "jobs",
        messaging.message.id = field::Empty,
        messaging.nats.stream.sequence = field::Empty,
        job.id = %message.job_id,
        job.lane = message.lane.as_str(),
    );
    telemetry::set_parent(&span, parent);
    let context = telemetry::context_within(&span, parent);
    PublishSpan { span, context }
}

/// Begins the span `publish dead_jobs` within the last delivery, and returns the context for the
/// headers of the dead letter.
pub(crate) fn begin_dead_letter_span(
    job: Option<&Job>,
    message_id: &str,
    received: Option<TraceContext>,
) -> (Span, Option<TraceContext>) {
    let job_id = job.map(|job| field::display(job.job_id));
    let span = publish_span!("dead_jobs", messaging.message.id = message_id, job.id = job_id);
    // An unreadable message has no `process jobs` span around it.
    if let Some(parent) = received.as_ref().filter(|_| job.is_none()) {
        telemetry::set_parent(&span, parent);
    }
    let context = match received {
        Some(parent) => Some(telemetry::context_within(&span, &parent)),
        None => telemetry::context(&span),
    };
    (span, context)
}

/// Begins the span `publish webhooks`: a child of the current span, or else of the job's trace.
pub(crate) fn begin_webhook_span(job: &Job, message_id: &str) -> Span {
    let is_root = Span::current().is_none();
    let span = publish_span!("webhooks", messaging.message.id = message_id, job.id = %job.job_id);
    if let Some(parent) = job.trace_context().filter(|_| is_root) {
        telemetry::set_parent(&span, &parent);
    }
    span
}

/// Returns the context for the headers of a message about `job` that is published within `span`.
pub(crate) fn message_context(span: &Span, job: &Job) -> TraceContext {
    let context = match job.trace_context() {
        Some(parent) => Some(telemetry::context_within(span, &parent)),
        None => telemetry::context(span),
    };
    with_trace_id(job.trace_id, context)
}

/// Begins the span `process webhooks` for one delivery of a webhook's message.
#[must_use]
pub fn begin_webhook_delivery_span(
    job_id: JobId,
    trace_id: TraceId,
    delivery: &DeliveryInfo,
) -> Span {
    let span = process_span!("webhooks", delivery, job.id = %job_id);
    join_trace(&span, trace_id, delivery);
    span
}

/// Begins the span `process jobs` for one delivery of a job: a child of `publish jobs`.
#[must_use]
pub fn begin_delivery_span(message: &JobMessage, delivery: &DeliveryInfo) -> Span {
    let span = process_span!(
        "jobs",
        delivery,
        wordmill.queue.wait_ms = waited_ms(message),
        job.id = %message.job_id,
        job.lane = message.lane.as_str(),
    );
    join_trace(&span, message.trace_id, delivery);
    span
}

/// Makes `span` a child of the delivery's context. The trace id is always that of the job, even if
/// the header contains another one, because the record and the log contain it.
fn join_trace(span: &Span, trace_id: TraceId, delivery: &DeliveryInfo) {
    let parent = with_trace_id(trace_id, delivery.context.clone());
    telemetry::set_parent(span, &parent);
    telemetry::link(span, &parent);
    telemetry::record_trace_id(span, trace_id);
}

/// Returns `context`, or a random one, with its trace id replaced by that of the job.
fn with_trace_id(trace_id: TraceId, context: Option<TraceContext>) -> TraceContext {
    let TraceContext { parent, state } = context.unwrap_or_else(TraceContext::random);
    TraceContext { parent: TraceParent { trace_id, ..parent }, state }
}

/// Returns the time since a job was submitted, in milliseconds; 0 if the clocks disagree.
fn waited_ms(message: &JobMessage) -> i64 {
    clock::now().duration_since(message.created_at).as_millis().try_into().unwrap_or(0).max(0)
}

/// Writes the trace context to the headers of a message.
pub(crate) fn inject(headers: &mut HeaderMap, context: &TraceContext) {
    headers.insert(TRACEPARENT, context.parent.to_string());
    if !context.state.is_empty() {
        headers.insert(TRACESTATE, context.state.as_str());
    }
}

/// Returns the trace context of a message; `None` if it is missing or invalid.
pub(crate) fn extract(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(TRACEPARENT)?.as_str().parse().ok()?;
    let state = TraceState::parse(headers.get_all(TRACESTATE).map(HeaderValue::as_str));
    Some(TraceContext { parent, state })
}

/// Begins a span for a write, such as `put job_state`. Recorded at level `debug` only.
pub(crate) fn begin_put_span(name: &'static str) -> Span {
    debug_span!(
        "put",
        otel.name = name,
        otel.kind = "client",
        messaging.system = "nats",
        messaging.operation.name = "put",
    )
}

/// Begins a span for an acknowledgement, such as `ack jobs`. Recorded at level `debug` only.
pub(crate) fn begin_settle_span(name: &'static str, destination: &'static str) -> Span {
    debug_span!(
        "settle",
        otel.name = name,
        otel.kind = "client",
        messaging.system = "nats",
        messaging.operation.name = name.split(' ').next(),
        messaging.operation.r#type = "settle",
        messaging.destination.name = destination,
    )
}

/// Converts a count to the signed integers of span attributes. Larger values become `i64::MAX`.
pub(crate) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
