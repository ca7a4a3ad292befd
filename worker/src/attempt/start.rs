//! Rules for beginning an attempt.

use std::time::Duration;

use jiff::Timestamp;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::id::RunNonce;
use wordmill_common::job::{Event, InvalidTransition, Job};

use super::settle::until_due;

/// Tolerance for early deliveries: a job starts immediately if its next attempt is due within this
/// time.
const EARLY_TOLERANCE: Duration = Duration::from_secs(1);

/// Begins the attempt of `run` unless the record already contains it.
pub(super) fn begin(
    worker: &str,
    run: RunNonce,
    started_at: Timestamp,
    job: &mut Job,
) -> Result<(), InvalidTransition> {
    if job.has_begun(run) {
        return Ok(());
    }
    job.apply(Event::Started { run, worker: worker.to_owned() }, started_at)
}

/// Begins the attempt of a redelivered job. `last_run` is the last run in the record as it was
/// read.
///
/// An open attempt of `last_run` was lost with its worker. But if another run has begun since the
/// record was read, that run owns the job. Beginning again would declare that run lost, and could
/// exceed the maximum number of attempts. For example, two workers receive the last attempt of a
/// job at the same time. The slower one finds that the record has changed, and leaves the job to
/// the faster one.
///
/// # Errors
/// [`InvalidTransition`] if another run has begun, or if the job is final.
pub(super) fn begin_again(
    worker: &str,
    last_run: Option<RunNonce>,
    run: RunNonce,
    started_at: Timestamp,
    job: &mut Job,
) -> Result<(), InvalidTransition> {
    let current_run = job.attempts.last().map(|attempt| attempt.run);
    if current_run != last_run && current_run != Some(run) {
        return Err(InvalidTransition { from: job.status, event: "started" });
    }
    begin(worker, run, started_at, job)
}

/// Fails a job that has no attempts left, and marks it as a dead letter.
pub(super) fn fail_for_good(job: &mut Job, now: Timestamp) -> Result<(), InvalidTransition> {
    let last_failure = job.attempts.last().and_then(|attempt| attempt.failure.clone());
    let failure = last_failure.unwrap_or_else(|| {
        let detail = "The worker stopped responding during the attempt.";
        Failure::new(FailureCode::WorkerCrashed, detail)
    });
    job.apply(Event::FailedWithoutRun { failure, dead_lettered: true }, now)
}

/// Returns the time until the next attempt is due if the job was delivered too early.
pub(super) fn remaining_wait(job: &Job) -> Option<Duration> {
    until_due(job).filter(|wait| *wait > EARLY_TOLERANCE)
}

#[cfg(test)]
mod tests {
    use wordmill_common::job::Status;
    use wordmill_common::message::JobMessage;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn queued_job() -> Job {
        let message = include_str!("../../../common/src/golden/message.json");
        serde_json::from_str::<JobMessage>(message).unwrap().queued_job()
    }

    #[test]
    fn a_redelivery_replaces_the_attempt_that_it_has_read() {
        let lost = RunNonce::random();
        let run = RunNonce::random();
        let mut job = queued_job();
        begin_again("a", None, lost, NOW, &mut job).unwrap();
        begin_again("b", Some(lost), run, NOW, &mut job).unwrap();
        assert_eq!(job.attempt_count(), 2);
        assert!(job.is_last_run(run));
        let failure = job.attempts[0].failure.as_ref().unwrap();
        assert_eq!(failure.code, FailureCode::WorkerCrashed);
        // The same write is repeated after an unclear answer.
        begin_again("b", Some(lost), run, NOW, &mut job).unwrap();
        assert_eq!(job.attempt_count(), 2);
        assert!(job.is_last_run(run));
    }

    #[test]
    fn a_redelivery_leaves_the_job_to_a_run_that_began_after_it_read_the_record() {
        let faster = RunNonce::random();
        let run = RunNonce::random();
        let mut job = queued_job();
        begin_again("a", None, faster, NOW, &mut job).unwrap();
        let before = job.clone();
        let error = begin_again("b", None, run, NOW, &mut job).unwrap_err();
        assert_eq!(error, InvalidTransition { from: Status::Running, event: "started" });
        assert_eq!(job, before);
    }
}
