//! Fetches pages from the network on behalf of strangers.
//!
//! A fetch is a chain of hops, one for each redirect. On every hop the URL is vetted, the host name is
//! looked up once, all its addresses are vetted, one of them is dialled, and the connection carries
//! one request. There is no way around the guard: the connector takes vetted addresses only, nothing
//! looks a name up a second time, no connection is used twice, and proxies named in the environment
//! are ignored. Nothing identifies a user: no cookies, no credentials, no referrer.
//!
//! The body is decompressed here and not in the HTTP library, so that both of its sizes are
//! counted while it streams.

mod connect;
mod decode;
mod error;
mod exchange;
pub mod guard;
mod hosts;
mod limits;
mod page;
mod post;
mod resolve;
mod response;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::HeaderValue;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::rustls::RootCertStore;
use url::Url;

use self::connect::Connector;
pub use self::decode::{
    BROTLI_BYTES_MAX, Decoder, Encoding, INFLATE_BYTES_MAX, Leftover, ZSTD_BYTES_MAX,
};
pub use self::error::{DecodeFault, Error, RedirectFault, SizeLimit, Wait};
use self::guard::{AllowedAddress, Guard, Target, TargetHost};
use self::hosts::HostSlots;
pub use self::hosts::Slot;
pub use self::limits::{Limits, Settings, SetupError};
pub use self::page::{CHUNK_SIZE_MAX, Page, Progress};
pub use self::post::PostResponse;
pub use self::resolve::{Resolve, SystemResolver};
use self::response::Verdict;
use self::wire::Wire;

/// Fetches pages within limits. Clones share the slots for each host.
#[derive(Clone)]
pub struct Fetcher {
    shared: Arc<FetcherState>,
}

struct FetcherState {
    limits: Limits,
    guard: Guard,
    resolver: Arc<dyn Resolve>,
    connector: Connector,
    hosts: HostSlots,
    user_agent: HeaderValue,
}

/// What one hop led to.
enum Hop {
    Page(Box<Page>),
    Redirect(Url),
}

impl Fetcher {
    /// Makes a fetcher that resolves names as the operating system does.
    pub fn try_new(settings: &Settings) -> Result<Self, SetupError> {
        Self::try_with_resolver(settings, Arc::new(SystemResolver))
    }

    /// Makes a fetcher with a resolver of one's own. Its answers are vetted like any.
    pub fn try_with_resolver(
        settings: &Settings,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, SetupError> {
        Self::assemble(settings, resolver, connect::trusted_roots())
    }

    fn assemble(
        settings: &Settings,
        resolver: Arc<dyn Resolve>,
        roots: RootCertStore,
    ) -> Result<Self, SetupError> {
        let limits = settings.limits.clone();
        limits.validate()?;
        let user_agent = HeaderValue::from_str(&settings.user_agent);
        let shared = FetcherState {
            guard: Guard::new(&settings.allow),
            resolver,
            connector: Connector::try_new(roots, limits.connect_timeout)?,
            hosts: HostSlots::new(limits.per_host_max),
            user_agent: user_agent.map_err(|_| SetupError::UserAgent)?,
            limits,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Returns the limits of every fetch.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Fetches a page, and returns when the header of a successful answer has arrived.
    ///
    /// The page's body is still on its way then; its limits, the total time among them, go on to
    /// hold while it is read. Dropping the future gives the fetch up and closes its connection.
    pub async fn get(&self, url: &Url) -> Result<Page, Error> {
        let limit = self.shared.limits.total_timeout;
        let deadline = Instant::now() + limit;
        timeout_at(deadline, self.shared.follow(url, deadline))
            .await
            .unwrap_or(Err(Error::Timeout { wait: Wait::Total, limit }))
    }
}

impl FetcherState {
    async fn follow(&self, url: &Url, deadline: Instant) -> Result<Page, Error> {
        let mut url = url.clone();
        url.set_fragment(None);
        let mut redirects = 0;
        loop {
            match self.hop(url, redirects, deadline).await? {
                Hop::Page(page) => return Ok(*page),
                Hop::Redirect(_) if redirects >= self.limits.redirects_max => {
                    return Err(RedirectFault::TooMany { max: self.limits.redirects_max }.into());
                }
                Hop::Redirect(location) => url = location,
            }
            url.set_fragment(None);
            redirects += 1;
        }
    }

    async fn hop(&self, url: Url, redirects: usize, deadline: Instant) -> Result<Hop, Error> {
        let refused = |refusal| Error::Blocked { redirects, refusal };
        let target = self.guard.check_url(&url).map_err(refused)?;
        let request = exchange::request(&url, self.user_agent.clone()).map_err(refused)?;
        let slot = self.hosts.acquire(url.host_str().unwrap_or_default()).await;
        let addresses = self.addresses(&target, redirects).await?;
        let connection = self.connector.connect(&target, &addresses).await?;
        let (response, link) = exchange::send(connection, request, &self.limits).await?;
        let (parts, body) = response.into_parts();
        // A redirect's own body is left unread: its connection and slot end here.
        Ok(match response::read(&url, &parts, &body, &self.limits, SystemTime::now())? {
            Verdict::Redirect(location) => Hop::Redirect(location),
            Verdict::Page(head) => {
                let wire = Wire::new(body, link, slot, &self.limits);
                let page = Page::new(url, head, wire, redirects, &self.limits, deadline);
                Hop::Page(Box::new(page))
            }
        })
    }

    /// Returns the addresses to dial, all vetted. The only place that looks names up.
    async fn addresses(
        &self,
        target: &Target,
        redirects: usize,
    ) -> Result<Vec<AllowedAddress>, Error> {
        let name = match &target.host {
            TargetHost::Address(vetted) => return Ok(vec![*vetted]),
            TargetHost::Name(name) => name,
        };
        let limit = self.limits.resolve_timeout;
        let found = timeout(limit, self.resolver.resolve(name))
            .await
            .map_err(|_| Error::Timeout { wait: Wait::Resolve, limit })?
            .and_then(|found| match found.as_slice() {
                [] => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                [..] => Ok(found),
            })
            .map_err(|source| Error::Dns { host: name.clone(), source })?;
        let vetted = self.guard.check_name(name, target.port, &found);
        vetted.map_err(|refusal| Error::Blocked { redirects, refusal })
    }
}

#[cfg(test)]
mod tests;
