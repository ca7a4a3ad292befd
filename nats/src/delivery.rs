//! One delivery of a message, and the replies to it.

use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use tracing::{Instrument, Span};
use wordmill_common::id::Lane;
use wordmill_common::trace_context::TraceContext;

use crate::acks::{AckMonitor, QueueKind};
use crate::spans::DeliveryInfo;
use crate::topology::WEBHOOKS_CONSUMER;
use crate::{Error, spans};

/// Source of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullSource {
    /// A lane of the work queue.
    Jobs(Lane),
    /// The webhook queue.
    Webhooks,
}

impl PullSource {
    pub(crate) fn queue(self) -> QueueKind {
        match self {
            Self::Jobs(_) => QueueKind::Jobs,
            Self::Webhooks => QueueKind::Webhooks,
        }
    }

    pub(crate) fn consumer(self) -> &'static str {
        match self {
            Self::Jobs(lane) => lane.as_str(),
            Self::Webhooks => WEBHOOKS_CONSUMER,
        }
    }
}

/// One delivery of a message. If it is dropped without a reply, the broker redelivers the message
/// after the ack wait.
#[derive(Debug)]
pub struct Delivery {
    pub(crate) message: jetstream::Message,
    pub(crate) source: PullSource,
    pub(crate) ack_wait: Duration,
    pub(crate) acks: AckMonitor,
}

impl Delivery {
    /// Returns the payload of the message.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Returns the queue of the message.
    #[must_use]
    pub fn queue(&self) -> QueueKind {
        self.source.queue()
    }

    /// Returns the lane of the job; `None` for a webhook.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        match self.source {
            PullSource::Jobs(lane) => Some(lane),
            PullSource::Webhooks => None,
        }
    }

    /// Returns the subject of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.message.subject
    }

    /// Returns the time after which the broker redelivers the message if it receives neither a
    /// reply nor a keep-alive.
    #[must_use]
    pub fn ack_wait(&self) -> Duration {
        self.ack_wait
    }

    /// Returns the trace context in the headers of the message; `None` if it is missing or invalid.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        spans::extract(self.message.headers.as_ref()?)
    }

    /// Returns the number of deliveries of the message, including this one.
    ///
    /// Shutdowns, pauses and lost acknowledgements increase it, so it does not count attempts.
    /// Returns 2, as for a redelivery, if the metadata of the message cannot be parsed.
    #[must_use]
    pub fn delivery_count(&self) -> u64 {
        self.message.info().ok().and_then(|info| u64::try_from(info.delivered).ok()).unwrap_or(2)
    }

    /// Returns the sequence number of the message in its stream; 0 if it cannot be parsed.
    #[must_use]
    pub fn stream_sequence(&self) -> u64 {
        self.message.info().map_or(0, |info| info.stream_sequence)
    }

    /// Returns the attributes for the span of this delivery.
    #[must_use]
    pub fn info(&self) -> DeliveryInfo {
        DeliveryInfo {
            context: self.trace_context(),
            message_id: self.message_id(),
            consumer: self.source.consumer(),
            stream_sequence: self.stream_sequence(),
            delivery_count: self.delivery_count(),
        }
    }

    fn message_id(&self) -> Option<String> {
        let id = self.message.headers.as_ref()?.get(NATS_MESSAGE_ID)?;
        Some(id.as_str().to_owned())
    }

    /// Acknowledges the message, which removes it from the queue. Call this only when the job is
    /// final and its webhook or dead letter, if any, has been published.
    ///
    /// Does not wait for the broker. If the acknowledgement is lost, the message is redelivered
    /// once, and the next worker finds the job final. A few acknowledgements are checked later, see
    /// [`crate::acks`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it could not be sent.
    pub async fn acknowledge(&self) -> Result<(), Error> {
        self.reply(AckKind::Ack).await
    }

    /// Returns the message to the queue (nak). The broker redelivers it after `delay`, or
    /// immediately.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it could not be sent.
    pub async fn return_to_queue(&self, delay: Option<Duration>) -> Result<(), Error> {
        self.reply(AckKind::Nak(delay)).await
    }

    /// Sends a keep-alive, so that the ack wait starts again.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it could not be sent.
    pub async fn keep_alive(&self) -> Result<(), Error> {
        self.reply(AckKind::Progress).await
    }

    async fn reply(&self, kind: AckKind) -> Result<(), Error> {
        let span = match (&kind, self.source) {
            (AckKind::Ack, PullSource::Jobs(_)) => spans::begin_settle_span("ack jobs", "jobs"),
            (AckKind::Nak(_), PullSource::Jobs(_)) => spans::begin_settle_span("nak jobs", "jobs"),
            (AckKind::Ack, PullSource::Webhooks) => {
                spans::begin_settle_span("ack webhooks", "webhooks")
            }
            (AckKind::Nak(_), PullSource::Webhooks) => {
                spans::begin_settle_span("nak webhooks", "webhooks")
            }
            (AckKind::Progress | AckKind::Next | AckKind::Term, _) => Span::none(),
        };
        let sending = self.acks.send(&self.message, kind, self.source.queue(), self.ack_wait);
        let sent = sending.instrument(span).await;
        sent.map_err(|error| Error::unavailable("reply to a delivery", error))
    }
}
