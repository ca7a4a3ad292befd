//! Events of a fetch, for the trace of the caller.

use std::net::SocketAddr;

use url::Url;

/// End of a phase of a fetch, reported immediately, so that the trace of a failed fetch shows the
/// last completed phase.
///
/// Each hop reports an event at most once, and the number of hops is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchEvent<'a> {
    /// A slot for the host was acquired after a wait. Not reported without a wait.
    SlotAcquired,
    /// The name of the host was resolved. Not reported if the URL contains an address.
    NameResolved {
        /// Number of its addresses, allowed or not.
        addresses: usize,
    },
    /// A TCP connection was opened.
    Connected {
        /// Address and port of the server.
        peer: SocketAddr,
        /// Number of addresses that were tried, including this one.
        tries: usize,
    },
    /// The TLS handshake of an https URL is complete.
    TlsEstablished {
        /// Version of TLS, for example `1.3`; `None` if it is unknown.
        version: Option<&'static str>,
    },
    /// The complete header of a response was received.
    HeaderReceived {
        /// Status of the response.
        status: u16,
    },
    /// The response is a redirect that is followed next, if the guard allows it.
    Redirected {
        /// Target of the redirect.
        location: &'a Url,
    },
}

/// Receiver of the events of one fetch. It must not block.
pub type Observer<'a> = &'a (dyn Fn(FetchEvent<'_>) + Send + Sync);
