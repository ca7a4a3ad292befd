//! Metrics and traces of the running services.

mod descriptions;
mod metrics;
mod trace_state;
mod traces;
