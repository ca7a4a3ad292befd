//! Metrics and traces of the running services.

mod metrics;
mod trace_state;
mod traces;
