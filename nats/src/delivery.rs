//! One delivery of a message, and the replies to it.

use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use bytes::Bytes;
use tracing::{Instrument, Span};
use wordmill_common::id::Lane;
use wordmill_common::trace_context::TraceParent;

use crate::acks::{AckMonitor, QueueKind};
use crate::spans::DeliveryInfo;
use crate::topology::WEBHOOKS_CONSUMER;
use crate::{Error, spans};

/// What deliveries are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullSource {
    /// A lane of the work queue.
    Jobs(Lane),
    /// The webhooks.
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

/// One hand-over of a message. Dropped without a word, it comes again after the
/// acknowledgement wait.
#[derive(Debug)]
pub struct Delivery {
    pub(crate) message: jetstream::Message,
    pub(crate) source: PullSource,
    pub(crate) ack_wait: Duration,
    pub(crate) acks: AckMonitor,
}

impl Delivery {
    /// Returns the message's bytes.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Returns the queue it came from.
    #[must_use]
    pub fn queue(&self) -> QueueKind {
        self.source.queue()
    }

    /// Returns the lane it came from, if it is a job.
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

    /// Returns how long the server waits for a sign of life before it delivers again.
    #[must_use]
    pub fn ack_wait(&self) -> Duration {
        self.ack_wait
    }

    /// Returns the trace context that the message carries, if it is one.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        spans::extract(self.message.headers.as_ref()?)
    }

    /// Tells how often the message has been handed over, this time included; 1 is the first.
    ///
    /// Shutdowns, pauses and lost acknowledgements raise it: it is no count of attempts.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.message.info().ok().and_then(|info| u64::try_from(info.delivered).ok()).unwrap_or(2)
    }

    /// Returns the message's place in the stream.
    #[must_use]
    pub fn stream_sequence(&self) -> u64 {
        self.message.info().map_or(0, |info| info.stream_sequence)
    }

    /// Returns the attributes of the delivery's span.
    #[must_use]
    pub fn info(&self) -> DeliveryInfo {
        DeliveryInfo {
            traceparent: self.traceparent(),
            stream_sequence: self.stream_sequence(),
            delivered: self.delivered(),
        }
    }

    /// Removes the message from the queue: the job is final and all that follows is published.
    ///
    /// It does not wait: a lost acknowledgement costs one more delivery, which finds the job final.
    /// A few are checked later, see [`crate::acks`].
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it could not even be sent.
    pub async fn acknowledge(&self) -> Result<(), Error> {
        self.reply(AckKind::Ack).await
    }

    /// Gives the message back, to be delivered again after `delay`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it could not even be sent.
    pub async fn give_back(&self, delay: Option<Duration>) -> Result<(), Error> {
        self.reply(AckKind::Nak(delay)).await
    }

    /// Tells the server that the job advances, so that it waits on.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it could not even be sent.
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
        sent.map_err(|error| Error::unavailable("answer a delivery", error))
    }
}
