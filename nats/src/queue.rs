//! Jobs go in.

use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Stream as JetStream;
use bytes::Bytes;
use wordmill_common::id::{JobKey, Lane};
use wordmill_common::message::JobMessage;
use wordmill_common::trace::TraceParent;

use crate::Error;
use crate::connect::Broker;
use crate::error::{Refusal, refusal};
use crate::read::{Freshness, last, open};
use crate::subject;
use crate::topology::JOBS;

/// Header with the W3C trace context.
pub(crate) const TRACEPARENT: &str = "traceparent";

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

/// Why the queue did not confirm a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
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

impl Envelope {
    /// Writes a job as a message.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the job cannot be written as JSON, which no valid job can cause.
    pub fn seal(message: &JobMessage, trace: &TraceParent) -> Result<Self, Error> {
        let payload = serde_json::to_vec(message)
            .map_err(|error| Error::corrupt(format!("job {}", message.job_id), error))?;
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, trace.to_string());
        Ok(Self {
            subject: subject::job(message.lane, &message.key()),
            message_id: message.job_id.to_string(),
            headers,
            payload: payload.into(),
        })
    }
}

impl Queue {
    /// Opens the queue; asks the broker nothing.
    ///
    /// # Errors
    /// None in practice: the stream's name is valid.
    pub async fn open(broker: &Broker) -> Result<Self, Error> {
        let stream = open(broker, JOBS).await?;
        Ok(Self { broker: broker.clone(), stream })
    }

    /// Puts a job in. `Ok` means that the stream has it.
    ///
    /// It may be repeated: within the duplicate window the stream keeps one message per job.
    ///
    /// # Errors
    /// See [`Refused`], which tells a definite no from an unclear one.
    pub async fn publish(&self, envelope: &Envelope) -> Result<(), Refused> {
        let message = PublishMessage::build()
            .headers(envelope.headers.clone())
            .payload(envelope.payload.clone())
            .message_id(&envelope.message_id);
        let sent = self.broker.jetstream.send_publish(envelope.subject.clone(), message).await;
        let acknowledged = match sent {
            Ok(acknowledgement) => acknowledgement.await,
            Err(error) => Err(error),
        };
        acknowledged.map(drop).map_err(|error| refused(&error))
    }

    /// Looks for a job that waits or is being worked on.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no job.
    pub async fn find(
        &self,
        key: &JobKey,
        freshness: Freshness,
    ) -> Result<Option<JobMessage>, Error> {
        for lane in Lane::ALL {
            let found = last(&self.stream, &subject::job(lane, key), freshness).await?;
            if let Some(message) = found {
                let job = JobMessage::parse(&message.payload);
                let corrupt = |error| Error::corrupt(format!("the message of {key}"), error);
                return job.map(Some).map_err(corrupt);
            }
        }
        Ok(None)
    }
}

fn refused(error: &PublishError) -> Refused {
    match refusal(error) {
        Refusal::Full => Refused::Full,
        Refusal::TooLarge => Refused::TooLarge,
        Refusal::NoResponders => Refused::NoQueue,
        Refusal::Conflict | Refusal::Unclear => Refused::Unclear(error.to_string()),
    }
}
