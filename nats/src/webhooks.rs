//! The webhook queue, and the delivery state of each webhook in a bucket.
//!
//! Webhooks have a separate work queue, so that an unreachable receiver never delays counting. A
//! message identifies a job and a round. The URL and the content come from the record of the job.

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
use crate::error::{Refusal, classify_publish_error};
use crate::headers::OPERATION_HEADER;
use crate::store::WriteError;
use crate::stream_read::{
    ReadFrom, consumer_info, last_message, not_found_as_none, open_stream, stored_at,
};
use crate::topology::{WEBHOOK_STATE_STREAM, WEBHOOKS, WEBHOOKS_CONSUMER, WEBHOOKS_PREFIX};
use crate::{spans, subject};

/// Lifetime of the tombstone of a removed state.
const WEBHOOK_TOMBSTONE_TTL: std::time::Duration = std::time::Duration::from_secs(60);

/// Payload of a message in the queue.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    /// Version of this format. Versions above [`FORMAT`] are refused.
    format: u32,
    /// Trace of the job, which the spans of the delivery join.
    trace_id: TraceId,
    /// Round of the delivery: 0 for the first, larger for each repeat that a client requests.
    round: u64,
}

/// A webhook to deliver, parsed from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookMessage {
    /// Key of the job.
    pub key: JobKey,
    /// Trace of the job.
    pub trace_id: TraceId,
    /// Round of the delivery, see [`Deliveries`].
    pub round: u64,
}

/// A delivery state and the revision that a change must expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionedDeliveries {
    /// The state; `None` before the first attempt, and after the state was removed.
    pub deliveries: Option<Deliveries>,
    /// Its revision; 0 if it has never been written.
    pub revision: u64,
}

/// Level of the webhook queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Number of webhooks in the queue, due now or later.
    pub waiting: u64,
    /// Number of webhooks in the queue that no worker has received yet.
    pub untried: u64,
    /// Time at which the oldest webhook in the queue was stored; `None` if the queue is empty.
    pub oldest: Option<Timestamp>,
}

/// The webhook queue, and the delivery states.
#[derive(Debug, Clone)]
pub struct Webhooks {
    broker: Broker,
    queue: JetStream<()>,
    states: JetStream<()>,
}

impl WebhookMessage {
    /// Parses a message of the queue.
    ///
    /// # Errors
    /// [`Error::Newer`] for a newer format, [`Error::Corrupt`] if it is not a valid message.
    pub fn parse(delivery: &Delivery) -> Result<Self, Error> {
        const WHAT: &str = "the message of a webhook";
        let corrupt = |reason: String| Error::corrupt(WHAT, reason);
        let message: Payload = parse(WHAT, delivery.payload())?;
        let key = subject::job_of_webhook(delivery.subject());
        let key =
            key.ok_or_else(|| corrupt(format!("{} has no valid job key", delivery.subject())))?;
        Ok(Self { key, trace_id: message.trace_id, round: message.round })
    }
}

impl Webhooks {
    /// Opens the queue and the bucket. Sends no request.
    pub fn open(broker: &Broker) -> Self {
        Self {
            broker: broker.clone(),
            queue: open_stream(broker, WEBHOOKS),
            states: open_stream(broker, WEBHOOK_STATE_STREAM),
        }
    }

    /// Enqueues the webhook of a job, if it has one. Safe to repeat: within the duplicate window
    /// the stream stores one message per `round`, and later the delivery state shows that nothing
    /// remains to be done.
    ///
    /// # Errors
    /// [`Error::Full`] if the queue is full; the message was not stored. [`Error::Unavailable`] if
    /// it may have been stored.
    pub async fn enqueue(&self, job: &Job, round: u64) -> Result<(), Error> {
        const OPERATION: &str = "enqueue a webhook";
        if job.webhook.is_none() {
            return Ok(());
        }
        let key = job.key();
        let message = Payload { format: FORMAT, trace_id: job.trace_id, round };
        let payload =
            serde_json::to_vec(&message).map_err(|error| Error::unavailable(OPERATION, error))?;
        let id = match round {
            0 => key.to_string(),
            round => format!("{key}.{round}"),
        };
        let span = spans::begin_webhook_span(job, &id);
        let mut headers = HeaderMap::new();
        spans::inject(&mut headers, &spans::message_context(&span, job));
        let message =
            PublishMessage::build().headers(headers).payload(payload.into()).message_id(id);
        let sent = send(&self.broker, subject::webhook(&key), message).instrument(span).await;
        sent.map(drop).map_err(|error| match classify_publish_error(&error) {
            Refusal::Full => Error::Full { what: "the webhook queue".to_owned() },
            Refusal::Conflict | Refusal::TooLarge | Refusal::NoResponders | Refusal::Unclear => {
                Error::unavailable(OPERATION, error)
            }
        })
    }

    /// Reads the delivery state of a job's webhook.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Newer`] for a newer format, and [`Error::Corrupt`] if it is
    /// not a state.
    pub async fn get_deliveries(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<VersionedDeliveries, Error> {
        let Some(message) =
            last_message(&self.states, &subject::webhook_state(key), read_from).await?
        else {
            return Ok(VersionedDeliveries { deliveries: None, revision: 0 });
        };
        let revision = message.sequence;
        if message.headers.get(OPERATION_HEADER).is_some() {
            return Ok(VersionedDeliveries { deliveries: None, revision });
        }
        let what = format!("the state of the webhook of {key}");
        let deliveries: Deliveries = parse(&what, &message.payload)?;
        Ok(VersionedDeliveries { deliveries: Some(deliveries), revision })
    }

    /// Writes a delivery state by compare-and-set. `expected` is its current revision.
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
        sending.await.map_err(|error| match classify_publish_error(&error) {
            Refusal::Conflict => WriteError::Conflict,
            Refusal::TooLarge => WriteError::TooLarge,
            Refusal::Full | Refusal::NoResponders | Refusal::Unclear => {
                WriteError::Unclear(error.to_string())
            }
        })
    }

    /// Removes the delivery state of a job's webhook. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the state may remain.
    pub async fn remove(&self, key: &JobKey) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION_HEADER, "PURGE");
        headers.insert(header::NATS_ROLLUP, "sub");
        let message = PublishMessage::build().headers(headers).ttl(WEBHOOK_TOMBSTONE_TTL);
        let sent = send(&self.broker, subject::webhook_state(key), message).await;
        sent.map(drop).map_err(|error| Error::unavailable("remove the state of a webhook", error))
    }

    /// Reads the level of the queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn level(&self) -> Result<Level, Error> {
        const OPERATION: &str = "read the level of the webhook queue";
        let info = self.queue.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let untried = consumer_info(&self.broker, WEBHOOKS, WEBHOOKS_CONSUMER).await?.num_pending;
        let mut level = Level { waiting: info.state.messages, untried, oldest: None };
        if level.waiting > 0 {
            // Acknowledged messages are removed, so the first message is the oldest one.
            let subjects = format!("{WEBHOOKS_PREFIX}.>");
            let first = self.queue.direct_get_next_for_subject(subjects, Some(1)).await;
            level.oldest = not_found_as_none(first)?.as_ref().map(stored_at);
        }
        Ok(level)
    }
}

/// Parses a message or a state, unless its format is newer.
fn parse<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct FormatField {
        format: u64,
    }
    let FormatField { format } =
        serde_json::from_slice(json).map_err(|error| Error::corrupt(what, error))?;
    if format > FORMAT.into() {
        let reason =
            format!("it has format {format}, and this version supports formats up to {FORMAT}");
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
