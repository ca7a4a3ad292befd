//! Fetches pages from URLs that clients choose.
//!
//! A fetch is a chain of hops: the first request, and one hop for each redirect. On every hop the
//! guard checks the URL, the host name is resolved once, the guard checks all its addresses, one of
//! them is dialled, and the connection carries one request. No code bypasses the guard: the
//! connector accepts only allowed addresses, a hop never resolves a name twice, connections are not
//! reused, and proxies from the environment are ignored. Requests do not identify a user: they
//! carry no cookies, no credentials and no referrer.
//!
//! The crate, not the HTTP library, decompresses the body, so that both the transferred and the
//! decompressed size are limited while the body streams.

mod connect;
mod decode;
mod error;
mod event;
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
    BROTLI_BYTES_MAX, ContentEncoding, Decoder, INFLATE_BYTES_MAX, TrailingData, ZSTD_BYTES_MAX,
};
pub use self::error::{DecodeFault, Error, Phase, RedirectFault, SizeLimit};
pub use self::event::{FetchEvent, Observer};
use self::guard::{AllowedAddress, Guard, Target, TargetHost};
pub use self::hosts::HostPermit;
use self::hosts::HostSlots;
pub use self::limits::{Limits, Settings, SetupError};
pub use self::page::{CHUNK_SIZE_MAX, Page, Progress};
pub use self::post::PostResponse;
pub use self::resolve::{Resolve, SystemResolver};
use self::response::ResponseKind;
use self::wire::WireBody;

/// Fetches pages within limits. Clones share the slots of each host.
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

/// Result of one hop.
enum Hop {
    Page(Box<Page>),
    Redirect(Url),
}

impl Fetcher {
    /// Creates a fetcher that uses the resolver of the operating system.
    ///
    /// # Errors
    /// [`SetupError`] if a limit or the user agent is invalid.
    pub fn try_new(settings: &Settings) -> Result<Self, SetupError> {
        Self::try_with_resolver(settings, Arc::new(SystemResolver))
    }

    /// Creates a fetcher with another resolver. The guard also checks the addresses that it
    /// returns.
    ///
    /// # Errors
    /// [`SetupError`] if a limit or the user agent is invalid.
    pub fn try_with_resolver(
        settings: &Settings,
        resolver: Arc<dyn Resolve>,
    ) -> Result<Self, SetupError> {
        Self::try_with_roots(settings, resolver, connect::trusted_roots())
    }

    fn try_with_roots(
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

    /// Fetches a page. Returns when the header of a successful response has arrived;
    /// [`Page::chunk`] then reads the body.
    ///
    /// The limits, including the total timeout, also apply while the body is read. Dropping the
    /// future aborts the fetch and closes its connection. `observer` is called at the end of each
    /// phase, up to the header of the page.
    ///
    /// # Errors
    /// [`Error::Timeout`] after the total timeout, [`Error::Redirects`] after too many redirects,
    /// and the errors of each hop.
    pub async fn get(&self, url: &Url, observer: Observer<'_>) -> Result<Page, Error> {
        let limit = self.shared.limits.total_timeout;
        let deadline = Instant::now() + limit;
        timeout_at(deadline, self.shared.follow_redirects(url, deadline, observer))
            .await
            .unwrap_or(Err(Error::Timeout { phase: Phase::Total, limit }))
    }
}

impl FetcherState {
    async fn follow_redirects(
        &self,
        url: &Url,
        deadline: Instant,
        observer: Observer<'_>,
    ) -> Result<Page, Error> {
        let mut url = url.clone();
        url.set_fragment(None);
        let mut redirects = 0;
        loop {
            match self.fetch_hop(url, redirects, deadline, observer).await? {
                Hop::Page(page) => return Ok(*page),
                Hop::Redirect(_) if redirects >= self.limits.redirects_max => {
                    return Err(RedirectFault::TooMany { max: self.limits.redirects_max }.into());
                }
                Hop::Redirect(location) => {
                    observer(FetchEvent::Redirected { location: &location });
                    url = location;
                }
            }
            url.set_fragment(None);
            redirects += 1;
        }
    }

    async fn fetch_hop(
        &self,
        url: Url,
        redirects: usize,
        deadline: Instant,
        observer: Observer<'_>,
    ) -> Result<Hop, Error> {
        let to_blocked = |refusal| Error::Blocked { redirects, refusal };
        let target = self.guard.check_url(&url).map_err(to_blocked)?;
        let request = exchange::build_request(&url, self.user_agent.clone()).map_err(to_blocked)?;
        let slot = self.acquire_slot(url.host_str().unwrap_or_default(), observer).await;
        let addresses = self.resolve_target(&target, redirects, observer).await?;
        let connection = self.connector.connect(&target, &addresses, observer).await?;
        let (response, driver) = exchange::send(connection, request, &self.limits).await?;
        let (parts, body) = response.into_parts();
        observer(FetchEvent::HeaderReceived { status: parts.status.as_u16() });
        // The body of a redirect is not read. Its connection and its slot are released here.
        Ok(match response::classify(&url, &parts, &body, &self.limits, SystemTime::now())? {
            ResponseKind::Redirect(location) => Hop::Redirect(location),
            ResponseKind::Page(head) => {
                let wire = WireBody::new(body, driver, slot, &self.limits);
                let page = Page::new(url, head, wire, redirects, &self.limits, deadline);
                Hop::Page(Box::new(page))
            }
        })
    }

    async fn acquire_slot(&self, host: &str, observer: Observer<'_>) -> HostPermit {
        if let Some(slot) = self.hosts.try_acquire(host) {
            return slot;
        }
        let slot = self.hosts.acquire(host).await;
        observer(FetchEvent::SlotAcquired);
        slot
    }

    /// Returns the addresses to dial, all checked by the guard. No other code resolves names.
    async fn resolve_target(
        &self,
        target: &Target,
        redirects: usize,
        observer: Observer<'_>,
    ) -> Result<Vec<AllowedAddress>, Error> {
        let name = match &target.host {
            TargetHost::Address(address) => return Ok(vec![*address]),
            TargetHost::Name(name) => name,
        };
        let limit = self.limits.resolve_timeout;
        let addresses = timeout(limit, self.resolver.resolve(name))
            .await
            .map_err(|_| Error::Timeout { phase: Phase::Resolve, limit })?
            .and_then(|addresses| match addresses.as_slice() {
                [] => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                [..] => Ok(addresses),
            })
            .map_err(|source| Error::Dns { host: name.clone(), source })?;
        observer(FetchEvent::NameResolved { addresses: addresses.len() });
        let allowed = self.guard.check_name(name, target.port, &addresses);
        allowed.map_err(|refusal| Error::Blocked { redirects, refusal })
    }
}

#[cfg(test)]
mod tests;
