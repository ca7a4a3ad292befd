//! What an attempt asks of the stores, again and again while the broker is away.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;
use tracing::debug;
use wordmill_common::explanation::Explanation;
use wordmill_common::histogram::Histogram;
use wordmill_common::id::RunNonce;
use wordmill_common::job::{ExplanationRef, ResultRef};
use wordmill_common::message::JobMessage;
use wordmill_common::raw_json::RawJson;
use wordmill_nats::Error;

use crate::Worker;

/// Largest histogram, as JSON, that is kept in the record itself.
///
/// Measured: at this size writing it there saves 0.8 ms of the 1.3 ms that an object takes, and costs
/// 0.4 ms for every later look at the job. See docs/adr/0009.
const INLINE_RESULT_BYTES_MAX: usize = 32 << 10;
/// Largest explanation that is kept in the record, in bytes of JSON.
const INLINE_EXPLANATION_BYTES_MAX: usize = 16 << 10;
/// How long a broker that is away is waited for, to be told what a job came to. By then the
/// delivery is repeated anyway.
const BROKER_AWAY_MAX: Duration = Duration::from_secs(120);
/// Wait between two tries to reach it.
const BROKER_PAUSE: Duration = Duration::from_millis(500);

/// Puts the histogram of a run where it fits.
///
/// # Errors
/// Those of [`Results::put`](wordmill_nats::results::Results::put).
pub(crate) async fn keep(
    worker: &Worker,
    message: &JobMessage,
    run: RunNonce,
    word_count: Histogram,
) -> Result<ResultRef, Error> {
    if let Some(word_count) = RawJson::histogram_up_to(&word_count, INLINE_RESULT_BYTES_MAX) {
        return Ok(ResultRef::Inline { word_count });
    }
    let (key, word_count) = (message.key(), Arc::new(word_count));
    let name =
        retry_while_unavailable(worker, || worker.results.put(&key, run, &word_count)).await?;
    Ok(ResultRef::Object { name })
}

/// Writes what goes into the record as it is.
///
/// # Errors
/// [`Error::Corrupt`] if it is no JSON, which no words can cause.
pub(crate) fn written<T: Serialize>(what: &str, value: &T) -> Result<RawJson<T>, Error> {
    let corrupt = |error: serde_json::Error| Error::Corrupt {
        what: what.to_owned(),
        reason: error.to_string(),
    };
    RawJson::of(value).map_err(corrupt)
}

/// Puts the explanation of a run where it fits.
///
/// # Errors
/// Those of [`Results::put`](wordmill_nats::results::Results::put).
pub(crate) async fn keep_explanation(
    worker: &Worker,
    message: &JobMessage,
    run: RunNonce,
    explanation: Explanation,
) -> Result<ExplanationRef, Error> {
    if fits(&explanation, INLINE_EXPLANATION_BYTES_MAX) {
        return Ok(ExplanationRef::Inline { explanation });
    }
    let (key, explanation) = (message.key(), Arc::new(explanation));
    let put = || worker.results.put_explanation(&key, run, &explanation);
    let name = retry_while_unavailable(worker, put).await?;
    Ok(ExplanationRef::Object { name })
}

/// Tells whether a value takes at most so many bytes as JSON, and looks no further than that.
fn fits(value: &impl Serialize, bytes_max: usize) -> bool {
    let mut space = vec![0; bytes_max];
    serde_json::to_writer(space.as_mut_slice(), value).is_ok()
}

/// Removes the document of a job that is final. Without an answer it is left to the sweeper.
pub(crate) async fn remove_document(worker: &Worker, name: Option<&str>) {
    let Some(name) = name else { return };
    if let Err(error) = worker.documents.remove(name).await {
        debug!(%error, "a document is left to the sweeper");
    }
}

/// Asks the broker again and again while it is away, but not during a shutdown.
pub(crate) async fn retry_while_unavailable<T, F: Future<Output = Result<T, Error>>>(
    worker: &Worker,
    ask: impl Fn() -> F,
) -> Result<T, Error> {
    let end = Instant::now() + BROKER_AWAY_MAX;
    loop {
        match ask().await {
            Err(Error::Unavailable { .. })
                if Instant::now() < end && !worker.interrupted.is_cancelled() =>
            {
                tokio::time::sleep(BROKER_PAUSE).await;
            }
            answer => return answer,
        }
    }
}
