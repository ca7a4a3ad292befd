//! One delivery, from taken to acknowledged.
//!
//! Three invariants hold. A message is acknowledged only when its job is final and everything that
//! follows from that has been published; a final record never changes; and whoever finds a job
//! final on a later delivery publishes what follows again before acknowledging. So wherever this
//! code stops, for whatever reason, the next delivery goes on from there.

mod progress;
pub(crate) mod settle;
mod start;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{Instrument, Span, info, warn};
use wordmill_common::clock;
use wordmill_common::id::RunNonce;
use wordmill_common::job::{Count, Event, InvalidTransition, Job, Status};
use wordmill_common::message::{self, JobMessage};
use wordmill_common::source::Source;
use wordmill_common::telemetry;
use wordmill_nats::Error;
use wordmill_nats::delivery::Delivery;
use wordmill_nats::job_record::{Lookup, VersionedJob, check_state};
use wordmill_nats::store::Outcome;
use wordmill_nats::stream_read::ReadFrom;

use self::settle::{
    NEWER_PAUSE, conclude, give_back_newer, handle_unparsable, report_newer_message, settle,
};
use self::start::{abandon, begin, begin_again, remaining_wait};
use crate::batch_merge::{self, BatchCheck};
use crate::execute::JobSize;
use crate::keep_alive;
use crate::metrics::NewerPart;
use crate::outcome::{AttemptFailure, AttemptOutcome, CountResult};
use crate::{Worker, broker_retry, execute, spans};

/// Processes one delivery to completion. After an error the broker delivers the message again.
///
/// `size` is that of the message; without a valid message it is not used.
pub(crate) async fn run(
    worker: &Worker,
    delivery: &Delivery,
    message: Result<JobMessage, message::Error>,
    size: JobSize,
) {
    let message = match message {
        Ok(message) => message,
        Err(error) => return handle_unparsable(worker, delivery, &error).await,
    };
    let span = wordmill_nats::spans::process(&message, &delivery.info());
    worker.metrics.note_delivery(delivery, &message);
    let handled = Box::pin(handle(worker, delivery, &message, size)).instrument(span.clone()).await;
    match handled {
        Ok(()) => {}
        Err(error @ Error::Newer { .. }) => {
            let giving_back = give_back_newer(worker, delivery, NewerPart::Record, &error);
            giving_back.instrument(span).await;
        }
        Err(error) => {
            telemetry::fail(&span, "broker_unavailable");
            span.in_scope(|| warn!(%error, "the delivery is left to be repeated"));
        }
    }
}

async fn handle(
    worker: &Worker,
    delivery: &Delivery,
    message: &JobMessage,
    size: JobSize,
) -> Result<(), Error> {
    let key = message.key();
    let mut current = match broker_retry::retry_while_unavailable(worker, || {
        worker.store.get_job(&key, ReadFrom::AnyReplica)
    })
    .await?
    {
        Lookup::Job(stored) => *stored,
        Lookup::NotFound => {
            let job = Job { traceparent: delivery.traceparent(), ..message.queued_job() };
            VersionedJob { job, revision: 0 }
        }
        // Deleted or expired counts as final, and nothing follows from it.
        Lookup::Deleted => {
            broker_retry::remove_document(worker, message.source.object()).await;
            return delivery.acknowledge().await;
        }
    };
    check_state(&current.job)?;
    if current.job.status.is_final() {
        return conclude(worker, delivery, &current.job).await;
    }
    if let Some(wait) = remaining_wait(&current.job) {
        return delivery.give_back(Some(wait)).await;
    }
    if let (Source::Batch(batch), Status::Queued) = (&message.source, current.job.status) {
        match Box::pin(batch_merge::check_members(worker, delivery, batch, current.clone())).await?
        {
            BatchCheck::Ready => {}
            BatchCheck::Updated(outcome) => return settle(worker, delivery, outcome).await,
            BatchCheck::Unchanged(wait) => return delivery.give_back(Some(wait)).await,
        }
    }
    if current.job.attempt_count() >= worker.retry.attempts {
        let outcome = worker.store.apply(&current, None, abandon).await?;
        return settle(worker, delivery, outcome).await;
    }
    let (run, started_at) = (RunNonce::random(), clock::now());
    let start = Instant::now();
    let attempt = Attempt { worker, delivery, message, run, started_at };
    // A redelivered job may have crashed its previous worker, so its start is written down first.
    if delivery.delivered() > 1 {
        let Some(begun) = attempt.begin_again(&current).await? else { return Ok(()) };
        current = begun;
    }
    let small = match size {
        JobSize::Small => execute::count_small(message),
        JobSize::Large => None,
    };
    let ended = match small {
        Some(Ok(count)) => AttemptOutcome::Counted(Box::new(current), Box::new(count)),
        Some(Err(failure)) => AttemptOutcome::Failed(Box::new(current), failure),
        None => Box::pin(attempt.work(current)).await?,
    };
    worker.metrics.note_attempt(delivery, message, start, &ended);
    match ended {
        AttemptOutcome::Counted(current, found) => attempt.succeed(*current, *found).await,
        AttemptOutcome::Failed(current, failed) => attempt.fail(*current, &failed).await,
        AttemptOutcome::Interrupted(current) => attempt.hand_back(*current, None).await,
        AttemptOutcome::NeedsNewerVersion(current) => {
            let reason = "a member of the batch was written by a newer version";
            report_newer_message(worker, delivery, NewerPart::Record, &reason);
            attempt.hand_back(*current, Some(NEWER_PAUSE)).await
        }
        AttemptOutcome::Overtaken(outcome) => settle(worker, delivery, *outcome).await,
    }
}

/// One try at counting.
struct Attempt<'a> {
    worker: &'a Worker,
    delivery: &'a Delivery,
    message: &'a JobMessage,
    run: RunNonce,
    started_at: Timestamp,
}

impl Attempt<'_> {
    /// Opens the attempt if nobody has one. Another's, begun while this worker was paused perhaps,
    /// is not declared dead.
    fn begin_unless_taken(&self, job: &mut Job) -> Result<(), InvalidTransition> {
        if job.status == Status::Queued {
            begin(&self.worker.name, self.run, self.started_at, job)?;
        }
        Ok(())
    }

    /// Opens the attempt of a redelivered job, and returns the record. If another run has the job, or
    /// the job is final, settles the delivery instead and returns `None`.
    async fn begin_again(&self, current: &VersionedJob) -> Result<Option<VersionedJob>, Error> {
        let Self { worker, delivery, message, run, started_at } = *self;
        let was_left_open = current.job.status == Status::Running;
        let last = current.job.attempts.last().map(|attempt| attempt.run);
        let begin = |job: &mut Job, _| begin_again(&worker.name, last, run, started_at, job);
        match worker.store.apply(current, Some(run), begin).await? {
            Outcome::Applied(stored) => {
                if was_left_open {
                    worker.metrics.note_crash(message.lane);
                }
                spans::note_lost_attempt(&stored.job);
                Ok(Some(*stored))
            }
            outcome @ (Outcome::Refused(..) | Outcome::Gone) => {
                settle(worker, delivery, outcome).await?;
                Ok(None)
            }
        }
    }

    /// Works, and meanwhile keeps the delivery alive and the record up to date. Neither waits for
    /// the other, until one of them is over: then a write that is on its way is waited for.
    async fn work(&self, current: VersionedJob) -> Result<AttemptOutcome, Error> {
        let meter = Arc::new(execute::meter(&self.message.source));
        let over = self.worker.interrupted.child_token();
        let working = async {
            let _ends = over.clone().drop_guard();
            tokio::select! {
                biased;
                done = execute::count(self.worker, self.message, &meter) => Some(done),
                failure = keep_alive::hold(self.delivery, &meter, self.worker.attempt_deadline) => {
                    Some(Err(failure.into()))
                }
                () = over.cancelled() => None,
            }
        };
        let following = async {
            let _ends = over.clone().drop_guard();
            self.follow(current, &meter, &over).await
        };
        Ok(match tokio::join!(working, following) {
            (_, Err(overtaken)) => AttemptOutcome::Overtaken(overtaken),
            (Some(Ok(found)), Ok(current)) => AttemptOutcome::Counted(current, Box::new(found)),
            (Some(Err(failed)), Ok(current)) if failed.needs_newer_version => {
                AttemptOutcome::NeedsNewerVersion(current)
            }
            (Some(Err(failed)), Ok(current)) => AttemptOutcome::Failed(current, failed),
            (None, Ok(current)) => AttemptOutcome::Interrupted(current),
        })
    }

    async fn succeed(&self, current: VersionedJob, found: CountResult) -> Result<(), Error> {
        let run = self.run;
        let top = usize::try_from(u32::from(self.message.options.top)).unwrap_or(usize::MAX);
        let top_words =
            broker_retry::written("the most frequent words", &found.histogram.top(top))?;
        let (worker, message) = (self.worker, self.message);
        let place = Box::pin(broker_retry::keep(worker, message, run, found.histogram)).await?;
        let explanation = match found.explanation {
            Some(known) => {
                Some(Box::pin(broker_retry::keep_explanation(worker, message, run, known)).await?)
            }
            None => None,
        };
        let count = Count {
            source: found.source,
            totals_by_rule: found.totals_by_rule,
            totals_by_scope: found.totals_by_scope,
            totals: found.totals,
            rule: found.rule,
            top_words,
            result: place,
            explanation,
            members: found.members,
        };
        let outcome = self
            .persist(current, |job, now| {
                // If the job was given to somebody else meanwhile, the result is as good as theirs.
                self.begin_unless_taken(job)?;
                job.apply(Event::Counted { run, count: Box::new(count.clone()) }, now)
            })
            .await?;
        settle(self.worker, self.delivery, outcome).await
    }

    /// Writes what the attempt came to.
    async fn persist(
        &self,
        current: VersionedJob,
        change: impl Fn(&mut Job, Timestamp) -> Result<(), InvalidTransition>,
    ) -> Result<Outcome, Error> {
        let store = &self.worker.store;
        let apply = || store.apply(&current, Some(self.run), &change);
        broker_retry::retry_while_unavailable(self.worker, apply).await
    }

    async fn fail(&self, current: VersionedJob, failed: &AttemptFailure) -> Result<(), Error> {
        let run = self.run;
        let policy = self.worker.retry;
        let failure = &failed.failure;
        let outcome = self
            .persist(current, |job, now| {
                self.begin_unless_taken(job)?;
                let (number, failure) = (job.attempt_count(), failure.clone());
                let event = if failure.retryable && number < policy.attempts {
                    let delay = policy.delay(number, run.jitter(), failed.retry_after);
                    let next_attempt_at = now.checked_add(delay).unwrap_or(now);
                    Event::AttemptFailed { run, failure, next_attempt_at }
                } else {
                    // Permanent failures are answers; only exhausted retries are dead letters.
                    let dead_lettered = failure.retryable;
                    Event::GaveUp { run, failure, dead_lettered }
                };
                job.apply(event, now)
            })
            .await?;
        telemetry::fail(&Span::current(), failure.code.to_string());
        info!(code = %failure.code, detail = failure.detail, "attempt failed");
        settle(self.worker, self.delivery, outcome).await
    }

    /// Gives the job back, to be delivered after `pause`, as if it had never been started.
    async fn hand_back(
        &self,
        mut current: VersionedJob,
        pause: Option<Duration>,
    ) -> Result<(), Error> {
        let run = self.run;
        info!("job handed back");
        if !current.job.knows(run) {
            // A start whose writing was not confirmed may have arrived all the same, and would
            // count as a crash.
            match self.worker.store.get_job(&current.job.key(), ReadFrom::Leader).await {
                Ok(Lookup::Job(found)) if found.job.knows(run) => current = *found,
                Ok(_) | Err(_) => return self.delivery.give_back(pause).await,
            }
        }
        let change = |job: &mut Job, now: Timestamp| job.apply(Event::HandedBack { run }, now);
        match self.worker.store.apply(&current, None, change).await? {
            // The write had arrived although its answer had not.
            Outcome::Refused(found, _) if found.job.status == Status::Queued => {
                self.delivery.give_back(pause).await
            }
            Outcome::Applied(_) if pause.is_some() => self.delivery.give_back(pause).await,
            outcome @ (Outcome::Applied(_) | Outcome::Refused(..) | Outcome::Gone) => {
                settle(self.worker, self.delivery, outcome).await
            }
        }
    }
}
