//! Deadline for the broker requests of one HTTP request.

use std::time::Duration;

use wordmill_nats::Error;

use crate::http::problem::{Code, Problem};

/// Maximum time that a request waits for the broker. The rest of 3 s remains for the response.
pub(crate) const BROKER_DEADLINE: Duration = Duration::from_millis(2500);

/// Runs a broker request with [`BROKER_DEADLINE`].
///
/// # Errors
/// `broker_unavailable` after the deadline; other errors as `From<wordmill_nats::Error>` maps them.
pub(crate) async fn with_broker_deadline<T>(
    request: impl Future<Output = Result<T, Error>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(BROKER_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let detail = "The broker did not answer in time. Try again.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        }
    }
}
