//! Jobs go in.

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
use wordmill_common::trace_context::TraceParent;

use crate::Error;
use crate::connect::Broker;
use crate::error::{Refusal, refusal};
use crate::stream_read::{ReadFrom, consumer, info, last, not_found_as_none, open, stored_at};
use crate::topology::{JOBS, JOBS_PREFIX};
use crate::{spans, subject};

/// The work queue, as those see it who put jobs in.
#[derive(Debug, Clone)]
pub struct Queue {
    broker: Broker,
    stream: JetStream<()>,
}

/// A job ready to be sent; every try sends the same bytes.
#[derive(Debug, Clone)]
pub struct Envelope {
    subject: async_nats::Subject,
    message_id: String,
    headers: HeaderMap,
    payload: Bytes,
}

/// What the queue did with a job that it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishAck {
    /// It stored the message.
    Stored,
    /// It has seen the message's id within the duplicate window and stored nothing. As a rule the
    /// earlier message is still there; it need not be.
    Duplicate,
}

/// How full the queue is, and how full it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level {
    /// Jobs that wait or are being worked on.
    pub messages: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
    /// Most jobs; `None` without a bound.
    pub messages_max: Option<u64>,
    /// Most bytes; `None` without a bound.
    pub bytes_max: Option<u64>,
    /// How many jobs were ever put in.
    pub published: u64,
}

/// How a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLevel {
    /// Jobs that nobody has been given yet.
    pub waiting: u64,
    /// Jobs that were handed out and are not done: a worker has them, they wait for a retry, or
    /// their worker went away.
    pub in_flight: u64,
    /// Those of them that were handed out more than once.
    pub redelivered: u64,
    /// When the oldest job that is not done was put in; none if there is no job.
    pub oldest: Option<Timestamp>,
}

/// Why the queue did not confirm a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It is full: certainly not stored.
    #[error("the queue is full")]
    Full,
    /// The job is too large for a message: certainly not stored.
    #[error("the job is too large for a message")]
    TooLarge,
    /// There is no queue: certainly not stored.
    #[error("the queue does not answer")]
    NoQueue,
    /// No answer that decides: it may have been stored.
    #[error("the queue did not confirm the job: {0}")]
    Unclear(String),
}

impl PublishError {
    /// Returns the reason as spans name it.
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
    /// Writes a job as a message. Its id names the owner, too: two owners may have named their jobs
    /// alike, and the stream must not take one for the other.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the job cannot be written as JSON, which no valid job can cause.
    pub fn seal(message: &JobMessage, trace: &TraceParent) -> Result<Self, Error> {
        let payload = serde_json::to_vec(message)
            .map_err(|error| Error::corrupt(format!("job {}", message.job_id), error))?;
        let mut headers = HeaderMap::new();
        spans::inject(&mut headers, trace);
        Ok(Self {
            subject: subject::job(message.lane, &message.key()),
            message_id: message.key().to_string(),
            headers,
            payload: payload.into(),
        })
    }

    /// Returns the same job under the message id `<owner>.<job id>.again`.
    ///
    /// For a job whose message is certainly gone while the stream still remembers its id, and would
    /// swallow it. Whoever finds that sends the same id, whatever happens to the record meanwhile.
    #[must_use]
    pub fn with_second_message_id(&self) -> Self {
        Self { message_id: format!("{}.again", self.message_id), ..self.clone() }
    }
}

impl Queue {
    /// Opens the queue; asks the broker nothing.
    pub fn open(broker: &Broker) -> Self {
        Self { broker: broker.clone(), stream: open(broker, JOBS) }
    }

    /// Puts a job in. `Ok` means that the stream has it, or had it a moment ago.
    ///
    /// It may be repeated: within the duplicate window the stream keeps one message per job.
    ///
    /// # Errors
    /// See [`PublishError`], which tells a definite no from an unclear one.
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
                let sequence = spans::signed(acknowledgement.sequence);
                Span::current().record("messaging.nats.stream.sequence", sequence);
                Ok(PublishAck::Stored)
            }
            Err(error) => Err(publish_error(&error)),
        }
    }

    /// Asks how full the queue is.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn level(&self) -> Result<Level, Error> {
        let info = self.stream.get_info().await;
        let info = info.map_err(|error| Error::unavailable("ask how full the queue is", error))?;
        // The server writes -1, or 0, for no bound.
        let bound = |max: i64| u64::try_from(max).ok().filter(|max| *max > 0);
        Ok(Level {
            messages: info.state.messages,
            bytes: info.state.bytes,
            messages_max: bound(info.config.max_messages),
            bytes_max: bound(info.config.max_bytes),
            published: info.state.last_sequence,
        })
    }

    /// Counts the jobs of an owner that wait or are being worked on.
    ///
    /// The broker goes through these jobs, about 1.5 µs each, and through no others.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn unfinished(&self, owner: &Owner) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct UnfinishedCount {
            #[serde(default)]
            total: u64,
        }
        // Subjects are listed from here on: none are, only their number is told.
        let beyond = u32::MAX;
        let request = json!({"subjects_filter": subject::jobs_of(owner), "offset": beyond});
        let answer = self.broker.jetstream.request(format!("STREAM.INFO.{JOBS}"), &request).await;
        const OPERATION: &str = "count the jobs of an owner";
        match answer.map_err(|error| Error::unavailable(OPERATION, error))? {
            Response::Ok(UnfinishedCount { total }) => Ok(total),
            Response::Err { error } => Err(Error::unavailable(OPERATION, error)),
        }
    }

    /// Asks how a lane stands: two requests, the second one only if there is a job.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn lane_level(&self, lane: Lane) -> Result<LaneLevel, Error> {
        let info = consumer(&self.broker, JOBS, lane.as_str()).await?;
        let count = |number| u64::try_from(number).unwrap_or(u64::MAX);
        let in_flight = count(info.num_ack_pending);
        let mut level = LaneLevel {
            waiting: info.num_pending,
            in_flight,
            redelivered: count(info.num_redelivered),
            oldest: None,
        };
        if level.waiting + in_flight > 0 {
            // Messages go when they are acknowledged, so the first one is the oldest unfinished job.
            let subjects = format!("{JOBS_PREFIX}.{lane}.>");
            let first = self.stream.direct_get_next_for_subject(subjects, Some(1)).await;
            level.oldest = not_found_as_none(first)?.as_ref().map(stored_at);
        }
        Ok(level)
    }

    /// Returns the time of the queue's leader.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        Ok(info(&self.broker, JOBS).await?.ts)
    }

    /// Looks for a job that waits or is being worked on.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Newer`] for a message of a newer format, and
    /// [`Error::Corrupt`] if it is not the message of a job.
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

    /// Tells whether the queue has a message of a job, readable or not.
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
            let message = last(&self.stream, &subject::job(lane, key), read_from).await?;
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }
}

fn publish_error(error: &context::PublishError) -> PublishError {
    match refusal(error) {
        Refusal::Full => PublishError::Full,
        Refusal::TooLarge => PublishError::TooLarge,
        Refusal::NoResponders => PublishError::NoQueue,
        Refusal::Conflict | Refusal::Unclear => PublishError::Unclear(error.to_string()),
    }
}
