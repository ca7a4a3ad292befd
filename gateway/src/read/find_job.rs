//! Finds a job, wherever its traces are.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use wordmill_common::id::{JobId, JobKey};
use wordmill_common::job::Status;
use wordmill_nats::Error;
use wordmill_nats::job_record::{Lookup, RawRecord, VersionedJob};
use wordmill_nats::stream_read::ReadFrom;

use crate::App;
use crate::auth::caller::Caller;
use crate::http::deadline::with_broker_deadline;
use crate::http::problem::{Code, Problem};

/// The job that a path names, of the caller's.
#[derive(Debug)]
pub(crate) struct JobPath(pub(crate) JobKey);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let id = Path::<String>::from_request_parts(parts, state).await;
        parse_job_key(&caller, id.as_deref().map_or("", |id| id.as_str())).map(Self)
    }
}

/// Reads the id of one of the caller's jobs.
///
/// # Errors
/// `invalid_job_id`.
pub(crate) fn parse_job_key(caller: &Caller, id: &str) -> Result<JobKey, Problem> {
    let detail = "A job id is a UUID, as the submission returned it.";
    let job_id: JobId = id.parse().map_err(|_| Problem::new(Code::InvalidJobId, detail))?;
    Ok(caller.job(job_id))
}

/// Looks for a job: its record, then the queue, then both again on the leader, because replicas may
/// be behind, also with what is not final. At last the record once more, because the job may have
/// been finished in between.
///
/// A job that is queued, and whose record has not been written yet, has one of revision 0.
///
/// # Errors
/// `broker_unavailable`, also if only a newer version can read the job, and `internal` if none can.
pub(crate) async fn find(app: &App, key: &JobKey) -> Result<Lookup<RawRecord>, Problem> {
    with_broker_deadline(search(app, key)).await
}

/// Looks for a job that has to exist.
///
/// # Errors
/// Those of [`require_raw`].
pub(crate) async fn require_job(app: &App, key: &JobKey) -> Result<Box<VersionedJob>, Problem> {
    Ok(require_raw(app, key).await?.read(key)?)
}

/// Gets the record of a job that has to exist, unread.
///
/// # Errors
/// Those of [`find`], and `job_not_found` and `result_expired`.
pub(crate) async fn require_raw(app: &App, key: &JobKey) -> Result<RawRecord, Problem> {
    match find(app, key).await? {
        Lookup::Job(record) => Ok(record),
        Lookup::Deleted => Err(Problem::result_expired()),
        Lookup::NotFound => Err(Problem::new(Code::JobNotFound, "No job has this id.")),
    }
}

/// Looks for a job that has to be final. A replica that is behind may not know yet that it is: the
/// leader decides.
///
/// # Errors
/// Those of [`require_job`], and `job_not_finished`.
pub(crate) async fn require_finished(
    app: &App,
    key: &JobKey,
) -> Result<Box<VersionedJob>, Problem> {
    let stored = match with_broker_deadline(app.store.get_job(key, ReadFrom::Leader)).await? {
        Lookup::Job(stored) => stored,
        // Gone, or queued without a record, or never there.
        Lookup::Deleted | Lookup::NotFound => require_job(app, key).await?,
    };
    if stored.job.status.is_final() {
        return Ok(stored);
    }
    let state = describe_state(stored.job.status);
    let detail = format!("{state}: this is for finished jobs. Cancel it, or wait.");
    Err(Problem::new(Code::JobNotFinished, detail))
}

/// Returns the start of a sentence about a job's state, for example `The job is queued`.
pub(crate) fn describe_state(status: Status) -> String {
    match status {
        Status::Unknown => "The job is in a state that only a newer version knows".to_owned(),
        Status::Queued
        | Status::Running
        | Status::Succeeded
        | Status::Failed
        | Status::Cancelled => format!("The job is {}", status.as_str()),
    }
}

async fn search(app: &App, key: &JobKey) -> Result<Lookup<RawRecord>, Error> {
    for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
        match app.store.get_raw(key, read_from).await? {
            // A replica may be behind: whoever has seen the end must not be told of an earlier
            // state.
            Lookup::Job(record)
                if read_from == ReadFrom::AnyReplica
                    && app.replicas > 1
                    && !record.status.is_final() =>
            {
                continue;
            }
            record @ Lookup::Job(_) => return Ok(record),
            // A message that still waits, of a job that was cancelled and whose record has expired
            // for example, will not be run.
            Lookup::Deleted if read_from == ReadFrom::Leader => return Ok(Lookup::Deleted),
            Lookup::Deleted => continue,
            Lookup::NotFound => {}
        }
        let Some(message) = app.queue.find(key, read_from).await? else {
            continue;
        };
        // A worker may have written the record meanwhile, and even finished.
        return Ok(match app.store.get_raw(key, ReadFrom::Leader).await? {
            Lookup::NotFound => Lookup::Job(RawRecord::of_new_job(&message.queued_job())?),
            record @ (Lookup::Job(_) | Lookup::Deleted) => record,
        });
    }
    // Between the look at the record and the look at the queue the job may have been finished.
    app.store.get_raw(key, ReadFrom::Leader).await
}
