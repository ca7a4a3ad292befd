//! Waiting for jobs by long polls.

use hyper::header::{HeaderValue, IF_NONE_MATCH};

use crate::error::Error;
use crate::job::{FetchedJob, Job};
use crate::request::Request;
use crate::session::Session;

/// Length of a long poll in seconds. Proxies usually wait longer for a response.
const WAIT_S: u64 = 20;

/// Maximum number of jobs that are followed at the same time.
pub(crate) const FOLLOWED_JOBS_MAX: usize = 16;

/// Waits until a job is final. Calls `on_change` with each earlier version of it.
///
/// # Errors
/// Errors of the requests, and [`Error::UnexpectedAnswer`] if an unfinished job has no `ETag`.
pub(crate) async fn wait_for_end(
    session: &Session,
    job_id: &str,
    on_change: impl Fn(&Job),
) -> Result<FetchedJob, Error> {
    let mut etag: Option<HeaderValue> = None;
    loop {
        let mut request = Request::get(&["v1", "jobs", job_id]).wait(WAIT_S);
        if let Some(etag) = &etag {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        let answer = session.client.send(&request).await?;
        // The long poll ended without a change.
        if answer.status == 304 {
            continue;
        }
        etag = answer.etag().cloned();
        let fetched = FetchedJob::of(&answer)?;
        if fetched.job.is_final() {
            session.forget_job(job_id);
            return Ok(fetched);
        }
        if etag.is_none() {
            // Without an `ETag` the server answers immediately, and this would be a busy loop.
            return Err(answer.unexpected("an unfinished job has no ETag"));
        }
        on_change(&fetched.job);
    }
}
