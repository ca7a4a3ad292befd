//! Batches: checks the members, and adds up their results when all are final.
//!
//! A batch with unfinished members is returned to the queue with a delay, which grows with its age.
//! Such a check does not count as an attempt, and occupies a slot only while it reads records. When
//! all members are final, an attempt begins, as for any other job.

mod member_sums;

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tracing::{debug, error, warn};
use wordmill_common::batch::{Batch, BatchProgress, Counts};
use wordmill_common::clock;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::histogram::{Histogram, Totals};
use wordmill_common::id::{JobId, JobKey, Owner};
use wordmill_common::job::{Event, Job, ResultRef, Stage, Status};
use wordmill_common::message::JobMessage;
use wordmill_common::source::SourceInfo;
use wordmill_count::UNIQUE_WORDS_MAX;
use wordmill_nats::Error;
use wordmill_nats::delivery::Delivery;
use wordmill_nats::job_record::{Lookup, VersionedJob};
use wordmill_nats::results;
use wordmill_nats::store::Outcome;
use wordmill_nats::stream_read::ReadFrom;

use self::member_sums::MemberSums;
use crate::keep_alive::{ProgressMeter, keep_alive_until_stalled};
use crate::outcome::{AttemptFailure, CountResult};
use crate::{Worker, broker_retry};

/// Maximum number of records that are read concurrently. Each may contain a result of up to 32 KiB,
/// which is in memory together with the sum.
const READS_MAX: usize = 64;
/// Minimum time between two checks of the members.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(500);
/// Maximum time between two checks of the members.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// The next check is due after the age of the batch divided by this number. So a batch lags behind
/// its last member by at most that share of its age. For example, a batch that is 80 s old is
/// checked again after 10 s.
const CHECK_AGE_DIVISOR: u32 = 8;

/// Result of a check of the members.
pub(crate) enum BatchCheck {
    /// All members are final, so their results can be added up.
    Ready,
    /// The progress of the members has changed. Writing it to the record had this outcome.
    Updated(Outcome),
    /// The progress of the members has not changed. The next check is due after this time.
    Unchanged(Duration),
}

/// Checks the members that were not final at the last check, and persists their progress if it has
/// changed.
///
/// # Errors
/// [`Error::Unavailable`] if the broker does not answer, and [`Error::Newer`] or [`Error::Corrupt`]
/// if a record cannot be read.
pub(crate) async fn check_members(
    worker: &Worker,
    delivery: &Delivery,
    batch: &Batch,
    current: VersionedJob,
) -> Result<BatchCheck, Error> {
    let last = current.job.members.clone().unwrap_or_default();
    let meter = ProgressMeter::new(Stage::Count);
    let reading = read_progress(worker, &current.job.owner, batch, last.clone(), &meter);
    let members = tokio::select! {
        biased;
        members = reading => members?,
        failure = keep_alive_until_stalled(delivery, &meter, worker.attempt_deadline) => {
            warn!(
                reason = failure.detail,
                "checking the members of a batch took too long; checking again in {} s",
                CHECK_INTERVAL_MAX.as_secs()
            );
            return Ok(BatchCheck::Unchanged(CHECK_INTERVAL_MAX));
        }
    };
    if members.counts.queued == 0 && members.counts.running == 0 {
        return Ok(BatchCheck::Ready);
    }
    let wait = check_interval(current.job.created_at, clock::now());
    if members == last {
        return Ok(BatchCheck::Unchanged(wait));
    }
    let change = |job: &mut Job, now: Timestamp| {
        let next_check_at = now.checked_add(wait).unwrap_or(now);
        job.apply(Event::MembersChecked { members: members.clone(), next_check_at }, now)
    };
    Ok(BatchCheck::Updated(worker.store.apply(&current, None, change).await?))
}

/// Returns the time until the next check of a batch that was created at `created_at`.
fn check_interval(created_at: Timestamp, now: Timestamp) -> Duration {
    let age = Duration::try_from(now.duration_since(created_at)).unwrap_or_default();
    (age / CHECK_AGE_DIVISOR).clamp(CHECK_INTERVAL_MIN, CHECK_INTERVAL_MAX)
}

/// Reads the members that were not final in `progress`, the result of the last check, and returns
/// the new progress.
///
/// Reading from a lagging replica is safe: a final record never changes, and any other record leads
/// to another check.
async fn read_progress(
    worker: &Worker,
    owner: &Owner,
    batch: &Batch,
    mut progress: BatchProgress,
    meter: &ProgressMeter,
) -> Result<BatchProgress, Error> {
    let refused = batch.refused.count();
    progress.counts = Counts { queued: 0, running: 0, refused, ..progress.counts };
    let unfinished: Vec<_> =
        batch.members(owner).filter(|(line, _)| !progress.settled.contains(*line)).collect();
    let mut read_count = 0;
    for chunk in unfinished.chunks(READS_MAX) {
        for ((line, _), record) in chunk.iter().zip(read_records(worker, owner, chunk).await) {
            let counts = &mut progress.counts;
            let (count, is_final) = match record? {
                Lookup::Job(stored) => match stored.job.status {
                    Status::Queued => (&mut counts.queued, false),
                    // A status that this version does not support is treated as not final.
                    Status::Running | Status::Unknown => (&mut counts.running, false),
                    Status::Succeeded => (&mut counts.succeeded, true),
                    Status::Failed => (&mut counts.failed, true),
                    Status::Cancelled => (&mut counts.cancelled, true),
                },
                // The message of the member is queued, but its record is not written yet.
                Lookup::NotFound => (&mut counts.queued, false),
                Lookup::Deleted => (&mut counts.gone, true),
            };
            *count = count.saturating_add(1);
            if is_final {
                progress.settled.add(*line);
            }
            read_count += 1;
        }
        meter.set_done(read_count);
    }
    Ok(progress)
}

/// Reads the records of some members concurrently.
async fn read_records(
    worker: &Worker,
    owner: &Owner,
    members: &[(u32, JobId)],
) -> Vec<Result<Lookup, Error>> {
    let read = |(_, job_id): &(u32, JobId)| {
        let key = JobKey { owner: owner.clone(), job_id: *job_id };
        async move {
            broker_retry::retry_while_unavailable(worker, || {
                worker.store.get_job(&key, ReadFrom::AnyReplica)
            })
            .await
        }
    };
    join_all(members.iter().map(read)).await
}

/// Adds up the results of a batch's members, all of which are final. Deleted members are counted as
/// gone.
///
/// # Errors
/// Permanent: `too_many_unique_words`, or members counted by rules with different names. Retryable:
/// the broker does not answer, a record cannot be read, or a result is missing.
pub(crate) async fn merge(
    worker: &Worker,
    message: &JobMessage,
    batch: &Batch,
    meter: &ProgressMeter,
) -> Result<CountResult, AttemptFailure> {
    let mut sum = BatchSum::default();
    sum.progress.counts.refused = batch.refused.count();
    let owner = &message.owner;
    let members: Vec<_> = batch.members(owner).collect();
    for chunk in members.chunks(READS_MAX) {
        for ((line, job_id), record) in chunk.iter().zip(read_records(worker, owner, chunk).await) {
            let key = JobKey { owner: owner.clone(), job_id: *job_id };
            let record = match record.map_err(|error| unreadable_member(&error))? {
                // A replica may lag, so read it again from the leader.
                Lookup::Job(stored) if !stored.job.status.is_final() => {
                    read_from_leader(worker, &key).await?
                }
                Lookup::NotFound => read_from_leader(worker, &key).await?,
                record @ (Lookup::Job(_) | Lookup::Deleted) => record,
            };
            sum.add(worker, *line, record).await?;
            meter.set_done(sum.sums.size_bytes);
        }
    }
    sum.finish(worker, message, batch).await
}

async fn read_from_leader(worker: &Worker, key: &JobKey) -> Result<Lookup, AttemptFailure> {
    let read = || worker.store.get_job(key, ReadFrom::Leader);
    broker_retry::retry_while_unavailable(worker, read)
        .await
        .map_err(|error| unreadable_member(&error))
}

/// Sum of the results of the members that have been read.
#[derive(Default)]
struct BatchSum {
    words: HashMap<String, u64>,
    sums: MemberSums,
    progress: BatchProgress,
}

impl BatchSum {
    async fn add(
        &mut self,
        worker: &Worker,
        line: u32,
        record: Lookup,
    ) -> Result<(), AttemptFailure> {
        let counts = &mut self.progress.counts;
        let (count, job) = match record {
            Lookup::Deleted | Lookup::NotFound => (&mut counts.gone, None),
            Lookup::Job(stored) => match stored.job.status {
                Status::Succeeded => (&mut counts.succeeded, Some(stored.job)),
                Status::Failed => (&mut counts.failed, None),
                Status::Cancelled => (&mut counts.cancelled, None),
                Status::Queued | Status::Running => return Err(unfinished_member()),
                Status::Unknown => return Err(needs_newer_version()),
            },
        };
        *count = count.saturating_add(1);
        self.progress.settled.add(line);
        match job {
            Some(job) => self.add_counted(worker, job).await,
            None => Ok(()),
        }
    }

    async fn add_counted(&mut self, worker: &Worker, job: Job) -> Result<(), AttemptFailure> {
        self.sums.add(&job)?;
        let key = job.key();
        match job.result {
            Some(ResultRef::Inline { word_count }) => {
                let words = results::parse_inline(&key, &word_count)
                    .map_err(|error| unreadable_member(&error))?;
                for entry in words {
                    self.add_word(entry.word, entry.count)?;
                }
                Ok(())
            }
            Some(ResultRef::Object { name }) => self.add_object(worker, &name).await,
            None => Ok(()),
        }
    }

    async fn add_object(&mut self, worker: &Worker, name: &str) -> Result<(), AttemptFailure> {
        let object =
            broker_retry::retry_while_unavailable(worker, || worker.results.read(name)).await;
        // A job is deleted in this order: first its result, then its record. If the result is
        // missing because of a deletion, the next attempt finds no record either. If the record
        // remains, an operator has removed the result.
        let object = object
            .map_err(|error| unreadable_member(&error))?
            .ok_or_else(|| missing_result(name))?;
        let mut entries = object.entries().map_err(|error| unreadable_member(&error))?;
        while let Some((word, count)) =
            entries.next().await.map_err(|error| unreadable_member(&error))?
        {
            self.add_word(word, count)?;
        }
        Ok(())
    }

    fn add_word(&mut self, word: String, count: u64) -> Result<(), AttemptFailure> {
        let sum = self.words.entry(word).or_default();
        *sum = sum.saturating_add(count);
        if self.words.len() > UNIQUE_WORDS_MAX {
            let detail = format!("The batch has more than {UNIQUE_WORDS_MAX} unique words.");
            return Err(Failure::new(FailureCode::TooManyUniqueWords, detail).into());
        }
        Ok(())
    }

    async fn finish(
        self,
        worker: &Worker,
        message: &JobMessage,
        batch: &Batch,
    ) -> Result<CountResult, AttemptFailure> {
        let words = self.words;
        // Sorting millions of words takes too long for an async thread.
        let sorting = tokio::task::spawn_blocking(move || Histogram::from(words));
        let histogram = sorting.await.map_err(|panic| {
            error!(
                %panic,
                worker = %worker.name,
                "cannot sort the words of a batch; failing the attempt"
            );
            Failure::new(FailureCode::Internal, "Internal error while merging the batch.")
        })?;
        let unique_words = u64::try_from(histogram.len()).unwrap_or(u64::MAX);
        let source_info = message.source.describe();
        debug!(members = batch.lines, unique_words, "batch merged");
        let sums = self.sums;
        let rule = sums.rule().unwrap_or_else(|| wordmill_count::rule(message.options.rule));
        Ok(CountResult {
            warnings: sums.warnings(),
            totals: Totals { unique_words, ..sums.totals },
            totals_by_rule: sums.by_rule,
            totals_by_scope: sums.by_scope,
            histogram,
            explanation: None,
            rule,
            source: SourceInfo { size_bytes: Some(sums.size_bytes), ..source_info },
            members: Some(self.progress),
        })
    }
}

/// Returns the failure for a member whose record or result cannot be read.
fn unreadable_member(error: &Error) -> AttemptFailure {
    debug!(%error, "cannot read the record or result of a batch member");
    if matches!(error, Error::Newer { .. }) {
        return needs_newer_version();
    }
    let detail = "The record or result of a batch member cannot be read.";
    Failure::new(FailureCode::Internal, detail).into()
}

/// Returns the failure for a member whose record was written by a newer version.
fn needs_newer_version() -> AttemptFailure {
    let detail = "The record of a batch member was written by a newer version.";
    AttemptFailure {
        needs_newer_version: true,
        ..Failure::new(FailureCode::Internal, detail).into()
    }
}

fn unfinished_member() -> AttemptFailure {
    let detail = "A member of the batch is not final, although it was at an earlier check.";
    Failure::new(FailureCode::Internal, detail).into()
}

fn missing_result(name: &str) -> AttemptFailure {
    warn!(name, "the result of a batch member is missing; failing the attempt");
    let detail = "The result of a batch member is no longer stored.";
    Failure { retryable: true, ..Failure::new(FailureCode::SourceGone, detail) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_interval_grows_with_the_age_of_a_batch() {
        let now = clock::now();
        let after = |age: Duration| check_interval(now.checked_sub(age).unwrap(), now);
        assert_eq!(after(Duration::ZERO), CHECK_INTERVAL_MIN);
        assert_eq!(after(Duration::from_secs(80)), Duration::from_secs(10));
        assert_eq!(after(Duration::from_secs(86_400)), CHECK_INTERVAL_MAX);
        // The clocks of two hosts may differ.
        let created_at = now.checked_add(Duration::from_secs(9)).unwrap();
        assert_eq!(check_interval(created_at, now), CHECK_INTERVAL_MIN);
    }
}
