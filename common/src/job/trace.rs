//! The trace of a job.

use super::Job;
use crate::trace_context::TraceContext;

impl Job {
    /// Returns the context of the span that created the job; `None` if it is unknown.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        Some(TraceContext { parent: self.traceparent?, state: self.tracestate.clone() })
    }

    /// Returns the job with the context of the span that created it.
    #[must_use]
    pub fn with_trace_context(self, context: Option<TraceContext>) -> Self {
        let (parent, state) = context.map(|context| (context.parent, context.state)).unzip();
        Self { traceparent: parent, tracestate: state.unwrap_or_default(), ..self }
    }
}
