//! What is done about a delivery once its record says how things stand.

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
use crate::{Worker, broker_retry, spans};

/// When the message of a finished job comes again whose webhook found no room.
const WEBHOOKS_FULL_PAUSE: Duration = Duration::from_secs(15);

/// Delay before a message that only a newer version can handle is delivered again.
pub(crate) const NEWER_PAUSE: Duration = Duration::from_secs(30);

/// Returns a message of a newer version to the queue, and dead-letters one that is not a job.
pub(super) async fn handle_unparsable(
    worker: &Worker,
    delivery: &Delivery,
    error: &message::Error,
) {
    let part = match error {
        message::Error::Malformed(_) => {
            return bury_unreadable(worker, delivery, &error.to_string()).await;
        }
        message::Error::Newer(_) => NewerPart::Format,
        message::Error::Unknown(unknown) => NewerPart::Job(unknown.part),
    };
    give_back_newer(worker, delivery, part, error).await;
}

/// Gives back the message of a job that only a worker of a newer version can handle.
pub(super) async fn give_back_newer(
    worker: &Worker,
    delivery: &Delivery,
    part: NewerPart,
    reason: &(dyn fmt::Display + Sync),
) {
    report_newer_message(worker, delivery, part, reason);
    if let Err(error) = delivery.give_back(Some(NEWER_PAUSE)).await {
        warn!(%error, "a message comes again after the acknowledgement wait");
    }
}

/// Counts and logs a message that is returned because only a newer version can handle it.
pub(crate) fn report_newer_message(
    worker: &Worker,
    delivery: &Delivery,
    part: NewerPart,
    reason: &(dyn fmt::Display + Sync),
) {
    worker.metrics.count_newer_message(delivery, part);
    let (stream_sequence, part) = (delivery.stream_sequence(), part.as_str());
    // It may come many times.
    if delivery.delivered() > 1 {
        debug!(stream_sequence, part, %reason, "a message still needs a worker of a newer version");
        return;
    }
    warn!(stream_sequence, part, %reason, "a message needs a worker of a newer version");
}

/// Does what the record, as it is now, asks for.
pub(super) async fn settle(
    worker: &Worker,
    delivery: &Delivery,
    outcome: Outcome,
) -> Result<(), Error> {
    worker.metrics.note_outcome(delivery, &outcome);
    match outcome {
        Outcome::Applied(stored) | Outcome::Refused(stored, _) if stored.job.status.is_final() => {
            conclude(worker, delivery, &stored.job).await
        }
        // For the next attempt, or after a hand-back at once.
        Outcome::Applied(stored) if stored.job.status == Status::Queued => {
            spans::note_state(&stored.job);
            delivery.give_back(until_due(&stored.job)).await
        }
        // Somebody else runs it: their delivery answers for it.
        Outcome::Applied(_) | Outcome::Refused(..) => {
            debug!("another run has the job; this delivery is dropped");
            Ok(())
        }
        Outcome::Gone => delivery.acknowledge().await,
    }
}

/// Publishes what follows from a final record, then acknowledges.
pub(super) async fn conclude(worker: &Worker, delivery: &Delivery, job: &Job) -> Result<(), Error> {
    spans::note_state(job);
    if job.dead_lettered {
        worker.dead_letters.store(job, delivery).await?;
    } else {
        broker_retry::remove_document(worker, job.document.as_deref()).await;
    }
    match worker.webhooks.order(job, 0).await {
        // The job is done, and its message is what remembers the webhook.
        Err(Error::Full { what }) => {
            warn!(what, "a finished job waits for room for its webhook");
            return delivery.give_back(Some(WEBHOOKS_FULL_PAUSE)).await;
        }
        ordered => ordered?,
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

/// Keeps a message that is no job out of the way, where it can be looked at.
async fn bury_unreadable(worker: &Worker, delivery: &Delivery, reason: &str) {
    let failure = Failure::new(FailureCode::Internal, reason);
    error!(stream_sequence = delivery.stream_sequence(), reason, "a message is no job");
    let buried = async {
        worker.dead_letters.store_unreadable(&failure, delivery).await?;
        delivery.acknowledge().await
    };
    if let Err(error) = buried.await {
        warn!(%error, "an unreadable message is left to be delivered again");
    }
}

/// Returns how long it is until the next attempt is due.
pub(super) fn until_due(job: &Job) -> Option<Duration> {
    Duration::try_from(job.next_attempt_at?.duration_since(Timestamp::now())).ok()
}
