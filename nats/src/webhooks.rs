//! Webhooks that are to be delivered: a work queue of their own, so that a dead receiver never delays
//! counting, and the state of each in a bucket.
//!
//! A message says only which job is to be told of; the record says what, and where to.

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream as JetStream;
use async_nats::{HeaderMap, header};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::Instrument;
use wordmill_common::id::JobKey;
use wordmill_common::job::Job;
use wordmill_common::trace_context::TraceId;
use wordmill_common::webhook::{Deliveries, FORMAT};

use crate::Error;
use crate::connect::Broker;
use crate::delivery::Delivery;
use crate::error::{Refusal, refusal};
use crate::headers::OPERATION_HEADER;
use crate::store::WriteError;
use crate::stream_read::{ReadFrom, consumer, last, not_found_as_none, open, stored_at};
use crate::topology::{WEBHOOK_STATE_STREAM, WEBHOOKS, WEBHOOKS_CONSUMER, WEBHOOKS_PREFIX};
use crate::{spans, subject};

/// How long the marker of a removed state stays.
const WEBHOOK_TOMBSTONE_TTL: std::time::Duration = std::time::Duration::from_secs(60);

/// What a message says.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    format: u32,
    trace_id: TraceId,
    round: u64,
}

/// A job that is to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which job.
    pub key: JobKey,
    /// Its trace.
    pub trace_id: TraceId,
    /// Which sending this is, see [`Deliveries`].
    pub round: u64,
}

/// A state and the revision that a change of it has to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedDeliveries {
    /// The state; none if nothing was ever tried.
    pub deliveries: Option<Deliveries>,
    /// Its revision; 0 if it has never been written.
    pub revision: u64,
}

/// How many webhooks wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Those that are to be delivered, now or later.
    pub waiting: u64,
    /// Those that no worker has been given yet.
    pub untried: u64,
    /// When the oldest of them all was put in.
    pub oldest: Option<Timestamp>,
}

/// The webhooks.
#[derive(Debug, Clone)]
pub struct Webhooks {
    broker: Broker,
    queue: JetStream<()>,
    states: JetStream<()>,
}

impl Order {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Error::Newer`] for a newer format, [`Error::Corrupt`] if it is not an order.
    pub fn parse(delivery: &Delivery) -> Result<Self, Error> {
        const OPERATION: &str = "a webhook's message";
        let corrupt = |reason: String| Error::corrupt(OPERATION, reason);
        let message: Message = read(OPERATION, delivery.payload())?;
        let key = subject::job_of_webhook(delivery.subject());
        let key = key.ok_or_else(|| corrupt(format!("{} names no job", delivery.subject())))?;
        Ok(Self { key, trace_id: message.trace_id, round: message.round })
    }
}

impl Webhooks {
    /// Opens the webhooks; asks the broker nothing.
    pub fn open(broker: &Broker) -> Self {
        Self {
            broker: broker.clone(),
            queue: open(broker, WEBHOOKS),
            states: open(broker, WEBHOOK_STATE_STREAM),
        }
    }

    /// Orders the webhook of a job that is final, if it has one. It may be repeated: within the
    /// duplicate window the stream keeps one message for each `round`, and after it the state tells
    /// that there is nothing more to do.
    ///
    /// # Errors
    /// [`Error::Full`] if there is certainly no room, [`Error::Unavailable`] if nobody knows.
    pub async fn order(&self, job: &Job, round: u64) -> Result<(), Error> {
        const OPERATION: &str = "order a webhook";
        if job.webhook.is_none() {
            return Ok(());
        }
        let key = job.key();
        let message = Message { format: FORMAT, trace_id: job.trace_id, round };
        let payload =
            serde_json::to_vec(&message).map_err(|error| Error::unavailable(OPERATION, error))?;
        let span = spans::begin_webhook_span(job);
        let mut headers = HeaderMap::new();
        spans::inject(&mut headers, &spans::message_context(&span, job));
        let id = match round {
            0 => key.to_string(),
            round => format!("{key}.{round}"),
        };
        let message =
            PublishMessage::build().headers(headers).payload(payload.into()).message_id(id);
        let sent = send(&self.broker, subject::webhook(&key), message).instrument(span).await;
        sent.map(drop).map_err(|error| match refusal(&error) {
            Refusal::Full => Error::Full { what: "the queue of webhooks".to_owned() },
            Refusal::Conflict | Refusal::TooLarge | Refusal::NoResponders | Refusal::Unclear => {
                Error::unavailable(OPERATION, error)
            }
        })
    }

    /// Reads the state of a job's webhook.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Newer`] for a newer format, and [`Error::Corrupt`] if it is
    /// not a state.
    pub async fn get_deliveries(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<VersionedDeliveries, Error> {
        let Some(message) = last(&self.states, &subject::webhook_state(key), read_from).await?
        else {
            return Ok(VersionedDeliveries { deliveries: None, revision: 0 });
        };
        let revision = message.sequence;
        if message.headers.get(OPERATION_HEADER).is_some() {
            return Ok(VersionedDeliveries { deliveries: None, revision });
        }
        let what = format!("the state of the webhook of {key}");
        let deliveries: Deliveries = read(&what, &message.payload)?;
        Ok(VersionedDeliveries { deliveries: Some(deliveries), revision })
    }

    /// Writes a state that is still at the revision `expected`.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write(
        &self,
        key: &JobKey,
        deliveries: &Deliveries,
        expected: u64,
    ) -> Result<u64, WriteError> {
        let payload =
            serde_json::to_vec(deliveries).map_err(|e| WriteError::Unclear(e.to_string()))?;
        let message = PublishMessage::build()
            .payload(payload.into())
            .expected_last_subject_sequence(expected);
        let sending = send(&self.broker, subject::webhook_state(key), message)
            .instrument(spans::begin_put_span("put webhook_state"));
        sending.await.map_err(|error| match refusal(&error) {
            Refusal::Conflict => WriteError::Conflict,
            Refusal::TooLarge => WriteError::TooLarge,
            Refusal::Full | Refusal::NoResponders | Refusal::Unclear => {
                WriteError::Unclear(error.to_string())
            }
        })
    }

    /// Removes the state of a job's webhook. It may be repeated.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: it may be there still.
    pub async fn remove(&self, key: &JobKey) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION_HEADER, "PURGE");
        headers.insert(header::NATS_ROLLUP, "sub");
        let message = PublishMessage::build().headers(headers).ttl(WEBHOOK_TOMBSTONE_TTL);
        let sent = send(&self.broker, subject::webhook_state(key), message).await;
        sent.map(drop).map_err(|error| Error::unavailable("remove a webhook's state", error))
    }

    /// Asks how many webhooks wait, and since when.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn level(&self) -> Result<Level, Error> {
        const OPERATION: &str = "ask how many webhooks wait";
        let info = self.queue.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let untried = consumer(&self.broker, WEBHOOKS, WEBHOOKS_CONSUMER).await?.num_pending;
        let mut level = Level { waiting: info.state.messages, untried, oldest: None };
        if level.waiting > 0 {
            // Messages go when they are acknowledged, so the first one is the oldest.
            let subjects = format!("{WEBHOOKS_PREFIX}.>");
            let first = self.queue.direct_get_next_for_subject(subjects, Some(1)).await;
            level.oldest = not_found_as_none(first)?.as_ref().map(stored_at);
        }
        Ok(level)
    }
}

/// Reads a message or a state unless it has a newer format.
fn read<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u64,
    }
    let Versioned { format } =
        serde_json::from_slice(json).map_err(|error| Error::corrupt(what, error))?;
    if format > FORMAT.into() {
        let reason = format!("it has format {format}, and this version knows only {FORMAT}");
        return Err(Error::newer_format(what, reason));
    }
    serde_json::from_slice(json).map_err(|error| Error::corrupt(what, error))
}

async fn send(
    broker: &Broker,
    subject: async_nats::Subject,
    message: PublishMessage,
) -> Result<u64, PublishError> {
    let sent = broker.jetstream.send_publish(subject, message).await?;
    Ok(sent.await?.sequence)
}
