//! Metrics and traces of the running services.

mod descriptions;
mod fetch_phases;
mod metrics;
mod trace_state;
mod traces;
