//! Operations on existing spans. For a span that is not recorded they do nothing, at almost no
//! cost.

use std::str::FromStr;

use opentelemetry::trace::{SpanContext, Status, TraceContextExt, TraceFlags, TraceState};
use opentelemetry::{Context, KeyValue, Value};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Registry;
use tracing_subscriber::registry::LookupSpan;

use super::log::SpanFields;
use wordmill_common::trace_context::{self, TraceContext, TraceId, TraceParent};

/// Maximum size of the description of an error, in bytes. Details of failures are shorter, except
/// those that quote a host name or an error of the TLS library.
const DESCRIPTION_BYTES_MAX: usize = 300;

/// Sets the parent of a span that was just created. The parent is usually a span of another
/// process.
pub fn set_parent(span: &Span, parent: &TraceContext) {
    // The call fails if nothing is recorded.
    let _ = span.set_parent(Context::new().with_remote_span_context(to_span_context(parent)));
}

/// Links a span to a related span that is not its parent.
pub fn link(span: &Span, other: &TraceContext) {
    span.add_link(to_span_context(other));
}

/// Returns the context of a span, for children in other processes; `None` if the span is not
/// recorded. The context includes the sampling decision.
///
/// The parent of the span cannot be changed afterwards.
#[must_use]
pub fn context(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    context.is_valid().then(|| TraceContext {
        parent: TraceParent {
            trace_id: TraceId::from_bits(u128::from_be_bytes(context.trace_id().to_bytes())),
            parent_id: u64::from_be_bytes(context.span_id().to_bytes()),
            flags: context.trace_flags().to_u8(),
        },
        state: trace_context::TraceState::from(context.trace_state().header()),
    })
}

/// Returns the context of a span, like [`context`], or `parent` if the span is not recorded. The
/// span must be in the trace of `parent`.
///
/// The trace state is that of `parent`: OpenTelemetry 0.33 refuses a valid list if the system in a
/// key has 14 characters, and such a list must not be lost on the way to other processes.
#[must_use]
pub fn context_within(span: &Span, parent: &TraceContext) -> TraceContext {
    match context(span) {
        Some(context) => TraceContext { state: parent.state.clone(), ..context },
        None => parent.clone(),
    }
}

/// Marks the operation of a span as failed. `error_type` is a name from a small fixed set.
///
/// `description` is a sentence for a person, such as the detail of a failure or of a problem. Only
/// its first `DESCRIPTION_BYTES_MAX` bytes are recorded. It must not contain credentials, the
/// query of a URL or the text of a document.
pub fn fail(span: &Span, error_type: impl Into<Value>, description: &str) {
    span.set_attribute("error.type", error_type);
    span.set_status(Status::error(shorten(description).to_owned()));
}

/// Returns the beginning of a description, up to the end of a character.
fn shorten(description: &str) -> &str {
    let end = description.floor_char_boundary(DESCRIPTION_BYTES_MAX);
    description.get(..end).unwrap_or_default()
}

/// Adds an attribute that was not known when the span was created.
pub fn set_attribute(span: &Span, name: &'static str, value: impl Into<Value>) {
    span.set_attribute(name, value);
}

/// Adds an event to a span, at the current time.
pub fn add_event<const N: usize>(
    span: &Span,
    name: &'static str,
    attributes: [(&'static str, Value); N],
) {
    span.add_event(name, attributes.map(|(key, value)| KeyValue::new(key, value)).to_vec());
}

/// Adds the trace id to all log lines within a span.
pub fn record_trace_id(span: &Span, trace_id: TraceId) {
    span.with_subscriber(|(id, subscriber)| {
        let registry = subscriber.downcast_ref::<Registry>();
        if let Some(data) = registry.and_then(|registry| registry.span(id)) {
            SpanFields::of(&mut data.extensions_mut()).trace_id = Some(trace_id.to_string());
        }
    });
}

fn to_span_context(context: &TraceContext) -> SpanContext {
    let parent = &context.parent;
    SpanContext::new(
        parent.trace_id.bits().into(),
        parent.parent_id.into(),
        // Only the flag `sampled` is defined in level 1.
        TraceFlags::new(parent.flags & 1),
        true,
        // See `context_within` about lists that OpenTelemetry refuses.
        TraceState::from_str(context.state.as_str()).unwrap_or(TraceState::NONE),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_shortened_at_the_end_of_a_character() {
        assert_eq!(shorten("The host is slow."), "The host is slow.");
        assert_eq!(shorten(&"é".repeat(150)).len(), 300);
        assert_eq!(shorten(&format!("a{}", "é".repeat(200))).len(), 299);
    }
}
