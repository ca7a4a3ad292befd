//! Requests to the broker that are repeated while the broker is away.

use std::time::Duration;

use tokio::time::Instant;
use wordmill_nats::Error;

use crate::Worker;

/// How long requests are repeated while the broker is away. Longer makes no sense, because the
/// broker redelivers the job by then.
const BROKER_AWAY_TIME_MAX: Duration = Duration::from_secs(120);
/// Pause between two tries to reach the broker.
const BROKER_PAUSE: Duration = Duration::from_millis(500);

/// Repeats a request while the broker is away, but not during a shutdown.
pub(crate) async fn retry_while_unavailable<T, F: Future<Output = Result<T, Error>>>(
    worker: &Worker,
    request: impl Fn() -> F,
) -> Result<T, Error> {
    let end = Instant::now() + BROKER_AWAY_TIME_MAX;
    loop {
        match request().await {
            Err(Error::Unavailable { .. })
                if Instant::now() < end && !worker.interrupt.is_cancelled() =>
            {
                tokio::time::sleep(BROKER_PAUSE).await;
            }
            result => return result,
        }
    }
}
