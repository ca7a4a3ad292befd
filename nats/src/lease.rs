//! Leases: the right to perform a duty, which one process holds at a time.
//!
//! A lease is a key in the bucket `leases`; the last writer of the key holds the lease. It expires
//! if it is not renewed within the bucket's maximum age. A lease avoids duplicate work. It is not a
//! lock: writes must be safe even if two processes perform the duty.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::Stream as JetStream;
use tokio::time::Instant;
use uuid::Uuid;

use crate::Error;
use crate::connect::Broker;
use crate::error::{Refusal, classify_publish_error};
use crate::headers::OPERATION_HEADER;
use crate::stream_read::{ReadFrom, last_message, open_stream, stream_info};
use crate::subject;
use crate::topology::LEASES_STREAM;

/// Number of renewals within the lifetime of a lease.
const RENEWALS_PER_TTL: u32 = 3;

/// A duty, and the identity under which this process competes for its lease.
#[derive(Debug, Clone)]
pub struct Lease {
    broker: Broker,
    stream: JetStream<()>,
    subject: async_nats::Subject,
    holder: String,
}

/// A lease that this process holds. It may have expired: check [`HeldLease::until`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    /// Revision of the last write, which the next one must expect.
    revision: u64,
    /// Lifetime of the lease without a renewal.
    ttl: Duration,
    /// Time until which the lease is definitely held. Measured from before the last renewal was
    /// sent, so the broker never expires the lease earlier.
    pub until: Instant,
}

impl HeldLease {
    /// Returns the delay before the next renewal.
    #[must_use]
    pub fn renewal_delay(&self) -> Duration {
        self.ttl / RENEWALS_PER_TTL
    }
}

/// Result of [`Lease::acquire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseResult {
    /// This process holds the lease.
    Granted(HeldLease),
    /// Another process holds the lease. Try again after this time.
    HeldByOther(Duration),
}

impl Lease {
    /// Creates a new identity that competes for the lease of a duty. Sends no request.
    pub fn open(broker: &Broker, duty: &str) -> Self {
        Self {
            broker: broker.clone(),
            stream: open_stream(broker, LEASES_STREAM),
            subject: subject::lease(duty),
            holder: Uuid::new_v4().to_string(),
        }
    }

    /// Tries to acquire the lease: succeeds if it has expired, was released, or is already held
    /// under this identity.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn acquire(&self) -> Result<LeaseResult, Error> {
        let ttl = stream_info(&self.broker, LEASES_STREAM).await?.config.max_age;
        // Taken before the read and the write, so that `until` cannot be later than the expiry on
        // the broker.
        let start = Instant::now();
        let revision = match self.last().await? {
            None => 0,
            Some(message) if is_released(&message) || self.is_ours(&message) => message.sequence,
            Some(_) => return Ok(LeaseResult::HeldByOther(ttl / RENEWALS_PER_TTL)),
        };
        Ok(match self.write(self.claim(), revision).await? {
            Some(revision) => LeaseResult::Granted(HeldLease { revision, ttl, until: start + ttl }),
            None => LeaseResult::HeldByOther(ttl / RENEWALS_PER_TTL),
        })
    }

    /// Renews the lease. Returns `None` if it is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may have been renewed. The lease is held until
    /// [`HeldLease::until`] in any case.
    pub async fn renew(&self, held_lease: HeldLease) -> Result<Option<HeldLease>, Error> {
        let start = Instant::now();
        let renewed =
            |revision| Some(HeldLease { revision, until: start + held_lease.ttl, ..held_lease });
        if let Some(revision) = self.write(self.claim(), held_lease.revision).await? {
            return Ok(renewed(revision));
        }
        // Revision mismatch: an earlier renewal without an answer may have arrived. If the last
        // write is ours, the lease is still held.
        match self.last().await? {
            Some(message) if self.is_ours(&message) => {
                Ok(self.write(self.claim(), message.sequence).await?.and_then(renewed))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Releases the lease, so that another process can acquire it before it expires.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn release(&self, held_lease: HeldLease) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION_HEADER, "DEL");
        self.write(PublishMessage::build().headers(headers), held_lease.revision).await.map(drop)
    }

    fn claim(&self) -> PublishMessage {
        PublishMessage::build().payload(self.holder.clone().into())
    }

    fn is_ours(&self, message: &StreamMessage) -> bool {
        message.payload == self.holder.as_bytes()
    }

    async fn last(&self) -> Result<Option<StreamMessage>, Error> {
        last_message(&self.stream, &self.subject, ReadFrom::Leader).await
    }

    /// Writes by compare-and-set; `None` if the revision does not match.
    async fn write(&self, message: PublishMessage, expected: u64) -> Result<Option<u64>, Error> {
        let message = message.expected_last_subject_sequence(expected);
        let sent = self.broker.jetstream.send_publish(self.subject.clone(), message).await;
        let acknowledged = match sent {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match acknowledged {
            Ok(acknowledged) => Ok(Some(acknowledged.sequence)),
            Err(error) if classify_publish_error(&error) == Refusal::Conflict => Ok(None),
            Err(error) => Err(Error::unavailable("write a lease", error)),
        }
    }
}

fn is_released(message: &StreamMessage) -> bool {
    message.headers.get(OPERATION_HEADER).is_some()
}
