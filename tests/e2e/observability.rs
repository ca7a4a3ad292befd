//! Metrics and traces of the running services.

mod metrics;
mod traces;
