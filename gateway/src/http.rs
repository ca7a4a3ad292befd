//! HTTP connections, requests and responses: the parts that all handlers share.

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
