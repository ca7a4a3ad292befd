//! Stores the results of an attempt: in the record, or as objects if they are large.

use std::sync::Arc;

use serde::Serialize;
use tracing::debug;
use wordmill_common::explanation::Explanation;
use wordmill_common::histogram::Histogram;
use wordmill_common::id::RunNonce;
use wordmill_common::job::{ExplanationRef, ResultRef};
use wordmill_common::message::JobMessage;
use wordmill_common::raw_json::RawJson;
use wordmill_nats::Error;

use crate::Worker;
use crate::broker_retry::retry_while_unavailable;

/// Maximum size of a histogram that is stored in the record, in bytes of JSON.
///
/// At this size, the record saves 0.8 of the 1.3 ms for storing an object, and adds 0.4 ms to each
/// later read of the job (docs/adr/0009).
const INLINE_RESULT_BYTES_MAX: usize = 32 << 10;
/// Maximum size of an explanation that is stored in the record, in bytes of JSON.
const INLINE_EXPLANATION_BYTES_MAX: usize = 16 << 10;

/// Stores the histogram of a run: in the record if it is small, otherwise as an object.
///
/// # Errors
/// Those of [`Results::put`](wordmill_nats::results::Results::put).
pub(crate) async fn store_result(
    worker: &Worker,
    message: &JobMessage,
    run: RunNonce,
    word_count: Histogram,
) -> Result<ResultRef, Error> {
    if let Some(word_count) = RawJson::histogram_up_to(&word_count, INLINE_RESULT_BYTES_MAX) {
        return Ok(ResultRef::Inline { word_count });
    }
    let key = message.key();
    let word_count = Arc::new(word_count);
    let name =
        retry_while_unavailable(worker, || worker.results.put(&key, run, &word_count)).await?;
    Ok(ResultRef::Object { name })
}

/// Serializes a field of the record.
///
/// # Errors
/// [`Error::Corrupt`] if the value cannot be serialized. Words never cause this.
pub(crate) fn serialize<T: Serialize>(what: &str, value: &T) -> Result<RawJson<T>, Error> {
    let corrupt = |error: serde_json::Error| Error::Corrupt {
        what: what.to_owned(),
        reason: error.to_string(),
    };
    RawJson::from_value(value).map_err(corrupt)
}

/// Stores the explanation of a run: in the record if it is small, otherwise as an object.
///
/// # Errors
/// Those of [`Results::put`](wordmill_nats::results::Results::put).
pub(crate) async fn store_explanation(
    worker: &Worker,
    message: &JobMessage,
    run: RunNonce,
    explanation: Explanation,
) -> Result<ExplanationRef, Error> {
    if is_within(&explanation, INLINE_EXPLANATION_BYTES_MAX) {
        return Ok(ExplanationRef::Inline { explanation });
    }
    let key = message.key();
    let explanation = Arc::new(explanation);
    let put = || worker.results.put_explanation(&key, run, &explanation);
    let name = retry_while_unavailable(worker, put).await?;
    Ok(ExplanationRef::Object { name })
}

/// Returns whether a value has at most `bytes_max` bytes as JSON. Stops serializing at that size.
fn is_within(value: &impl Serialize, bytes_max: usize) -> bool {
    let mut buffer = vec![0; bytes_max];
    serde_json::to_writer(buffer.as_mut_slice(), value).is_ok()
}

/// Removes the document of a final job. If this fails, the sweeper removes it later.
pub(crate) async fn remove_document(worker: &Worker, name: Option<&str>) {
    let Some(name) = name else { return };
    if let Err(error) = worker.documents.remove(name).await {
        debug!(%error, "cannot remove a document; the sweeper removes it later");
    }
}
