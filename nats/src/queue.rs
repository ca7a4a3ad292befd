//! Publishes jobs to the work queue, and reads its level.

use async_nats::HeaderMap;
use async_nats::jetstream::context;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::Stream as JetStream;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use tracing::Span;
use wordmill_common::id::{JobKey, Lane, Owner};
use wordmill_common::message::{JobMessage, ParsedMessage};

use crate::Error;
use crate::connect::Broker;
use crate::error::{Refusal, classify_publish_error};
use crate::spans::PublishSpan;
use crate::stream_read::{
    ReadFrom, consumer_info, last_message, not_found_as_none, open_stream, stored_at, stream_info,
};
use crate::topology::{JOBS, JOBS_PREFIX};
use crate::{spans, subject};

/// The work queue from the side of the publisher.
#[derive(Debug, Clone)]
pub struct Queue {
    broker: Broker,
    stream: JetStream<()>,
}

/// A serialized job, ready to be published. Every try sends the same bytes.
#[derive(Debug, Clone)]
pub struct Envelope {
    subject: async_nats::Subject,
    message_id: String,
    headers: HeaderMap,
    payload: Bytes,
}

/// Response of the queue to a published job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishAck {
    /// The message was stored.
    Stored,
    /// The queue has already received this message id within the duplicate window, and stored
    /// nothing new. The earlier message is usually still in the queue, but may be gone.
    Duplicate,
}

/// Level of the queue and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Number of jobs, waiting or in flight.
    pub messages: u64,
    /// Total size of these jobs as stored, in bytes.
    pub bytes: u64,
    /// Limit of `messages`; `None` if unlimited.
    pub messages_max: Option<u64>,
    /// Limit of `bytes`; `None` if unlimited.
    pub bytes_max: Option<u64>,
    /// Number of jobs that were ever published: the last sequence number of the stream.
    pub published: u64,
}

/// Level of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLevel {
    /// Number of jobs that have not been delivered yet.
    pub waiting: u64,
    /// Number of jobs that were delivered and not acknowledged: they are running, wait for their
    /// next attempt, or were lost with their worker.
    pub in_flight: u64,
    /// Number of jobs in flight that were delivered more than once.
    pub redelivered: u64,
    /// Time at which the oldest unfinished job was stored; `None` if the lane is empty.
    pub oldest: Option<Timestamp>,
}

/// Reason why the queue did not confirm a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is full. The job was not stored.
    #[error("the queue is full")]
    Full,
    /// The job exceeds the maximum message size. It was not stored.
    #[error("the job exceeds the maximum message size of the broker")]
    TooLarge,
    /// The stream does not exist or has no leader. The job was not stored.
    #[error("the queue does not exist or has no leader")]
    NoQueue,
    /// No definite answer. The job may have been stored.
    #[error("the broker did not confirm the job: {0}")]
    Unclear(String),
}

impl PublishError {
    /// Returns the name of the reason, as spans record it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::TooLarge => "too_large",
            Self::NoQueue => "no_queue",
            Self::Unclear(_) => "unconfirmed",
        }
    }
}

impl Envelope {
    /// Serializes a job into a message, and records the message id in the span. It contains the
    /// owner, because two owners may have jobs with the same id, and the stream must not
    /// deduplicate one against the other.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the job cannot be serialized, which does not happen for a valid job.
    pub fn serialize(message: &JobMessage, publish_span: &PublishSpan) -> Result<Self, Error> {
        Self::serialize_with(message, publish_span, message.key().to_string())
    }

    /// Serializes a job with the message id `<owner>.<job id>.again`.
    ///
    /// For a job whose message is definitely gone, while the stream would still deduplicate its
    /// first id. Every request that detects this uses the same second id, so the stream stores only
    /// one of their messages, even if the record changes meanwhile.
    ///
    /// # Errors
    /// See [`Envelope::serialize`].
    pub fn serialize_with_second_id(
        message: &JobMessage,
        publish_span: &PublishSpan,
    ) -> Result<Self, Error> {
        Self::serialize_with(message, publish_span, format!("{}.again", message.key()))
    }

    fn serialize_with(
        message: &JobMessage,
        publish_span: &PublishSpan,
        message_id: String,
    ) -> Result<Self, Error> {
        publish_span.span.record("messaging.message.id", &message_id);
        let payload = serde_json::to_vec(message)
            .map_err(|error| Error::corrupt(format!("job {}", message.job_id), error))?;
        let mut headers = HeaderMap::new();
        spans::inject(&mut headers, &publish_span.context);
        Ok(Self {
            subject: subject::job(message.lane, &message.key()),
            message_id,
            headers,
            payload: payload.into(),
        })
    }
}

impl Queue {
    /// Opens the queue. Sends no request.
    pub fn open(broker: &Broker) -> Self {
        Self { broker: broker.clone(), stream: open_stream(broker, JOBS) }
    }

    /// Publishes a job. `Ok` means that the queue has stored the message, or had stored it within
    /// the duplicate window.
    ///
    /// Safe to repeat: within that window the stream stores one message per job.
    ///
    /// # Errors
    /// See [`PublishError`], which separates definite refusals from unclear outcomes.
    pub async fn publish(&self, envelope: &Envelope) -> Result<PublishAck, PublishError> {
        let message = PublishMessage::build()
            .headers(envelope.headers.clone())
            .payload(envelope.payload.clone())
            .message_id(&envelope.message_id);
        let sent = self.broker.jetstream.send_publish(envelope.subject.clone(), message).await;
        let acknowledged = match sent {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        match acknowledged {
            Ok(acknowledgement) if acknowledgement.duplicate => Ok(PublishAck::Duplicate),
            Ok(acknowledgement) => {
                let sequence = spans::to_i64(acknowledgement.sequence);
                Span::current().record("messaging.nats.stream.sequence", sequence);
                Ok(PublishAck::Stored)
            }
            Err(error) => Err(to_publish_error(&error)),
        }
    }

    /// Reads the level of the queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn level(&self) -> Result<Level, Error> {
        let info = self.stream.get_info().await;
        let info =
            info.map_err(|error| Error::unavailable("read the level of the queue", error))?;
        // The server reports -1 or 0 for no limit.
        let bound = |max: i64| u64::try_from(max).ok().filter(|max| *max > 0);
        Ok(Level {
            messages: info.state.messages,
            bytes: info.state.bytes,
            messages_max: bound(info.config.max_messages),
            bytes_max: bound(info.config.max_bytes),
            published: info.state.last_sequence,
        })
    }

    /// Counts the unfinished jobs of an owner.
    ///
    /// The broker visits only the subjects of these jobs, at about 1.5 µs each.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn count_unfinished(&self, owner: &Owner) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct UnfinishedCount {
            #[serde(default)]
            total: u64,
        }
        // An offset beyond all subjects: the response contains their number, but lists none of
        // them.
        let beyond = u32::MAX;
        let request = json!({"subjects_filter": subject::jobs_of(owner), "offset": beyond});
        let answer = self.broker.jetstream.request(format!("STREAM.INFO.{JOBS}"), &request).await;
        const OPERATION: &str = "count the jobs of an owner";
        match answer.map_err(|error| Error::unavailable(OPERATION, error))? {
            Response::Ok(UnfinishedCount { total }) => Ok(total),
            Response::Err { error } => Err(Error::unavailable(OPERATION, error)),
        }
    }

    /// Reads the level of a lane. Sends two requests, or one if the lane is empty.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn lane_level(&self, lane: Lane) -> Result<LaneLevel, Error> {
        let info = consumer_info(&self.broker, JOBS, lane.as_str()).await?;
        let count = |number| u64::try_from(number).unwrap_or(u64::MAX);
        let in_flight = count(info.num_ack_pending);
        let mut level = LaneLevel {
            waiting: info.num_pending,
            in_flight,
            redelivered: count(info.num_redelivered),
            oldest: None,
        };
        if level.waiting + in_flight > 0 {
            // Acknowledged messages are removed, so the first message is the oldest unfinished job.
            let subjects = format!("{JOBS_PREFIX}.{lane}.>");
            let first = self.stream.direct_get_next_for_subject(subjects, Some(1)).await;
            level.oldest = not_found_as_none(first)?.as_ref().map(stored_at);
        }
        Ok(level)
    }

    /// Returns the current time of the queue's leader.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(stream_info(&self.broker, JOBS).await?.ts)
    }

    /// Returns the message of an unfinished job; `None` if it is not in the queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Newer`] for a message of a newer format, and
    /// [`Error::Corrupt`] if the message is not a job.
    pub async fn find(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<Option<ParsedMessage>, Error> {
        let Some(message) = self.message(key, read_from).await? else { return Ok(None) };
        let message = ParsedMessage::parse(&message.payload);
        let what = || format!("the message of {key}");
        message.map(Some).map_err(|error| Error::message(what(), &error))
    }

    /// Returns whether the queue contains a message of a job, even one that cannot be parsed.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn has_message(&self, key: &JobKey, read_from: ReadFrom) -> Result<bool, Error> {
        Ok(self.message(key, read_from).await?.is_some())
    }

    async fn message(
        &self,
        key: &JobKey,
        read_from: ReadFrom,
    ) -> Result<Option<StreamMessage>, Error> {
        for lane in Lane::ALL {
            let message = last_message(&self.stream, &subject::job(lane, key), read_from).await?;
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }
}

fn to_publish_error(error: &context::PublishError) -> PublishError {
    match classify_publish_error(error) {
        Refusal::Full => PublishError::Full,
        Refusal::TooLarge => PublishError::TooLarge,
        Refusal::NoResponders => PublishError::NoQueue,
        Refusal::Conflict | Refusal::Unclear => PublishError::Unclear(error.to_string()),
    }
}
