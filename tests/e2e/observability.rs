//! Metrics and traces of the running services.

mod descriptions;
mod fetch_phases;
mod metrics;
mod span_export;
mod trace_state;
mod traces;
