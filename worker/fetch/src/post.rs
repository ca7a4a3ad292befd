//! Posts to receivers that clients choose, behind the same guard as fetches. Redirects are not
//! followed. Only the status and `Retry-After` of the response are used.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::HeaderMap;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use url::Url;

use super::error::{Error, Phase};
use super::hosts::HostPermit;
use super::wire::WireBody;
use super::{FetchEvent, Fetcher, FetcherState, Observer, exchange, response};

/// Maximum number of bytes of a response body that are read. Closing a connection with unread data
/// resets it, which the receiver could log as an error.
const RESPONSE_BYTES_MAX: u64 = 16 << 10;
/// Time limit for reading the body after the status has arrived.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Response of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostResponse {
    /// Status.
    pub status: u16,
    /// Delay before the next attempt, from the receiver's `Retry-After`, at most one year.
    pub retry_after: Option<Duration>,
}

impl Fetcher {
    /// Acquires a slot for the host of a URL; `None` if none is free.
    pub fn reserve(&self, url: &Url) -> Option<HostPermit> {
        self.shared.hosts.try_acquire(url.host_str().unwrap_or_default())
    }

    /// Posts JSON, within the total timeout of a fetch. Dropping the future aborts the request.
    /// `observer` is called at the end of each phase, up to the header of the response.
    ///
    /// # Errors
    /// Any [`Error`] except [`Error::Status`]: a response with any status is a success.
    pub async fn post(
        &self,
        url: &Url,
        slot: HostPermit,
        headers: HeaderMap,
        body: Bytes,
        observer: Observer<'_>,
    ) -> Result<PostResponse, Error> {
        let limit = self.shared.limits.total_timeout;
        timeout(limit, self.shared.post(url, slot, headers, body, observer))
            .await
            .unwrap_or(Err(Error::Timeout { phase: Phase::Total, limit }))
    }
}

impl FetcherState {
    async fn post(
        &self,
        url: &Url,
        slot: HostPermit,
        headers: HeaderMap,
        body: Bytes,
        observer: Observer<'_>,
    ) -> Result<PostResponse, Error> {
        let to_blocked = |refusal| Error::Blocked { redirects: 0, refusal };
        let target = self.guard.check_url(url).map_err(to_blocked)?;
        let request = exchange::build_post(url, self.user_agent.clone(), headers, body);
        let request = request.map_err(to_blocked)?;
        let addresses = self.resolve_target(&target, 0, observer).await?;
        let connection = self.connector.connect(&target, &addresses, observer).await?;
        let (response, driver) = exchange::send(connection, request, &self.limits).await?;
        let (parts, body) = response.into_parts();
        observer(FetchEvent::HeaderReceived { status: parts.status.as_u16() });
        let post_response = PostResponse {
            status: parts.status.as_u16(),
            retry_after: response::parse_retry_after(&parts.headers, SystemTime::now()),
        };
        let mut rest = WireBody::new(body, driver, slot, &self.limits).take(RESPONSE_BYTES_MAX);
        // Only the status matters. Ignore errors in the rest of the response.
        let _ =
            timeout(RESPONSE_TIME_MAX, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
        Ok(post_response)
    }
}
