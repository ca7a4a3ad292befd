//! Posts to receivers that strangers named, behind the same guard as fetches. Nothing is followed, and
//! what is answered besides the status is thrown away.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::HeaderMap;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use url::Url;

use super::error::{Error, Wait};
use super::hosts::Slot;
use super::wire::Wire;
use super::{Fetcher, FetcherState, exchange, response};

/// How much of an answer is read, so that its sender need not see the connection break.
const ANSWER_BYTES_MAX: u64 = 16 << 10;
/// For how long it is waited for, once the status is known.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// What a receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostResponse {
    /// The status.
    pub status: u16,
    /// How long it asks to wait before the next try; not clamped.
    pub retry_after: Option<Duration>,
}

impl Fetcher {
    /// Takes one of the places for the host of a URL; `None` if all are taken.
    pub fn reserve(&self, url: &Url) -> Option<Slot> {
        self.shared.hosts.try_acquire(url.host_str().unwrap_or_default())
    }

    /// Posts JSON, within the total time of every fetch. Dropping the future gives it up.
    ///
    /// # Errors
    /// Whatever kept an answer from coming; a status of an error is none.
    pub async fn post(
        &self,
        url: &Url,
        slot: Slot,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<PostResponse, Error> {
        let limit = self.shared.limits.total_timeout;
        timeout(limit, self.shared.post(url, slot, headers, body))
            .await
            .unwrap_or(Err(Error::Timeout { wait: Wait::Total, limit }))
    }
}

impl FetcherState {
    async fn post(
        &self,
        url: &Url,
        slot: Slot,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<PostResponse, Error> {
        let refused = |refusal| Error::Blocked { redirects: 0, refusal };
        let target = self.guard.check_url(url).map_err(refused)?;
        let request = exchange::post(url, self.user_agent.clone(), headers, body);
        let request = request.map_err(refused)?;
        let addresses = self.addresses(&target, 0).await?;
        let connection = self.connector.connect(&target, &addresses).await?;
        let (answer, link) = exchange::send(connection, request, &self.limits).await?;
        let (parts, body) = answer.into_parts();
        let answered = PostResponse {
            status: parts.status.as_u16(),
            retry_after: response::retry_after(&parts.headers, SystemTime::now()),
        };
        let mut rest = Wire::new(body, link, slot, &self.limits).take(ANSWER_BYTES_MAX);
        // The status is what counts, however the rest of the answer ends.
        let _ = timeout(ANSWER_TIME_MAX, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
        Ok(answered)
    }
}
