//! Waiting for jobs to end.

use hyper::header::{HeaderValue, IF_NONE_MATCH};

use crate::error::Error;
use crate::job::{FetchedJob, Job};
use crate::request::Request;
use crate::session::Session;

/// How long the server is asked to wait for a change, in seconds: less than proxies wait for an answer.
const WAIT_S: u64 = 20;

/// How many jobs are followed at once.
pub(crate) const FOLLOWED_JOBS_MAX: usize = 16;

/// Waits until a job has ended; each change on the way is `noticed`.
///
/// # Errors
/// Those of the requests.
pub(crate) async fn wait_for_end(
    session: &Session,
    job_id: &str,
    noticed: impl Fn(&Job),
) -> Result<FetchedJob, Error> {
    let mut etag: Option<HeaderValue> = None;
    loop {
        let mut request = Request::get(&["v1", "jobs", job_id]).wait(WAIT_S);
        if let Some(etag) = &etag {
            request = request.header(IF_NONE_MATCH, etag.clone());
        }
        let answer = session.client.send(&request).await?;
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
            // Not to ask in a circle.
            return Err(answer.unexpected("an unfinished job has no ETag"));
        }
        noticed(&fetched.job);
    }
}
