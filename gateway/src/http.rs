//! HTTP connections, requests and answers, as all handlers use them.

pub mod browser;
pub(crate) mod conditional;
pub mod cors;
pub(crate) mod cursor;
pub(crate) mod deadline;
pub(crate) mod problem;
pub mod reload;
pub(crate) mod request_trace;
pub(crate) mod schema;
pub(crate) mod security_headers;
pub(crate) mod server;
pub mod tls;
