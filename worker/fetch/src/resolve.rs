//! From host names to addresses.

use std::io;
use std::net::IpAddr;

use futures_util::future::BoxFuture;

/// Finds the addresses of host names.
///
/// The fetcher looks a name up once per hop, has the guard check every address, and connects only
/// to these. So an implementation may answer differently each time without bypassing the guard.
pub trait Resolve: Send + Sync {
    /// Returns all addresses of a name, best first. The fetcher limits the time this takes.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver: its hosts file, search domains and name servers.
///
/// An aborted lookup holds its thread of the runtime's blocking pool until the system's own
/// time limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            // The port plays no part in the lookup.
            let addresses = tokio::net::lookup_host((host, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}
