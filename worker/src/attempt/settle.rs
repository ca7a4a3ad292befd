//! Settles a delivery: acknowledges it, returns it to the queue, or stores a dead letter, depending
//! on the record.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, error, info, warn};
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::job::{Job, Status};
use wordmill_common::message;
use wordmill_nats::Error;
use wordmill_nats::delivery::Delivery;
use wordmill_nats::store::Outcome;

use crate::metrics::NewerPart;
use crate::{Worker, result_storage, spans};

/// Delay of the message of a final job while the webhook queue is full.
const WEBHOOKS_FULL_DELAY: Duration = Duration::from_secs(15);

/// Delay of a message that only a newer version can handle.
pub(crate) const NEWER_DELAY: Duration = Duration::from_secs(30);

/// Settles a message that cannot be parsed: returns it to the queue if a newer version wrote it,
/// otherwise moves it to the dead letters.
pub(super) async fn handle_unparsable(
    worker: &Worker,
    delivery: &Delivery,
    error: &message::Error,
) {
    let part = match error {
        message::Error::Malformed(_) => {
            return dead_letter_unreadable(worker, delivery, &error.to_string()).await;
        }
        message::Error::Newer(_) => NewerPart::Format,
        message::Error::Unknown(unknown) => NewerPart::Job(unknown.part),
    };
    return_newer_to_queue(worker, delivery, part, error).await;
}

/// Returns to the queue a message that only a newer version can handle.
pub(super) async fn return_newer_to_queue(
    worker: &Worker,
    delivery: &Delivery,
    part: NewerPart,
    reason: &(dyn fmt::Display + Sync),
) {
    report_newer_message(worker, delivery, part, reason);
    if let Err(error) = delivery.return_to_queue(Some(NEWER_DELAY)).await {
        warn!(%error, "cannot delay a message; the broker redelivers it after the ack wait");
    }
}

/// Counts and logs a message that only a newer version can handle.
pub(crate) fn report_newer_message(
    worker: &Worker,
    delivery: &Delivery,
    part: NewerPart,
    reason: &(dyn fmt::Display + Sync),
) {
    worker.metrics.count_newer_message(delivery, part);
    let stream_sequence = delivery.stream_sequence();
    let part = part.as_str();
    // The message is redelivered every `NEWER_DELAY`, so only the first delivery is a warning.
    if delivery.delivery_count() > 1 {
        debug!(stream_sequence, part, %reason, "a message still needs a newer worker");
        return;
    }
    warn!(
        stream_sequence,
        part, %reason, "a message needs a newer worker; returning it to the queue"
    );
}

/// Settles a delivery according to the outcome of a write to its job's record.
pub(super) async fn settle(
    worker: &Worker,
    delivery: &Delivery,
    outcome: Outcome,
) -> Result<(), Error> {
    worker.metrics.record_outcome(delivery, &outcome);
    match outcome {
        Outcome::Applied(stored) | Outcome::Refused(stored, _) if stored.job.status.is_final() => {
            settle_final(worker, delivery, &stored.job).await
        }
        // Delay the message until the next attempt is due. A job that was returned to the queue has
        // no due time, and is redelivered immediately.
        Outcome::Applied(stored) if stored.job.status == Status::Queued => {
            spans::record_state(&stored.job);
            delivery.return_to_queue(until_due(&stored.job)).await
        }
        // Another run owns the job. That run settles its own delivery.
        Outcome::Applied(_) | Outcome::Refused(..) => {
            debug!("another run owns the job; dropping this delivery");
            Ok(())
        }
        Outcome::Gone => delivery.acknowledge().await,
    }
}

/// Publishes the consequences of a final record, then acknowledges the message.
pub(super) async fn settle_final(
    worker: &Worker,
    delivery: &Delivery,
    job: &Job,
) -> Result<(), Error> {
    spans::record_state(job);
    if job.dead_lettered {
        worker.dead_letters.store(job, delivery).await?;
    } else {
        result_storage::remove_document(worker, job.document.as_deref()).await;
    }
    match worker.webhooks.enqueue(job, 0).await {
        // The message must stay in the queue: only its next delivery enqueues the webhook.
        Err(Error::Full { what }) => {
            warn!(what, "webhook queue is full; postponing the webhook of a job");
            return delivery.return_to_queue(Some(WEBHOOKS_FULL_DELAY)).await;
        }
        result => result?,
    }
    delivery.acknowledge().await?;
    let words = job.totals.as_ref().map(|totals| totals.words);
    let code = job.failure.as_ref().map(|failure| failure.code.as_str());
    info!(
        status = job.status.as_str(),
        words,
        code,
        attempts = job.attempt_count(),
        "job finished"
    );
    Ok(())
}

/// Moves a message that is not a job to the dead letters, where an operator can inspect it.
async fn dead_letter_unreadable(worker: &Worker, delivery: &Delivery, reason: &str) {
    let failure = Failure::new(FailureCode::Internal, reason);
    error!(
        stream_sequence = delivery.stream_sequence(),
        reason, "invalid job message; moving it to the dead letters"
    );
    let storing = async {
        worker.dead_letters.store_unreadable(&failure, delivery).await?;
        delivery.acknowledge().await
    };
    if let Err(error) = storing.await {
        warn!(%error, "cannot store a dead letter; the broker redelivers the message");
    }
}

/// Returns the time until the next attempt is due; `None` if it is due or none is scheduled.
pub(super) fn until_due(job: &Job) -> Option<Duration> {
    Duration::try_from(job.next_attempt_at?.duration_since(Timestamp::now())).ok()
}
