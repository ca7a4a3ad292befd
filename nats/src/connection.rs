//! The state of the connection, as the NATS client last reported it.

use std::time::Duration;

/// Longest wait for one answer of the broker.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// What the client last told about its connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    /// How often there was a connection. What was asked of the server before is forgotten then.
    pub(crate) connects: u64,
    pub(crate) closed: bool,
    pub(crate) last_error: Option<String>,
}
