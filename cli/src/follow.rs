//! Waits for jobs by long polling.

use hyper::header::{HeaderValue, IF_NONE_MATCH};

use crate::error::Error;
use crate::job::{FetchedJob, Job};
use crate::request::Request;
use crate::session::Session;

/// Length of a long poll in seconds. Most proxies wait longer than that for a response.
const WAIT_S: u64 = 20;

/// Maximum number of jobs that are followed at the same time.
pub(crate) const FOLLOWED_JOBS_MAX: usize = 16;

/// Waits until a job is final. Calls `on_change` with each earlier version of it.
///
/// # Errors
/// Errors of the requests, and [`Error::UnexpectedResponse`] if an unfinished job has no `ETag`.
pub(crate) async fn wait_until_final(
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
        let response = session.client.send(&request).await?;
        // The long poll ended without a change.
        if response.status == 304 {
            continue;
        }
        etag = response.etag().cloned();
        let fetched = FetchedJob::parse(&response)?;
        if fetched.job.is_final() {
            session.remove_unfinished_job(job_id);
            return Ok(fetched);
        }
        if etag.is_none() {
            // Without an `ETag`, the server responds immediately, and this loop would send requests
            // without a pause.
            return Err(response.unexpected("an unfinished job has no ETag"));
        }
        on_change(&fetched.job);
    }
}
