//! Whether and how an attempt begins.

use std::time::Duration;

use jiff::Timestamp;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::id::RunNonce;
use wordmill_common::job::{Event, InvalidTransition, Job};

use super::settle::until_due;

/// A job is delivered this much before its next attempt is due without being sent back.
const EARLY_TOLERANCE: Duration = Duration::from_secs(1);

/// Opens the attempt of `run` unless the record has it already.
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

/// Opens the attempt of a redelivered job. `last` is the last run of the record as it was read.
///
/// An attempt of that run that is still open was lost with its worker. But if another run has begun
/// since the record was read, it has the job: to begin as well would declare it lost, and could
/// exceed the number of attempts. Example: two workers receive the last attempt of a job at the same
/// time; the slower one finds the record changed, and leaves the job to the faster one.
///
/// # Errors
/// If another run has begun, or the job is final.
pub(super) fn begin_again(
    worker: &str,
    last: Option<RunNonce>,
    run: RunNonce,
    started_at: Timestamp,
    job: &mut Job,
) -> Result<(), InvalidTransition> {
    let now_last = job.attempts.last().map(|attempt| attempt.run);
    if now_last != last && now_last != Some(run) {
        return Err(InvalidTransition { from: job.status, event: "started" });
    }
    begin(worker, run, started_at, job)
}

/// Ends a job that has no attempts left.
pub(super) fn abandon(job: &mut Job, now: Timestamp) -> Result<(), InvalidTransition> {
    let last = job.attempts.last().and_then(|attempt| attempt.failure.clone());
    let failure = last.unwrap_or_else(|| {
        let detail = "Every worker that started the job went away before it was done.";
        Failure::new(FailureCode::WorkerCrashed, detail)
    });
    job.apply(Event::Abandoned { failure, dead_lettered: true }, now)
}

/// Returns how long a job still has to wait, if it was delivered before its time.
pub(super) fn early(job: &Job) -> Option<Duration> {
    until_due(job).filter(|wait| *wait > EARLY_TOLERANCE)
}

#[cfg(test)]
mod tests {
    use wordmill_common::job::Status;
    use wordmill_common::message::JobMessage;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn queued() -> Job {
        let message = include_str!("../../../common/src/golden/message.json");
        serde_json::from_str::<JobMessage>(message).unwrap().queued_job()
    }

    /// Returns the number of attempts, and whether the last one is that of `run`.
    fn attempts(job: &Job, run: RunNonce) -> (u32, bool) {
        (job.attempt_count(), job.last_run_is(run))
    }

    #[test]
    fn a_redelivery_replaces_the_attempt_that_it_has_read() {
        let (lost, run) = (RunNonce::random(), RunNonce::random());
        let mut job = queued();
        begin_again("a", None, lost, NOW, &mut job).unwrap();
        begin_again("b", Some(lost), run, NOW, &mut job).unwrap();
        assert_eq!(attempts(&job, run), (2, true));
        let failure = job.attempts[0].failure.as_ref().unwrap();
        assert_eq!(failure.code, FailureCode::WorkerCrashed);
        // Its own write, repeated after an unclear answer.
        begin_again("b", Some(lost), run, NOW, &mut job).unwrap();
        assert_eq!(attempts(&job, run), (2, true));
    }

    #[test]
    fn a_redelivery_leaves_the_job_to_a_run_that_began_after_it_read_the_record() {
        let (faster, run) = (RunNonce::random(), RunNonce::random());
        let mut job = queued();
        begin_again("a", None, faster, NOW, &mut job).unwrap();
        let before = job.clone();
        let refused = begin_again("b", None, run, NOW, &mut job).unwrap_err();
        assert_eq!(refused, InvalidTransition { from: Status::Running, event: "started" });
        assert_eq!(job, before);
    }
}
