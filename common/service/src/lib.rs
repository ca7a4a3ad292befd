//! HTTP server of gateway and worker, which hostile clients cannot exhaust.

pub mod server;
