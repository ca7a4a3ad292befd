//! Finds a job by its record or by its message in the queue.

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

/// Key of the caller's job with the id in the path.
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

/// Parses the id of one of the caller's jobs.
///
/// # Errors
/// `invalid_job_id` if it is not a UUID.
pub(crate) fn parse_job_key(caller: &Caller, id: &str) -> Result<JobKey, Problem> {
    let detail = "The job id is not a UUID.";
    let job_id: JobId = id.parse().map_err(|_| Problem::new(Code::InvalidJobId, detail))?;
    Ok(caller.job_key(job_id))
}

/// Finds a job by its record, then by its message in the queue. Replicas are read first. Unless
/// they return a final record, the leaders are read as well, because replicas may lag. Finally the
/// record is read once more: the job may have become final between the reads of the record and the
/// queue.
///
/// A queued job without a record yet is returned with revision 0.
///
/// # Errors
/// `broker_unavailable`, even if only a newer version can read the job, and `internal` if its
/// record or message is corrupt.
pub(crate) async fn find(app: &App, key: &JobKey) -> Result<Lookup<RawRecord>, Problem> {
    with_broker_deadline(search(app, key)).await
}

/// Finds a job that must exist, and parses its record.
///
/// # Errors
/// Those of [`require_raw`].
pub(crate) async fn require_job(app: &App, key: &JobKey) -> Result<Box<VersionedJob>, Problem> {
    Ok(require_raw(app, key).await?.read(key)?)
}

/// Returns the unparsed record of a job that must exist.
///
/// # Errors
/// Those of [`find`], `job_not_found`, and `result_expired` if the job was deleted or has expired.
pub(crate) async fn require_raw(app: &App, key: &JobKey) -> Result<RawRecord, Problem> {
    match find(app, key).await? {
        Lookup::Job(record) => Ok(record),
        Lookup::Deleted => Err(Problem::result_expired()),
        Lookup::NotFound => Err(Problem::new(Code::JobNotFound, "No job has this id.")),
    }
}

/// Finds a job that must be final. Reads from the leader, because a replica may not have the final
/// record yet.
///
/// # Errors
/// Those of [`require_job`], and `job_not_finished` if the job is not final.
pub(crate) async fn require_final(app: &App, key: &JobKey) -> Result<Box<VersionedJob>, Problem> {
    let stored = match with_broker_deadline(app.store.get_job(key, ReadFrom::Leader)).await? {
        Lookup::Job(stored) => stored,
        // Deleted, queued without a record, or unknown.
        Lookup::Deleted | Lookup::NotFound => require_job(app, key).await?,
    };
    if stored.job.status.is_final() {
        return Ok(stored);
    }
    let status = describe_status(stored.job.status);
    let detail =
        format!("{status}, but this request requires a final job. Wait for it, or cancel it.");
    Err(Problem::new(Code::JobNotFinished, detail))
}

/// Returns the start of a sentence about the status of a job, for example `The job is queued`.
pub(crate) fn describe_status(status: Status) -> String {
    match status {
        Status::Unknown => "The job has a status that this version does not support".to_owned(),
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
            // The replica may lag: a client that has seen the final record must not see an earlier
            // one.
            Lookup::Job(record)
                if read_from == ReadFrom::AnyReplica
                    && app.replicas > 1
                    && !record.status.is_final() =>
            {
                continue;
            }
            record @ Lookup::Job(_) => return Ok(record),
            // The message of a deleted job may still be queued, for example if it was cancelled and
            // its record has expired. No worker runs it.
            Lookup::Deleted if read_from == ReadFrom::Leader => return Ok(Lookup::Deleted),
            Lookup::Deleted => continue,
            Lookup::NotFound => {}
        }
        let Some(message) = app.queue.find(key, read_from).await? else {
            continue;
        };
        // Since the first read, a worker may have created the record and even finished the job.
        return Ok(match app.store.get_raw(key, ReadFrom::Leader).await? {
            Lookup::NotFound => Lookup::Job(RawRecord::of_new_job(&message.queued_job())?),
            record @ (Lookup::Job(_) | Lookup::Deleted) => record,
        });
    }
    // The job may have become final between the reads of the record and of the queue.
    app.store.get_raw(key, ReadFrom::Leader).await
}
