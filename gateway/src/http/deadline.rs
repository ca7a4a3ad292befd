//! How long a request may wait for the broker.

use std::time::Duration;

use wordmill_nats::Error;

use crate::http::problem::{Code, Problem};

/// Longest time that a request may spend on the broker; its answer comes within 3 s.
pub(crate) const BROKER_DEADLINE: Duration = Duration::from_millis(2500);

/// Waits for the broker as long as a request may.
pub(crate) async fn with_broker_deadline<T>(
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(BROKER_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let detail = "The store did not answer in time. Try again.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        }
    }
}
