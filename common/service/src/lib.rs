//! Shared infrastructure of the Wordmill services: settings, telemetry, metrics, shutdown, the
//! readiness probe, and an HTTP server that hostile clients cannot exhaust.

pub mod env;
pub mod metrics;
pub mod panic;
pub mod readiness_probe;
pub mod server;
pub mod shutdown;
pub mod telemetry;
