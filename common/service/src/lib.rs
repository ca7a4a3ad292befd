//! What gateway and worker share as services: an HTTP server that hostile clients cannot exhaust.

pub mod server;
