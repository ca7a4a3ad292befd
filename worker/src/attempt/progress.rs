//! The record of a running attempt: its progress, and whether the attempt still has the job.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::debug;
use wordmill_common::job::Event;
use wordmill_nats::Error;
use wordmill_nats::events::Events;
use wordmill_nats::job_record::{Lookup, RawRecord, VersionedJob};
use wordmill_nats::store::Outcome;
use wordmill_nats::stream_read::ReadFrom;

use super::Attempt;
use crate::keep_alive::Meter;

/// How long a first delivery may take before the record says `running`: most jobs are done by
/// then, and one write is saved.
const EARLY_RUNNING_WRITE_AFTER: Duration = Duration::from_millis(200);
/// How often a running job's progress is written.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl Attempt<'_> {
    /// Keeps the record up to date until the attempt is `over`, and returns it as last seen, or why
    /// the attempt no longer has the job.
    pub(super) async fn follow(
        &self,
        current: VersionedJob,
        meter: &Meter,
        over: &CancellationToken,
    ) -> Result<Box<VersionedJob>, Box<Outcome>> {
        let mut current = Box::new(current);
        let mut pause = EARLY_RUNNING_WRITE_AFTER;
        let mut events = None;
        loop {
            let changed = tokio::select! {
                biased;
                () = over.cancelled() => return Ok(current),
                found = Events::next_of(&mut events) => Some(found),
                () = tokio::time::sleep(pause) => None,
            };
            pause = PROGRESS_INTERVAL;
            if events.is_none() {
                // Before the first write of this run, so that no later change is missed.
                events = self.listen().await;
            }
            let looked = match changed {
                Some(found) => self.take(&current, meter, found).await,
                None => self.note_progress(&current, meter).await,
            };
            match looked {
                Ok(Outcome::Applied(stored)) => current = stored,
                Ok(outcome @ (Outcome::Refused(..) | Outcome::Gone)) => {
                    return Err(Box::new(outcome));
                }
                // The work goes on without: a broker that is away comes back.
                Err(error) => debug!(%error, "progress not written"),
            }
        }
    }

    /// Listens to the record's changes. Without, a change is found when progress is noted.
    async fn listen(&self) -> Option<Events> {
        let listening = Events::of(&self.worker.broker, &self.message.key()).await;
        listening.inspect_err(|error| debug!(%error, "not told of changes at once")).ok()
    }

    /// Notes how far the attempt is; if that is nothing new, looks whether it still has the job.
    async fn note_progress(&self, current: &VersionedJob, meter: &Meter) -> Result<Outcome, Error> {
        if current.job.progress != Some(meter.read()) {
            return self.write_progress(current, meter).await;
        }
        let found = self.worker.store.get_job(&current.job.key(), ReadFrom::Leader).await?;
        self.look(current, meter, found).await
    }

    /// Reads a change that was told.
    async fn take(
        &self,
        current: &VersionedJob,
        meter: &Meter,
        found: Lookup<RawRecord>,
    ) -> Result<Outcome, Error> {
        self.look(current, meter, found.read(&current.job.key())?).await
    }

    /// Finds out whether the attempt still has the job, which somebody else may have changed.
    async fn look(
        &self,
        current: &VersionedJob,
        meter: &Meter,
        found: Lookup,
    ) -> Result<Outcome, Error> {
        let unchanged = || Ok(Outcome::Applied(Box::new(current.clone())));
        match found {
            Lookup::Deleted => Ok(Outcome::Gone),
            Lookup::NotFound => unchanged(),
            Lookup::Job(found) if found.revision <= current.revision => unchanged(),
            Lookup::Job(found) if found.job.is_running(self.run) => Ok(Outcome::Applied(found)),
            // Whether that allows this run to go on is not decided here.
            Lookup::Job(found) => self.write_progress(&found, meter).await,
        }
    }

    /// Writes how far the attempt is, and before that that there is one.
    async fn write_progress(
        &self,
        current: &VersionedJob,
        meter: &Meter,
    ) -> Result<Outcome, Error> {
        let (run, progress) = (self.run, meter.read());
        self.worker
            .store
            .apply(current, Some(run), |job, now| {
                self.begin_unless_taken(job)?;
                job.apply(Event::Advanced { run, progress: progress.clone() }, now)
            })
            .await
    }
}
