//! State of the connection, as the NATS client last reported it.

use std::time::Duration;

/// Timeout of a request to the broker.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// State of the connection, updated from the events of the NATS client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connection {
    /// Number of connections so far. It increases with each reconnect. The server drops the pull
    /// requests of a connection when that connection ends.
    pub(crate) number: u64,
    /// Whether the client has closed the connection for good.
    pub(crate) is_closed: bool,
    /// Last error that the client reported on this connection.
    pub(crate) last_error: Option<String>,
}
