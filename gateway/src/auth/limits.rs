//! Limits of a caller: a rate limit per API key, and a quota of unfinished jobs per owner.
//!
//! Each gateway counts separately. With three gateways, a key has three times its rate, and an
//! owner can exceed its quota by the jobs that the other gateways accept between two counts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;
use wordmill_common::id::Owner;

use crate::App;
use crate::http::problem::{Code, Problem};

/// Header with the rate limit, from draft-ietf-httpapi-ratelimit-headers.
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Header with the remaining requests, from the same draft.
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Maximum rate and burst. One request per 10 µs is effectively unlimited.
const RATE_MAX: u32 = 100_000;
/// Maximum quota. Counting takes the broker about 1.5 µs per job.
const QUOTA_MAX: u64 = 100_000;
/// Age of a count after which an owner's jobs are counted again.
const RECOUNT_AFTER: Duration = Duration::from_secs(1);
/// Minimum age of a count before another one, even if the quota seems to be exhausted.
const RECOUNT_DELAY_MIN: Duration = Duration::from_millis(100);
/// After a count, counting pauses for this multiple of its duration, so that it takes at most 1/20
/// of the broker's time.
const RECOUNT_DELAY_FACTOR: u32 = 20;
/// `Retry-After` for an owner that has exhausted its quota.
const QUOTA_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Rate limit: requests per second, and the maximum burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// Validates the rate and the burst.
    ///
    /// # Errors
    /// A message for the operator if one of them is out of range.
    pub(crate) fn check(self) -> Result<(), String> {
        let bounds = 1..=RATE_MAX;
        if bounds.contains(&self.per_second) && bounds.contains(&self.burst) {
            return Ok(());
        }
        Err(format!("a rate_limit must have per_second and burst from 1 to {RATE_MAX}"))
    }

    /// Returns the time in which one token is added.
    fn token_interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    /// Returns the time in which an empty bucket becomes full.
    fn refill_time(self) -> Duration {
        self.token_interval().saturating_mul(self.burst)
    }
}

/// Token bucket of one key name, in the virtual-scheduling form: it stores the time at which the
/// bucket will be full instead of the number of tokens.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    rate: Rate,
    /// Time at which the bucket will be full; `None` if it was never used.
    full_at: Mutex<Option<Instant>>,
}

/// Rate-limit decision about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateDecision {
    rate: Rate,
    /// Time until a request is allowed; `None` if this request is allowed.
    retry_after: Option<Duration>,
    remaining: u32,
    full_in: Duration,
}

impl TokenBucket {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, full_at: Mutex::new(None) }
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token for one request, if one is left.
    pub(crate) fn take(&self, now: Instant) -> RateDecision {
        let token_interval = self.rate.token_interval();
        let refill_time = self.rate.refill_time();
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Each missing token delays the time at which the bucket is full by `token_interval`. The
        // bucket is empty if that time is `refill_time` away.
        let owed = full_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let after = owed.saturating_add(token_interval);
        let retry_after = (after > refill_time).then(|| after.saturating_sub(refill_time));
        // A refused request takes no token.
        let full_in = if retry_after.is_none() { after } else { owed };
        *full_at = now.checked_add(full_in);
        let left =
            refill_time.saturating_sub(full_in).as_nanos().checked_div(token_interval.as_nanos());
        let remaining = left.and_then(|left| u32::try_from(left).ok()).unwrap_or(0);
        RateDecision { rate: self.rate, retry_after, remaining, full_in }
    }
}

impl RateDecision {
    /// Returns the problem for a refused request; `None` if the request is allowed.
    pub(crate) fn refusal(&self) -> Option<Problem> {
        let after = self.retry_after?;
        let Rate { per_second, burst } = self.rate;
        let detail = format!(
            "The key exceeded its rate limit of {per_second} requests per second (burst {burst}). \
             Try again after the time in Retry-After."
        );
        let after = Duration::from_secs(round_up_to_seconds(after).max(1));
        Some(Problem::new(Code::RateLimited, detail).retry_after(after))
    }

    /// Adds the headers with the limit and the remaining requests.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap) {
        let refill_s = round_up_to_seconds(self.rate.refill_time());
        let policy = format!("\"requests\";q={};w={refill_s}", self.rate.burst);
        let left =
            format!("\"requests\";r={};t={}", self.remaining, round_up_to_seconds(self.full_in));
        for (name, value) in [(RATELIMIT_POLICY, policy), (RATELIMIT, left)] {
            headers.extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
        }
    }
}

fn round_up_to_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Maximum number of unfinished jobs of an owner, and the last count of them.
#[derive(Debug)]
pub(crate) struct Quota {
    jobs_max: u64,
    /// Locked while the broker counts, so that concurrent submissions share one count.
    count: tokio::sync::Mutex<JobCount>,
}

/// Count of an owner's unfinished jobs.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct JobCount {
    /// Number of unfinished jobs at the last count; 0 before the first one.
    jobs: u64,
    /// Number of jobs that were admitted since the last count.
    admitted: u64,
    counted_at: Option<Instant>,
    /// Duration of the last count.
    took: Duration,
}

impl Quota {
    /// Validates a quota.
    ///
    /// # Errors
    /// A message for the operator if it is out of range.
    pub(crate) fn check(jobs_max: u64) -> Result<(), String> {
        if (1..=QUOTA_MAX).contains(&jobs_max) {
            return Ok(());
        }
        Err(format!("a queue_quota must be 1 to {QUOTA_MAX} jobs"))
    }

    pub(crate) fn new(jobs_max: u64) -> Self {
        Self { jobs_max, count: tokio::sync::Mutex::default() }
    }

    pub(crate) fn max(&self) -> u64 {
        self.jobs_max
    }
}

impl JobCount {
    fn is_due(&self, jobs_max: u64, now: Instant) -> bool {
        let Some(counted_at) = self.counted_at else { return true };
        // The last count may include jobs that are final by now. If it exhausts the quota, count
        // again early, before a job is refused.
        let is_full = self.jobs + self.admitted >= jobs_max;
        let delay = if is_full { RECOUNT_DELAY_MIN } else { RECOUNT_AFTER };
        let rest = self.took.saturating_mul(RECOUNT_DELAY_FACTOR);
        now.saturating_duration_since(counted_at) >= delay.max(rest)
    }
}

/// Admits a job unless its owner has exhausted its quota.
///
/// Unfinished jobs are those whose message is in the queue: jobs that wait, jobs that are running,
/// and cancelled jobs that no worker has received yet.
///
/// # Errors
/// `quota_exceeded`.
pub(crate) async fn admit(app: &App, owner: &Owner) -> Result<(), Problem> {
    let Some(quota) = app.keys.quota(owner) else { return Ok(()) };
    // Held across the await on purpose: submissions of the same owner wait for one count.
    let mut count = quota.count.lock().await;
    if count.is_due(quota.jobs_max, Instant::now()) {
        let began = Instant::now();
        let unfinished = app.queue.count_unfinished(owner).await;
        let counted_at = Some(Instant::now());
        let took = began.elapsed();
        match unfinished {
            Ok(jobs) => *count = JobCount { jobs, admitted: 0, counted_at, took },
            // Use the last count: if the broker is unavailable, the submission fails anyway.
            Err(error) => {
                warn!(%owner, %error, "cannot count the jobs of an owner; using the last count");
                (count.counted_at, count.took) = (counted_at, took);
            }
        }
    }
    if count.jobs + count.admitted < quota.jobs_max {
        // The last count does not include this job yet.
        count.admitted += 1;
        return Ok(());
    }
    let detail = format!(
        "The owner {owner} has reached its quota of {} unfinished jobs. Nothing was queued. Try \
         again when a job has finished.",
        quota.jobs_max
    );
    Err(Problem::new(Code::QuotaExceeded, detail).retry_after(QUOTA_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 4, burst: 3 };

    fn decide(bucket: &TokenBucket, start: Instant, ms: u64) -> (bool, u32) {
        let decision = bucket.take(start + Duration::from_millis(ms));
        (decision.retry_after.is_none(), decision.remaining)
    }

    #[test]
    fn a_burst_is_allowed_and_then_one_request_per_interval() {
        let bucket = TokenBucket::new(RATE);
        let start = Instant::now();
        for (ms, expected) in [
            (0, (true, 2)),
            (0, (true, 1)),
            (0, (true, 0)),
            (0, (false, 0)),
            (249, (false, 0)),
            (250, (true, 0)),
            (251, (false, 0)),
            // Refused requests take no token.
            (500, (true, 0)),
            // The bucket is full again, and does not exceed the burst.
            (60_000, (true, 2)),
            (60_000, (true, 1)),
            (60_250, (true, 1)),
        ] {
            assert_eq!(decide(&bucket, start, ms), expected, "after {ms} ms");
        }
    }

    #[test]
    fn a_clock_that_goes_backwards_grants_no_requests() {
        let bucket = TokenBucket::new(RATE);
        let start = Instant::now();
        assert_eq!(decide(&bucket, start, 1000), (true, 2));
        assert_eq!(decide(&bucket, start, 0), (false, 0));
        assert_eq!(decide(&bucket, start, 1000), (true, 1));
    }

    #[test]
    fn the_headers_are_structured_fields_in_whole_seconds() {
        let bucket = TokenBucket::new(RATE);
        let start = Instant::now();
        let mut headers = HeaderMap::new();
        bucket.take(start).add_headers(&mut headers);
        assert_eq!(headers["ratelimit-policy"], "\"requests\";q=3;w=1");
        assert_eq!(headers["ratelimit"], "\"requests\";r=2;t=1");
        bucket.take(start);
        bucket.take(start);
        assert!(
            bucket.take(start).refusal().is_some_and(|problem| problem.has_code(Code::RateLimited))
        );
        for rate in [Rate { burst: RATE_MAX, ..RATE }, Rate { per_second: RATE_MAX, ..RATE }] {
            assert_eq!(rate.check(), Ok(()));
            assert_eq!(TokenBucket::new(rate).take(start).remaining, rate.burst - 1);
        }
    }

    #[test]
    fn counting_is_rare_but_precedes_a_refusal() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let count = |jobs, admitted, took| JobCount {
            jobs,
            admitted,
            counted_at: Some(start),
            took: ms(took),
        };
        assert!(JobCount::default().is_due(5, start));
        for (count, after_ms) in [
            (count(0, 0, 1), 1000),
            (count(4, 0, 1), 1000),
            (count(4, 1, 1), 100),
            (count(9, 9, 1), 100),
            (count(4, 1, 50), 1000),
            (count(0, 0, 200), 4000),
        ] {
            assert!(!count.is_due(5, start + ms(after_ms - 1)), "{count:?}");
            assert!(count.is_due(5, start + ms(after_ms)), "{count:?}");
        }
    }
}
