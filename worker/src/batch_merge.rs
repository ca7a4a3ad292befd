//! Batches: looks how far the members are, and adds up what they found.
//!
//! A batch that has to wait for its members is sent back with a delay, which grows with its age. Such a
//! look is no attempt, and occupies a slot for as long as it takes to read some records. Only when all
//! members are final does an attempt begin, like any other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tracing::{debug, error, warn};
use wordmill_common::batch::{Batch, BatchProgress, Counts};
use wordmill_common::clock;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::histogram::{Histogram, Rule, Totals};
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

use crate::keep_alive::{self, Meter};
use crate::outcome::{AttemptFailure, CountResult};
use crate::{Worker, broker_retry};

/// How many records are asked for at once. With results in them, of 32 KiB at most, they are what is
/// held in memory besides the table.
const READS_MAX: usize = 64;
/// How long a batch waits at least until its members are looked at again.
const LOOK_MIN: Duration = Duration::from_millis(500);
/// How long at most.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// What part of its age a batch waits: it is done at most that much later than its members.
const LOOK_PART: u32 = 8;

/// What a look at the members leads to.
pub(crate) enum BatchCheck {
    /// All are final: they can be added up.
    Ready,
    /// The record says how far they are.
    Noted(Outcome),
    /// Nothing has changed. Look again after this time.
    Unchanged(Duration),
}

/// Looks at the members that were not final yet.
///
/// # Errors
/// If the broker does not answer.
pub(crate) async fn check_members(
    worker: &Worker,
    delivery: &Delivery,
    batch: &Batch,
    current: VersionedJob,
) -> Result<BatchCheck, Error> {
    let known = current.job.members.clone().unwrap_or_default();
    let meter = Meter::new(Stage::Count);
    let surveying = survey(worker, &current.job.owner, batch, known.clone(), &meter);
    let members = tokio::select! {
        biased;
        members = surveying => members?,
        failure = keep_alive::hold(delivery, &meter, worker.attempt_deadline) => {
            warn!(reason = failure.detail, "the members of a batch could not be looked at");
            return Ok(BatchCheck::Unchanged(LOOK_MAX));
        }
    };
    if members.counts.queued == 0 && members.counts.running == 0 {
        return Ok(BatchCheck::Ready);
    }
    let wait = pause(current.job.created_at, clock::now());
    if members == known {
        return Ok(BatchCheck::Unchanged(wait));
    }
    let change = |job: &mut Job, now: Timestamp| {
        let next_look_at = now.checked_add(wait).unwrap_or(now);
        job.apply(Event::Surveyed { members: members.clone(), next_look_at }, now)
    };
    Ok(BatchCheck::Noted(worker.store.apply(&current, None, change).await?))
}

/// Returns how long to wait before the next look at the members of a batch of this age.
fn pause(created_at: Timestamp, now: Timestamp) -> Duration {
    let age = Duration::try_from(now.duration_since(created_at)).unwrap_or_default();
    (age / LOOK_PART).clamp(LOOK_MIN, LOOK_MAX)
}

/// Brings what is known of the members up to date.
///
/// A replica that is behind does no harm: what it says of a final record holds for ever, and whatever
/// else it says leads to another look.
async fn survey(
    worker: &Worker,
    owner: &Owner,
    batch: &Batch,
    mut known: BatchProgress,
    meter: &Meter,
) -> Result<BatchProgress, Error> {
    let Counts { succeeded, failed, cancelled, gone, .. } = known.counts;
    let refused = batch.refused.count();
    known.counts = Counts { queued: 0, running: 0, succeeded, failed, cancelled, gone, refused };
    let open: Vec<_> =
        batch.members(owner).filter(|(line, _)| !known.settled.contains(*line)).collect();
    let mut done = 0;
    for some in open.chunks(READS_MAX) {
        for ((line, _), found) in some.iter().zip(read(worker, owner, some).await) {
            let counts = &mut known.counts;
            let (count, is_final) = match found? {
                Lookup::Job(stored) => match stored.job.status {
                    Status::Queued => (&mut counts.queued, false),
                    // A state that only a newer version knows is not final to this one.
                    Status::Running | Status::Unknown => (&mut counts.running, false),
                    Status::Succeeded => (&mut counts.succeeded, true),
                    Status::Failed => (&mut counts.failed, true),
                    Status::Cancelled => (&mut counts.cancelled, true),
                },
                // It is queued, and its record not written yet.
                Lookup::NotFound => (&mut counts.queued, false),
                Lookup::Deleted => (&mut counts.gone, true),
            };
            *count = count.saturating_add(1);
            if is_final {
                known.settled.add(*line);
            }
            done += 1;
        }
        meter.set_done(done);
    }
    Ok(known)
}

/// Reads the records of some members at once.
async fn read(
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

/// Adds up what the members of a batch found, all of which are final.
///
/// # Errors
/// `too_many_unique_words`; what the broker leaves open, and a result that is missing, is tried again; members that were counted by
/// different versions of a rule cannot be added up.
pub(crate) async fn merge(
    worker: &Worker,
    message: &JobMessage,
    batch: &Batch,
    meter: &Meter,
) -> Result<CountResult, AttemptFailure> {
    let mut sum = BatchSum::default();
    sum.survey.counts.refused = batch.refused.count();
    let members: Vec<_> = batch.members(&message.owner).collect();
    for some in members.chunks(READS_MAX) {
        for ((line, job_id), found) in some.iter().zip(read(worker, &message.owner, some).await) {
            let key = JobKey { owner: message.owner.clone(), job_id: *job_id };
            let found = match found.map_err(|error| unread(&error))? {
                // A replica may be behind: the leader knows.
                Lookup::Job(stored) if !stored.job.status.is_final() => {
                    leader(worker, &key).await?
                }
                Lookup::NotFound => leader(worker, &key).await?,
                found @ (Lookup::Job(_) | Lookup::Deleted) => found,
            };
            sum.add(worker, *line, found).await?;
            meter.set_done(sum.size_bytes);
        }
    }
    sum.finish(worker, message, batch).await
}

async fn leader(worker: &Worker, key: &JobKey) -> Result<Lookup, AttemptFailure> {
    let read = || worker.store.get_job(key, ReadFrom::Leader);
    broker_retry::retry_while_unavailable(worker, read).await.map_err(|error| unread(&error))
}

/// What the members found, so far.
#[derive(Default)]
struct BatchSum {
    words: HashMap<String, u64>,
    totals: Totals,
    by_rule: BTreeMap<String, u64>,
    by_scope: BTreeMap<String, u64>,
    rule: Option<Rule>,
    size_bytes: u64,
    survey: BatchProgress,
}

impl BatchSum {
    async fn add(
        &mut self,
        worker: &Worker,
        line: u32,
        found: Lookup,
    ) -> Result<(), AttemptFailure> {
        let counts = &mut self.survey.counts;
        let (count, job) = match found {
            Lookup::Deleted | Lookup::NotFound => (&mut counts.gone, None),
            Lookup::Job(stored) => match stored.job.status {
                Status::Succeeded => (&mut counts.succeeded, Some(stored.job)),
                Status::Failed => (&mut counts.failed, None),
                Status::Cancelled => (&mut counts.cancelled, None),
                Status::Queued | Status::Running => return Err(unfinished()),
                Status::Unknown => return Err(needs_newer_version()),
            },
        };
        *count = count.saturating_add(1);
        self.survey.settled.add(line);
        match job {
            Some(job) => self.add_counted(worker, job).await,
            None => Ok(()),
        }
    }

    async fn add_counted(&mut self, worker: &Worker, job: Job) -> Result<(), AttemptFailure> {
        if let (Some(known), Some(rule)) = (&self.rule, &job.rule)
            && known != rule
        {
            return Err(mixed(known, rule));
        }
        let key = job.key();
        self.rule = self.rule.take().or(job.rule);
        let found = job.totals.unwrap_or_default();
        let sums = &mut self.totals;
        for (sum, more) in [
            (&mut sums.words, found.words),
            (&mut sums.characters, found.characters),
            (&mut sums.characters_no_spaces, found.characters_no_spaces),
            (&mut sums.overlong_words, found.overlong_words),
            (&mut self.size_bytes, job.source.size_bytes.unwrap_or(0)),
        ] {
            *sum = sum.saturating_add(more);
        }
        add_all(&mut self.by_rule, job.totals_by_rule.unwrap_or_default());
        add_all(&mut self.by_scope, job.totals_by_scope.unwrap_or_default());
        match job.result {
            Some(ResultRef::Inline { word_count }) => {
                let words = results::inline(&key, &word_count).map_err(|error| unread(&error))?;
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
        let packed =
            broker_retry::retry_while_unavailable(worker, || worker.results.read(name)).await;
        // Whoever deletes a member removes its result first, and its record then: the next attempt
        // finds neither. If the record stays, an operator has removed the result.
        let packed = packed.map_err(|error| unread(&error))?.ok_or_else(|| lost(name))?;
        let mut entries = packed.entries().map_err(|error| unread(&error))?;
        while let Some((word, count)) = entries.next().await.map_err(|error| unread(&error))? {
            self.add_word(word, count)?;
        }
        Ok(())
    }

    fn add_word(&mut self, word: String, count: u64) -> Result<(), AttemptFailure> {
        let sum = self.words.entry(word).or_default();
        *sum = sum.saturating_add(count);
        if self.words.len() > UNIQUE_WORDS_MAX {
            let detail = format!("The batch has more than {UNIQUE_WORDS_MAX} different words.");
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
        // Sorting millions of words takes a while.
        let sorting = tokio::task::spawn_blocking(move || Histogram::from(words));
        let histogram = sorting.await.map_err(|panic| {
            error!(%panic, worker = %worker.name, "the words of a batch cannot be sorted");
            Failure::new(FailureCode::Internal, "The service failed while it added up the batch.")
        })?;
        let unique_words = u64::try_from(histogram.len()).unwrap_or(u64::MAX);
        let described = message.source.describe();
        debug!(members = batch.lines, unique_words, "a batch is added up");
        Ok(CountResult {
            totals: Totals { unique_words, ..self.totals },
            totals_by_rule: self.by_rule,
            totals_by_scope: self.by_scope,
            histogram,
            explanation: None,
            rule: self.rule.unwrap_or_else(|| wordmill_count::rule(message.options.rule)),
            source: SourceInfo { size_bytes: Some(self.size_bytes), ..described },
            members: Some(self.survey),
        })
    }
}

fn add_all(sums: &mut BTreeMap<String, u64>, found: BTreeMap<String, u64>) {
    for (name, more) in found {
        let sum = sums.entry(name).or_default();
        *sum = sum.saturating_add(more);
    }
}

/// The broker left something open: another attempt may read it.
fn unread(error: &Error) -> AttemptFailure {
    debug!(%error, "what a member found cannot be read");
    if matches!(error, Error::Newer { .. }) {
        return needs_newer_version();
    }
    let detail = "What a member of the batch found could not be read.";
    Failure::new(FailureCode::Internal, detail).into()
}

/// The record of a member was written by a newer version.
fn needs_newer_version() -> AttemptFailure {
    let detail = "A member of the batch was written by a newer version of the service.";
    AttemptFailure {
        needs_newer_version: true,
        ..Failure::new(FailureCode::Internal, detail).into()
    }
}

fn unfinished() -> AttemptFailure {
    let detail = "A member of the batch is not finished, although it was.";
    Failure::new(FailureCode::Internal, detail).into()
}

fn lost(name: &str) -> AttemptFailure {
    warn!(name, "the result of a member of a batch is not there");
    let detail = "What a member of the batch found is not kept any more.";
    Failure { retryable: true, ..Failure::new(FailureCode::SourceGone, detail) }.into()
}

fn mixed(one: &Rule, other: &Rule) -> AttemptFailure {
    let version =
        |rule: &Rule| format!("{} version {} ({})", rule.name, rule.version, rule.unicode);
    let detail = format!(
        "The members were counted by {} and by {}: their sum would be no rule's. Submit the batch \
         again.",
        version(one),
        version(other)
    );
    Failure { retryable: false, ..Failure::new(FailureCode::Internal, detail) }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_a_part_of_its_age_within_bounds() {
        let now = clock::now();
        let after = |age: Duration| pause(now.checked_sub(age).unwrap(), now);
        assert_eq!(after(Duration::ZERO), LOOK_MIN);
        assert_eq!(after(Duration::from_secs(80)), Duration::from_secs(10));
        assert_eq!(after(Duration::from_secs(86_400)), LOOK_MAX);
        // Two clocks may disagree.
        assert_eq!(pause(now.checked_add(Duration::from_secs(9)).unwrap(), now), LOOK_MIN);
    }
}
