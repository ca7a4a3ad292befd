//! Metrics and traces of the running services.

mod metrics;
mod span_export;
mod traces;
