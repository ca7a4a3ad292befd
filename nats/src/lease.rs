//! Leases: a duty that one process at a time has.
//!
//! A lease is a key in the bucket `leases`, held by whoever wrote it last. It goes away by itself
//! when it is not renewed for the bucket's longest age, counted from the last renewal. A lease keeps
//! two processes from doing the same work; what they write must be safe even if both do.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::Stream as JetStream;
use tokio::time::Instant;
use uuid::Uuid;

use crate::Error;
use crate::connect::Broker;
use crate::error::{Refusal, refusal};
use crate::headers::OPERATION_HEADER;
use crate::stream_read::{ReadFrom, info, last, open};
use crate::subject;
use crate::topology::LEASES_STREAM;

/// A lease is renewed when this part of its time is over.
const RENEWALS_PER_TTL: u32 = 3;

/// One duty, and who we are when we ask for it.
#[derive(Debug, Clone)]
pub struct Lease {
    broker: Broker,
    stream: JetStream<()>,
    subject: async_nats::Subject,
    holder: String,
}

/// A lease that is ours, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldLease {
    revision: u64,
    ttl: Duration,
    /// When it may have gone to somebody else, counted from before the last renewal was sent.
    pub until: Instant,
}

impl HeldLease {
    /// Returns how long to wait before it is renewed, and between two tries to get one.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.ttl / RENEWALS_PER_TTL
    }
}

/// What came of asking for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseResult {
    /// It is ours.
    Granted(HeldLease),
    /// Somebody else has it; to be asked for again after this long.
    HeldByOther(Duration),
}

impl Lease {
    /// Names a duty; asks the broker nothing. Every call is another holder.
    pub fn open(broker: &Broker, duty: &str) -> Self {
        Self {
            broker: broker.clone(),
            stream: open(broker, LEASES_STREAM),
            subject: subject::lease(duty),
            holder: Uuid::new_v4().to_string(),
        }
    }

    /// Asks for the lease.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn acquire(&self) -> Result<LeaseResult, Error> {
        let ttl = info(&self.broker, LEASES_STREAM).await?.config.max_age;
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

    /// Renews the lease; `None` means that it is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may have been renewed, and lasts until [`HeldLease::until`] at least.
    pub async fn renew(&self, held_lease: HeldLease) -> Result<Option<HeldLease>, Error> {
        let start = Instant::now();
        let renewed =
            |revision| Some(HeldLease { revision, until: start + held_lease.ttl, ..held_lease });
        if let Some(revision) = self.write(self.claim(), held_lease.revision).await? {
            return Ok(renewed(revision));
        }
        // An earlier renewal without an answer may have arrived after all.
        match self.last().await? {
            Some(message) if self.is_ours(&message) => {
                Ok(self.write(self.claim(), message.sequence).await?.and_then(renewed))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Gives the lease back, so that nobody has to wait for its end.
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
        last(&self.stream, &self.subject, ReadFrom::Leader).await
    }

    /// Writes by compare-and-set; `None` is a conflict.
    async fn write(&self, message: PublishMessage, expected: u64) -> Result<Option<u64>, Error> {
        let message = message.expected_last_subject_sequence(expected);
        let sent = self.broker.jetstream.send_publish(self.subject.clone(), message).await;
        let acknowledged = match sent {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match acknowledged {
            Ok(acknowledged) => Ok(Some(acknowledged.sequence)),
            Err(error) if refusal(&error) == Refusal::Conflict => Ok(None),
            Err(error) => Err(Error::unavailable("write a lease", error)),
        }
    }
}

fn is_released(message: &StreamMessage) -> bool {
    message.headers.get(OPERATION_HEADER).is_some()
}
