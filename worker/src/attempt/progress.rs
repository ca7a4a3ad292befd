//! Follows the record of a running attempt: persists its progress, and checks that it still owns
//! the job.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use wordmill_common::job::{Event, Job};
use wordmill_nats::Error;
use wordmill_nats::events::RecordSubscription;
use wordmill_nats::job_record::{Lookup, RawRecord, VersionedJob};
use wordmill_nats::store::Outcome;
use wordmill_nats::stream_read::ReadFrom;

use super::RunningAttempt;
use crate::keep_alive::ProgressMeter;

/// Time after which the record of a first delivery shows `running`. Most jobs finish sooner and
/// need no such write.
const EARLY_RUNNING_WRITE_AFTER: Duration = Duration::from_millis(200);
/// Interval at which progress is written.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Result of a check of the record.
enum RecordCheck {
    /// The record is not newer than the one that the attempt has read.
    Unchanged,
    /// The attempt still owns the job, and this is its newest record.
    Updated(Box<VersionedJob>),
    /// The job is final or deleted, or another run owns it.
    Overtaken(Box<Outcome>),
}

impl From<Outcome> for RecordCheck {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Applied(stored) => Self::Updated(stored),
            outcome @ (Outcome::Refused(..) | Outcome::Gone) => Self::Overtaken(Box::new(outcome)),
        }
    }
}

impl RunningAttempt<'_> {
    /// Writes progress to the record and follows changes by other processes until `end` is
    /// cancelled. Returns the newest record.
    ///
    /// # Errors
    /// The outcome of the write or check that showed that the attempt no longer owns the job.
    pub(super) async fn follow(
        &self,
        current: VersionedJob,
        meter: &ProgressMeter,
        end: &CancellationToken,
    ) -> Result<Box<VersionedJob>, Box<Outcome>> {
        let mut current = Box::new(current);
        let mut delay = EARLY_RUNNING_WRITE_AFTER;
        let mut events = None;
        loop {
            let change = tokio::select! {
                biased;
                () = end.cancelled() => return Ok(current),
                record = RecordSubscription::next_of(&mut events) => Some(record),
                () = tokio::time::sleep(delay) => None,
            };
            delay = PROGRESS_INTERVAL;
            if events.is_none() {
                // Subscribe before the first write of this run, so that no later change is missed.
                events = self.subscribe().await;
            }
            let check = match change {
                Some(record) => self.check_raw(&current, meter, record).await,
                None => self.update_progress(&current, meter).await,
            };
            match check {
                Ok(RecordCheck::Unchanged) => {}
                Ok(RecordCheck::Updated(stored)) => current = stored,
                Ok(RecordCheck::Overtaken(outcome)) => return Err(outcome),
                // Counting continues: the next write may succeed.
                Err(error) => debug!(%error, "cannot update the record of a running job"),
            }
        }
    }

    /// Subscribes to changes of the record. Without a subscription, the attempt detects a change at
    /// its next write or check.
    async fn subscribe(&self) -> Option<RecordSubscription> {
        let subscription =
            RecordSubscription::subscribe(&self.worker.broker, &self.message.key()).await;
        subscription.inspect_err(|error| debug!(%error, "cannot subscribe to a record")).ok()
    }

    /// Writes the progress if it has changed since the last write. Otherwise checks the record.
    async fn update_progress(
        &self,
        current: &VersionedJob,
        meter: &ProgressMeter,
    ) -> Result<RecordCheck, Error> {
        if current.job.progress != Some(meter.read()) {
            return self.write_progress(current, meter).await;
        }
        let record = self.worker.store.get_job(&current.job.key(), ReadFrom::Leader).await?;
        self.check(current, meter, record).await
    }

    /// Checks a record that the subscription returned.
    async fn check_raw(
        &self,
        current: &VersionedJob,
        meter: &ProgressMeter,
        record: Lookup<RawRecord>,
    ) -> Result<RecordCheck, Error> {
        self.check(current, meter, record.read(&current.job.key())?).await
    }

    /// Checks whether the attempt still owns the job. Another process may have changed the record.
    async fn check(
        &self,
        current: &VersionedJob,
        meter: &ProgressMeter,
        record: Lookup,
    ) -> Result<RecordCheck, Error> {
        match record {
            Lookup::Deleted => Ok(RecordCheck::from(Outcome::Gone)),
            Lookup::NotFound => Ok(RecordCheck::Unchanged),
            Lookup::Job(stored) if stored.revision <= current.revision => {
                Ok(RecordCheck::Unchanged)
            }
            Lookup::Job(stored) if stored.job.is_running(self.run) => {
                Ok(RecordCheck::Updated(stored))
            }
            // In this record the attempt of this run is not the running one. `Job::apply` decides
            // whether the run may continue.
            Lookup::Job(stored) => self.write_progress(&stored, meter).await,
        }
    }

    /// Writes the progress. The first write also begins the attempt of a queued job.
    async fn write_progress(
        &self,
        current: &VersionedJob,
        meter: &ProgressMeter,
    ) -> Result<RecordCheck, Error> {
        let run = self.run;
        let progress = meter.read();
        let change = |job: &mut Job, now: Timestamp| {
            self.begin_if_queued(job)?;
            job.apply(Event::Advanced { run, progress: progress.clone() }, now)
        };
        let outcome = self.worker.store.apply(current, Some(run), change).await?;
        Ok(RecordCheck::from(outcome))
    }
}
