//! The trace of a request: inherited or made, and named in every answer that is an error.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, info_span};
use wordmill_common::trace::TraceParent;

use crate::problem::Problem;
use crate::word_count;

/// Header with the W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// Gives the request its trace, and every problem its body.
pub(crate) async fn answer(mut request: Request, next: Next) -> Response {
    let inherited = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    let trace = inherited.and_then(|text| text.parse().ok()).unwrap_or_else(TraceParent::random);
    request.extensions_mut().insert(trace);
    let is_older_contract = word_count::owns(request.uri().path());
    let span = info_span!(
        "request",
        trace_id = %trace.trace_id,
        method = %request.method(),
        path = request.uri().path(),
        key.name = tracing::field::Empty,
    );
    let response = next.run(request).instrument(span).await;
    match response.extensions().get::<Problem>() {
        None => response,
        Some(problem) if is_older_contract => {
            let mut refused = word_count::refuse(problem.status(), problem.detail());
            refused.headers_mut().extend(response.headers().clone());
            refused
        }
        Some(problem) => problem.render(trace.trace_id, response.headers()),
    }
}
