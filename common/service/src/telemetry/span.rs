//! What can be done with a span besides creating it. Everything here does nothing to a span that is
//! not recorded, and costs next to nothing then.

use opentelemetry::trace::{SpanContext, Status, TraceContextExt, TraceFlags, TraceState};
use opentelemetry::{Context, KeyValue, Value};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use super::log::SpanFields;
use wordmill_common::trace_context::{TraceId, TraceParent};

/// Makes `parent`, which is not a span of this process as a rule, the parent of a span that was just
/// created.
pub fn adopt(span: &Span, parent: &TraceParent) {
    // It fails where nothing is recorded.
    let _ = span.set_parent(Context::new().with_remote_span_context(remote(parent)));
}

/// Links a span to one that has to do with it without being its parent.
pub fn link(span: &Span, other: &TraceParent) {
    span.add_link(remote(other));
}

/// Returns the context of a span, for its children elsewhere; `None` if it is not recorded by
/// anything. Whether it is sampled is part of the context.
///
/// Its parent cannot be changed any more afterwards.
#[must_use]
pub fn context(span: &Span) -> Option<TraceParent> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| TraceParent {
        trace_id: TraceId::from_bits(u128::from_be_bytes(context.trace_id().to_bytes())),
        parent_id: u64::from_be_bytes(context.span_id().to_bytes()),
        flags: context.trace_flags().to_u8(),
    })
}

/// Marks what a span stands for as failed, for the reason `error_type`: a word of a short list.
pub fn fail(span: &Span, error_type: impl Into<Value>) {
    span.set_attribute("error.type", error_type);
    span.set_status(Status::error(""));
}

/// Adds an attribute that was not known when the span was created.
pub fn note(span: &Span, name: &'static str, value: impl Into<Value>) {
    span.set_attribute(name, value);
}

/// Adds something that happened at a moment within a span.
pub fn add_event(span: &Span, what: &'static str, detail: (&'static str, i64)) {
    span.add_event(what, vec![KeyValue::new(detail.0, detail.1)]);
}

/// Lets every log line within a span name its trace.
pub fn record_trace_id(span: &Span, trace_id: TraceId) {
    span.with_subscriber(|(id, subscriber)| {
        let registry = subscriber.downcast_ref::<Registry>();
        if let Some(data) = registry.and_then(|registry| registry.span(id)) {
            SpanFields::of(&mut data.extensions_mut()).trace_id = Some(trace_id.to_string());
        }
    });
}

fn remote(parent: &TraceParent) -> SpanContext {
    SpanContext::new(
        parent.trace_id.bits().into(),
        parent.parent_id.into(),
        TraceFlags::new(parent.flags & 1),
        true,
        TraceState::NONE,
    )
}
