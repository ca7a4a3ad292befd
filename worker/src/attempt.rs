//! Processes one delivery of a job, from receipt to acknowledgement.
//!
//! Three invariants hold:
//!
//! - A message is acknowledged only when its job is final and the consequences are published (a
//!   dead letter, a webhook message).
//! - A final record never changes.
//! - A later delivery that finds the job final publishes the consequences again before it
//!   acknowledges.
//!
//! So if this code stops at any point, for example in a crash, the next delivery continues from
//! there.

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
use wordmill_nats::Error;
use wordmill_nats::delivery::Delivery;
use wordmill_nats::job_record::{Lookup, VersionedJob, check_status};
use wordmill_nats::store::Outcome;
use wordmill_nats::stream_read::ReadFrom;
use wordmill_service::telemetry;

use self::settle::{
    NEWER_DELAY, handle_unparsable, report_newer_message, return_newer_to_queue, settle,
    settle_final,
};
use self::start::{begin, begin_again, fail_for_good, remaining_wait};
use crate::batch_merge::{self, BatchCheck};
use crate::execute::JobSize;
use crate::keep_alive::keep_alive_until_stalled;
use crate::metrics::NewerPart;
use crate::outcome::{AttemptFailure, CountResult, JobAttemptOutcome};
use crate::{Worker, broker_retry, execute, result_storage, spans};

/// Processes one delivery to completion. After an error the broker redelivers the message.
///
/// `size` is the size of the job, and is ignored if `message` is an error.
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
    let span = wordmill_nats::spans::begin_delivery_span(&message, &delivery.info());
    worker.metrics.record_delivery(delivery, &message);
    let handled = Box::pin(handle(worker, delivery, &message, size)).instrument(span.clone()).await;
    match handled {
        Ok(()) => {}
        Err(error @ Error::Newer { .. }) => {
            let returning = return_newer_to_queue(worker, delivery, NewerPart::Record, &error);
            returning.instrument(span).await;
        }
        Err(error) => {
            telemetry::fail(&span, "broker_unavailable", &error.span_description());
            span.in_scope(|| warn!(%error, "cannot process a job; the broker redelivers it"));
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
            let job = message.queued_job().with_trace_context(delivery.trace_context());
            VersionedJob { job, revision: 0 }
        }
        // A deleted or expired job is treated as final, without consequences to publish.
        Lookup::Deleted => {
            result_storage::remove_document(worker, message.source.object()).await;
            return delivery.acknowledge().await;
        }
    };
    check_status(&current.job)?;
    if current.job.status.is_final() {
        return settle_final(worker, delivery, &current.job).await;
    }
    // A message can arrive too early: the request that delayed it may not have reached the broker.
    if let Some(wait) = remaining_wait(&current.job) {
        return delivery.return_to_queue(Some(wait)).await;
    }
    if let (Source::Batch(batch), Status::Queued) = (&message.source, current.job.status) {
        match Box::pin(batch_merge::check_members(worker, delivery, batch, current.clone())).await?
        {
            BatchCheck::Ready => {}
            BatchCheck::Updated(outcome) => return settle(worker, delivery, outcome).await,
            BatchCheck::Unchanged(wait) => return delivery.return_to_queue(Some(wait)).await,
        }
    }
    // The job is not final although its attempts are used up: usually the last one was lost with
    // its worker.
    if current.job.attempt_count() >= worker.retry.attempts {
        let outcome = worker.store.apply(&current, None, fail_for_good).await?;
        return settle(worker, delivery, outcome).await;
    }
    let run = RunNonce::random();
    let started_at = clock::now();
    let start = Instant::now();
    let attempt = RunningAttempt { worker, delivery, message, run, started_at };
    // A redelivered job may have crashed its previous worker. Persist the start first, so that the
    // attempt counts even if it crashes this worker, too.
    if delivery.delivery_count() > 1 {
        let Some(stored) = attempt.begin_again(&current).await? else { return Ok(()) };
        current = stored;
    }
    // A small job takes less than a millisecond, so it sends no keep-alives and writes no progress.
    let small_count = match size {
        JobSize::Small => execute::count_small(message),
        JobSize::Large => None,
    };
    let outcome = match small_count {
        Some(Ok(count)) => JobAttemptOutcome::Counted(Box::new(current), Box::new(count)),
        Some(Err(failure)) => JobAttemptOutcome::Failed(Box::new(current), failure),
        None => Box::pin(attempt.count_large(current)).await?,
    };
    worker.metrics.record_attempt(delivery, message, start, &outcome);
    match outcome {
        JobAttemptOutcome::Counted(current, count) => attempt.succeed(*current, *count).await,
        JobAttemptOutcome::Failed(current, failure) => attempt.fail(*current, &failure).await,
        JobAttemptOutcome::Interrupted(current) => {
            info!("attempt interrupted; returning the job to the queue");
            attempt.return_to_queue(*current, None).await
        }
        JobAttemptOutcome::NeedsNewerVersion(current) => {
            let reason = "the record of a batch member was written by a newer version";
            report_newer_message(worker, delivery, NewerPart::Record, &reason);
            attempt.return_to_queue(*current, Some(NEWER_DELAY)).await
        }
        JobAttemptOutcome::Overtaken(outcome) => settle(worker, delivery, *outcome).await,
    }
}

/// One attempt to count the source of a job.
struct RunningAttempt<'a> {
    worker: &'a Worker,
    delivery: &'a Delivery,
    message: &'a JobMessage,
    run: RunNonce,
    started_at: Timestamp,
}

impl RunningAttempt<'_> {
    /// Begins the attempt if the job is queued. Does not declare an open attempt of another run
    /// lost: that run may have begun while this worker was paused.
    fn begin_if_queued(&self, job: &mut Job) -> Result<(), InvalidTransition> {
        if job.status == Status::Queued {
            begin(&self.worker.name, self.run, self.started_at, job)?;
        }
        Ok(())
    }

    /// Begins the attempt of a redelivered job, and returns the updated record. If another run owns
    /// the job, or the job is final, settles the delivery instead and returns `None`.
    async fn begin_again(&self, current: &VersionedJob) -> Result<Option<VersionedJob>, Error> {
        let Self { worker, delivery, message, run, started_at } = *self;
        let is_attempt_open = current.job.status == Status::Running;
        let last_run = current.job.attempts.last().map(|attempt| attempt.run);
        let begin = |job: &mut Job, _| begin_again(&worker.name, last_run, run, started_at, job);
        match worker.store.apply(current, Some(run), begin).await? {
            Outcome::Applied(stored) => {
                if is_attempt_open {
                    worker.metrics.record_crash(message.lane);
                }
                spans::record_lost_attempt(&stored.job);
                Ok(Some(*stored))
            }
            outcome @ (Outcome::Refused(..) | Outcome::Gone) => {
                settle(worker, delivery, outcome).await?;
                Ok(None)
            }
        }
    }

    /// Counts a large job. Meanwhile keeps the delivery alive and the record up to date.
    ///
    /// Counting and following the record run concurrently. The one that ends first cancels the
    /// other through `end`. A write to the record that has begun is completed first.
    async fn count_large(&self, current: VersionedJob) -> Result<JobAttemptOutcome, Error> {
        let meter = Arc::new(execute::progress_meter(&self.message.source));
        let end = self.worker.interrupt.child_token();
        let counting = async {
            let _end_guard = end.clone().drop_guard();
            let deadline = self.worker.attempt_deadline;
            tokio::select! {
                // A complete count takes precedence over a stall, the deadline and an interruption.
                biased;
                result = execute::count(self.worker, self.message, &meter) => Some(result),
                failure = keep_alive_until_stalled(self.delivery, &meter, deadline) => {
                    Some(Err(failure.into()))
                }
                () = end.cancelled() => None,
            }
        };
        let following = async {
            let _end_guard = end.clone().drop_guard();
            self.follow(current, &meter, &end).await
        };
        Ok(match tokio::join!(counting, following) {
            (_, Err(outcome)) => JobAttemptOutcome::Overtaken(outcome),
            (Some(Ok(count)), Ok(current)) => JobAttemptOutcome::Counted(current, Box::new(count)),
            (Some(Err(failure)), Ok(current)) if failure.needs_newer_version => {
                JobAttemptOutcome::NeedsNewerVersion(current)
            }
            (Some(Err(failure)), Ok(current)) => JobAttemptOutcome::Failed(current, failure),
            (None, Ok(current)) => JobAttemptOutcome::Interrupted(current),
        })
    }

    /// Stores the result, persists the success in the record, and settles the delivery.
    async fn succeed(&self, current: VersionedJob, count: CountResult) -> Result<(), Error> {
        let run = self.run;
        let top = usize::try_from(u32::from(self.message.options.top)).unwrap_or(usize::MAX);
        let top_words =
            result_storage::serialize("the most frequent words", &count.histogram.top(top))?;
        let worker = self.worker;
        let message = self.message;
        let result =
            Box::pin(result_storage::store_result(worker, message, run, count.histogram)).await?;
        let explanation = match count.explanation {
            Some(explanation) => {
                let storing = result_storage::store_explanation(worker, message, run, explanation);
                Some(Box::pin(storing).await?)
            }
            None => None,
        };
        let count = Count {
            source: count.source,
            totals_by_rule: count.totals_by_rule,
            totals_by_scope: count.totals_by_scope,
            totals: count.totals,
            rule: count.rule,
            top_words,
            result,
            warnings: count.warnings,
            explanation,
            members: count.members,
        };
        let outcome = self
            .persist(current, |job, now| {
                // Another run may own the job now. The first persisted result wins, regardless of
                // its run.
                self.begin_if_queued(job)?;
                job.apply(Event::Counted { run, count: Box::new(count.clone()) }, now)
            })
            .await?;
        settle(self.worker, self.delivery, outcome).await
    }

    /// Persists the end of the attempt in the record. Retries while the broker is unavailable.
    async fn persist(
        &self,
        current: VersionedJob,
        change: impl Fn(&mut Job, Timestamp) -> Result<(), InvalidTransition>,
    ) -> Result<Outcome, Error> {
        let store = &self.worker.store;
        let apply = || store.apply(&current, Some(self.run), &change);
        broker_retry::retry_while_unavailable(self.worker, apply).await
    }

    /// Persists a failure in the record, and settles the delivery. Schedules another attempt if the
    /// failure is retryable and attempts are left, otherwise fails the job.
    async fn fail(
        &self,
        current: VersionedJob,
        attempt_failure: &AttemptFailure,
    ) -> Result<(), Error> {
        let run = self.run;
        let policy = self.worker.retry;
        let failure = &attempt_failure.failure;
        let outcome = self
            .persist(current, |job, now| {
                self.begin_if_queued(job)?;
                let number = job.attempt_count();
                let failure = failure.clone();
                let event = if failure.retryable && number < policy.attempts {
                    let retry_after = attempt_failure.retry_after;
                    let delay = policy.delay(number, run.jitter(), retry_after);
                    let next_attempt_at = now.checked_add(delay).unwrap_or(now);
                    Event::AttemptFailed { run, failure, next_attempt_at }
                } else {
                    // A permanent failure is the result of the job. Only a job that has used up its
                    // attempts becomes a dead letter.
                    let dead_lettered = failure.retryable;
                    Event::FailedForGood { run, failure, dead_lettered }
                };
                job.apply(event, now)
            })
            .await?;
        telemetry::fail(&Span::current(), failure.code.to_string(), &failure.detail);
        info!(code = %failure.code, detail = failure.detail, "attempt failed");
        settle(self.worker, self.delivery, outcome).await
    }

    /// Returns the job to the queue as if the attempt had not started. The broker redelivers it
    /// after `delay`.
    async fn return_to_queue(
        &self,
        mut current: VersionedJob,
        delay: Option<Duration>,
    ) -> Result<(), Error> {
        let run = self.run;
        if !current.job.has_attempt_of(run) {
            // The write that began the attempt may have succeeded without a confirmation. An
            // attempt that stays in the record would later be counted as lost in a crash.
            match self.worker.store.get_job(&current.job.key(), ReadFrom::Leader).await {
                Ok(Lookup::Job(stored)) if stored.job.has_attempt_of(run) => current = *stored,
                Ok(_) | Err(_) => return self.delivery.return_to_queue(delay).await,
            }
        }
        let change = |job: &mut Job, now: Timestamp| job.apply(Event::Returned { run }, now);
        match self.worker.store.apply(&current, None, change).await? {
            // An earlier try of this write succeeded, but the broker's answer was lost.
            Outcome::Refused(stored, _) if stored.job.status == Status::Queued => {
                self.delivery.return_to_queue(delay).await
            }
            Outcome::Applied(_) if delay.is_some() => self.delivery.return_to_queue(delay).await,
            outcome @ (Outcome::Applied(_) | Outcome::Refused(..) | Outcome::Gone) => {
                settle(self.worker, self.delivery, outcome).await
            }
        }
    }
}
