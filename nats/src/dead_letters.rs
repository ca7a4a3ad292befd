//! Dead letters: the messages of jobs that used up all attempts, and messages that cannot be read.
//! Workers store them with [`DeadLetters`]; [`Archive`] reads and removes them.

mod archive;

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use tracing::Instrument;
use wordmill_common::failure::Failure;
use wordmill_common::job::Job;

use crate::Error;
use crate::connect::Broker;
use crate::delivery::Delivery;
use crate::{spans, subject};

pub use self::archive::{
    Archive, ChangeMarker, DeadLetter, DeadLetterId, DeadLetterPage, Filter, InvalidDeadLetterId,
};

/// Header with the code of the failure.
const FAILURE_CODE_HEADER: &str = "Wordmill-Failure-Code";
/// Header with the description of the failure.
const FAILURE_DETAIL_HEADER: &str = "Wordmill-Failure-Detail";
/// Header with the number of attempts.
const ATTEMPTS_HEADER: &str = "Wordmill-Attempts";

/// The stream of dead letters, for workers to publish to.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    broker: Broker,
}

impl DeadLetters {
    /// Opens the stream. Sends no request.
    #[must_use]
    pub fn open(broker: &Broker) -> Self {
        Self { broker: broker.clone() }
    }

    /// Stores the message of a job that used up all attempts. Safe to repeat: the stream keeps one
    /// dead letter per job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] unless the stream has confirmed the message.
    pub async fn store(&self, job: &Job, delivery: &Delivery) -> Result<(), Error> {
        let internal;
        let failure = match &job.failure {
            Some(failure) => failure,
            None => {
                internal = Failure::new(
                    wordmill_common::failure::FailureCode::Internal,
                    "The record contains no failure.",
                );
                &internal
            }
        };
        let mut headers = describe(failure);
        headers.insert(ATTEMPTS_HEADER, job.attempts.len().to_string());
        let subject = subject::dead_letter(job.lane, &job.key());
        self.publish(Some(job), subject, &job.key().to_string(), headers, delivery).await
    }

    /// Stores a message that cannot be read as a job.
    ///
    /// # Errors
    /// [`Error::Unavailable`] unless the stream has confirmed the message.
    pub async fn store_unreadable(
        &self,
        failure: &Failure,
        delivery: &Delivery,
    ) -> Result<(), Error> {
        let sequence = delivery.stream_sequence();
        let subject = subject::dead_unreadable(delivery.lane().unwrap_or_default(), sequence);
        let id = format!("unreadable.{sequence}");
        self.publish(None, subject, &id, describe(failure), delivery).await
    }

    async fn publish(
        &self,
        job: Option<&Job>,
        subject: async_nats::Subject,
        message_id: &str,
        mut headers: HeaderMap,
        delivery: &Delivery,
    ) -> Result<(), Error> {
        const OPERATION: &str = "store a dead letter";
        let (span, context) =
            spans::begin_dead_letter_span(job, message_id, delivery.trace_context());
        if let Some(context) = context {
            spans::inject(&mut headers, &context);
        }
        let message = PublishMessage::build()
            .headers(headers)
            .payload(delivery.payload().clone())
            .message_id(message_id);
        let publish = async {
            let sent = self.broker.jetstream.send_publish(subject, message).await?;
            sent.await.map(drop)
        };
        publish.instrument(span).await.map_err(|error| Error::unavailable(OPERATION, error))
    }
}

fn describe(failure: &Failure) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(FAILURE_CODE_HEADER, failure.code.as_str());
    // A line break would end the header.
    let detail: String =
        failure.detail.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    headers.insert(FAILURE_DETAIL_HEADER, detail);
    headers
}
