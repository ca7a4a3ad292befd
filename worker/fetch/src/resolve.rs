//! Resolution of host names to addresses.

use std::io;
use std::net::IpAddr;

use futures_util::future::BoxFuture;

/// Resolves host names.
///
/// The fetcher resolves a name once per hop, lets the guard check every address, and connects only
/// to these. So an implementation may answer differently each time without bypassing the guard.
pub trait Resolve: Send + Sync {
    /// Returns all addresses of a name, best first. The fetcher limits the time of the call.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Resolver of the operating system: its hosts file, search domains and name servers.
///
/// An aborted lookup occupies its thread of the runtime's blocking pool until the system's own
/// timeout.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // The lookup does not depend on the port.
            let addresses = tokio::net::lookup_host((host, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}
