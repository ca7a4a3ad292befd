//! What is done about a delivery once its record says how things stand.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{debug, error, info, warn};
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::job::{Job, Status};
use wordmill_nats::Error;
use wordmill_nats::pull::Delivery;
use wordmill_nats::store::Outcome;

use crate::{Worker, spans, stores};

/// When the message of a finished job comes again whose webhook found no room.
const WEBHOOKS_FULL_PAUSE: Duration = Duration::from_secs(15);

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
        worker.dead_letters.keep(job, delivery).await?;
    } else {
        stores::remove_document(worker, job.document.as_deref()).await;
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
pub(super) async fn bury_unreadable(worker: &Worker, delivery: &Delivery, reason: &str) {
    let failure = Failure::new(FailureCode::Internal, reason);
    error!(stream_sequence = delivery.stream_sequence(), reason, "a message is no job");
    let buried = async {
        worker.dead_letters.keep_unreadable(&failure, delivery).await?;
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
