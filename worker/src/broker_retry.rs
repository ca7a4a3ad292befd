//! Retries of requests to the broker while it is unavailable.

use std::time::Duration;

use tokio::time::Instant;
use wordmill_nats::Error;

use crate::Worker;

/// Time limit for retries. A longer one is useless, because the broker has redelivered the job by
/// then.
const RETRY_TIME_MAX: Duration = Duration::from_secs(120);
/// Delay between two tries.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Retries a request while the broker is unavailable, for up to [`RETRY_TIME_MAX`], but not
/// after the grace period of a shutdown.
///
/// # Errors
/// The error of the last try.
pub(crate) async fn retry_while_unavailable<T, F: Future<Output = Result<T, Error>>>(
    worker: &Worker,
    request: impl Fn() -> F,
) -> Result<T, Error> {
    let end = Instant::now() + RETRY_TIME_MAX;
    loop {
        match request().await {
            Err(Error::Unavailable { .. })
                if Instant::now() < end && !worker.interrupt.is_cancelled() =>
            {
                tokio::time::sleep(RETRY_DELAY).await;
            }
            result => return result,
        }
    }
}
