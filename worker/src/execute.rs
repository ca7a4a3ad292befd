//! Obtains the source of a job and counts it. Large sources are counted on blocking threads.

mod document;

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;
use url::Url;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::job::Stage;
use wordmill_common::message::JobMessage;
use wordmill_common::source::{Source, SourceInfo};
use wordmill_count::{DocumentCount, Hints, Options};
use wordmill_fetch::{FetchEvent, Page};
use wordmill_service::panic;
use wordmill_service::telemetry;

use crate::keep_alive::ProgressMeter;
use crate::metrics::FetchTimer;
use crate::outcome::{AttemptFailure, CountResult};
use crate::spans::{self, CountSpans};
use crate::{Worker, batch_merge};

/// Maximum number of chunks of a page that wait to be counted.
const CHUNKS_WAITING_MAX: usize = 4;

/// Maximum size of a text that is counted on the thread that received it. Counting one takes less
/// than a millisecond, and waking another thread takes as long as counting 1 kB.
const SMALL_TEXT_BYTES_MAX: usize = 8 << 10;
/// Content type of a text that was submitted in JSON.
const TEXT: &str = "text/plain; charset=utf-8";

/// Creates a meter for `source`, with the stage of its first step.
pub(crate) fn progress_meter(source: &Source) -> ProgressMeter {
    ProgressMeter::new(match source {
        Source::Url { .. } => Stage::Fetch,
        Source::Text { .. } | Source::Document(_) | Source::Batch(_) => Stage::Count,
    })
}

/// Obtains the source of a job and counts it. Dropping the future closes the connection, and the
/// counting thread ends soon afterwards.
///
/// # Errors
/// The failure to store in the job's record, see [`AttemptFailure`].
pub(crate) async fn count(
    worker: &Worker,
    message: &JobMessage,
    meter: &Arc<ProgressMeter>,
) -> Result<CountResult, AttemptFailure> {
    #[cfg(feature = "next-version")]
    next::check(message)?;
    let source = &message.source;
    let options = Options::from(message.options.clone());
    let (document_count, final_url) = match source {
        Source::Text { text } => (count_text(text, options, meter).await?, None),
        Source::Url { url } => {
            let (document_count, final_url) = count_page(worker, url, options, meter).await?;
            (document_count, Some(final_url))
        }
        Source::Document(document) => {
            (document::count(worker, document, options, meter).await?, None)
        }
        Source::Batch(batch) => return batch_merge::merge(worker, message, batch, meter).await,
    };
    let result = build_result(source, document_count, final_url);
    #[cfg(feature = "next-version")]
    let result = next::mark(message, result);
    Ok(result)
}

/// Behavior of the next version, for tests of two versions side by side.
#[cfg(feature = "next-version")]
mod next {
    use wordmill_common::failure::{Failure, FailureCode};
    use wordmill_common::message::JobMessage;
    use wordmill_common::options::Next;
    use wordmill_common::source::Source;
    use wordmill_common::warning::WarningCode;

    use crate::outcome::CountResult;

    /// Fails if the option `next` requests it. It affects the members of a batch, but not the batch
    /// itself.
    pub(super) fn check(message: &JobMessage) -> Result<(), Failure> {
        if matches!(message.source, Source::Batch(_)) {
            return Ok(());
        }
        let failure = Failure::new(
            FailureCode::NextVersion,
            "The job failed because the test option `next` requested it.",
        );
        match message.options.next {
            None | Some(Next::Count) => Ok(()),
            Some(Next::Fail) => Err(failure),
            Some(Next::Retry) => Err(Failure { retryable: true, ..failure }),
        }
    }

    /// Adds a new warning, and newer versions of the rule and of the extractor, if the job has the
    /// option `next`.
    pub(super) fn mark(message: &JobMessage, mut result: CountResult) -> CountResult {
        if message.options.next.is_some() {
            result.warnings.add(WarningCode::NextVersion, 1, Some("option next"));
            result.rule.version += 1;
            if let Some(extractor) = &mut result.source.extractor {
                extractor.version += 1;
            }
        }
        result
    }
}

/// Size class of a job, which determines the thread that counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobSize {
    /// A text of at most [`SMALL_TEXT_BYTES_MAX`], for [`count_small`].
    Small,
    /// Any other job, for [`count`].
    Large,
}

impl JobSize {
    /// Returns the size of a job.
    pub(crate) fn of(message: &JobMessage) -> Self {
        #[cfg(feature = "next-version")]
        if message.options.next.is_some() {
            return Self::Large;
        }
        match &message.source {
            // An explanation takes longer than a count.
            Source::Text { text }
                if text.len() <= SMALL_TEXT_BYTES_MAX && !message.options.explain =>
            {
                Self::Small
            }
            Source::Text { .. } | Source::Url { .. } | Source::Document(_) | Source::Batch(_) => {
                Self::Large
            }
        }
    }
}

/// Counts a small job on the thread of the caller. Returns `None` if the source is not a text.
pub(crate) fn count_small(message: &JobMessage) -> Option<Result<CountResult, AttemptFailure>> {
    let source = &message.source;
    let Source::Text { text } = source else { return None };
    let spans = CountSpans::for_text();
    let hints = Hints { content_type: Some(TEXT), host_tld: None };
    let options = Options::from(message.options.clone());
    // Unwind-safe: after a panic, nothing that the closure may have changed is used.
    let counting =
        AssertUnwindSafe(|| wordmill_count::count(text.as_bytes(), &hints, &options, &|_| true));
    let result = spans
        .run(|| catch_unwind(counting))
        .map_err(|payload| panic::message(&*payload).to_owned());
    let document_count = finish_count(result, &spans);
    Some(document_count.map(|document_count| build_result(source, document_count, None)))
}

/// Builds the result of a job, with the detected properties of the source.
fn build_result(
    source: &Source,
    document_count: DocumentCount,
    final_url: Option<String>,
) -> CountResult {
    // A text in JSON is always UTF-8, so its charset was not detected.
    let is_text = matches!(source, Source::Text { .. });
    let charset_from = (!is_text).then(|| document_count.charset_from.as_str().to_owned());
    let source = SourceInfo {
        final_url,
        content_type: Some(document_count.content_type),
        charset: Some(document_count.charset),
        charset_from,
        extractor: Some(document_count.format.extractor()),
        size_bytes: Some(document_count.size_bytes),
        sha256: Some(document_count.sha256),
        ..source.describe()
    };
    CountResult {
        totals: document_count.totals,
        totals_by_rule: document_count.totals_by_rule,
        totals_by_scope: document_count.totals_by_scope,
        histogram: document_count.histogram,
        explanation: document_count.explanation,
        warnings: document_count.warnings,
        rule: document_count.rule,
        source,
        members: None,
    }
}

async fn count_text(
    text: &str,
    options: Options,
    meter: &Arc<ProgressMeter>,
) -> Result<DocumentCount, AttemptFailure> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    meter.set_total(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    let hints = OwnedHints { content_type: Some(TEXT.to_owned()), host_tld: None };
    count_off_thread(bytes.reader(), hints, options, meter, CountSpans::for_text()).await
}

async fn count_page(
    worker: &Worker,
    url: &str,
    options: Options,
    meter: &Arc<ProgressMeter>,
) -> Result<(DocumentCount, String), AttemptFailure> {
    let url = Url::parse(url).map_err(|error| {
        Failure::new(FailureCode::ParseError, format!("The URL cannot be parsed: {error}."))
    })?;
    let mut timer = worker.metrics.begin_fetch();
    let span = spans::begin_fetch_span(&url);
    let record_failure = |error: &wordmill_fetch::Error, timer: &mut FetchTimer| {
        let attempt_failure = classify_fetch_error(error);
        let failure = &attempt_failure.failure;
        timer.fail(&failure.code);
        telemetry::fail(&span, failure.code.to_string(), &failure.detail);
        attempt_failure
    };
    let observer = |event: FetchEvent<'_>| spans::record_fetch_event(&span, event);
    let fetching = worker.fetcher.get(&url, &observer);
    let page = meter.wait_for_host(fetching).instrument(span.clone()).await;
    spans::record_page_head(&span, &page);
    let mut page = page.map_err(|error| record_failure(&error, &mut timer))?;
    if let Some(total) = page.progress().total_bytes {
        meter.set_total(total);
    }
    let hints = OwnedHints {
        content_type: page.content_type.clone(),
        host_tld: page.final_url.domain().and_then(top_level_domain).map(str::to_owned),
    };
    let final_url = page.final_url.to_string();
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let is_complete = Arc::new(AtomicBool::new(false));
    let chunks = Chunks { receiver, current: Bytes::new(), is_complete: Arc::clone(&is_complete) };
    let counting = count_off_thread(chunks, hints, options, meter, CountSpans::for_page());
    let forwarding = async {
        let result = forward_chunks(&mut page, sender, &is_complete, meter).await;
        if is_complete.load(Ordering::Acquire) {
            timer.complete(page.progress());
            spans::record_body_end(&span, page.progress());
        }
        let result = result.map_err(|error| record_failure(&error, &mut timer));
        drop(timer);
        result
    };
    let forwarding = forwarding.instrument(span.clone());
    let (forward_result, count_result) = tokio::join!(forwarding, counting);
    spans::record_page_size(&span, &page);
    // If the page ended early, the counter failed as well, but only the fetch error contains the
    // reason.
    forward_result?;
    Ok((count_result?, final_url))
}

/// Sends the chunks of a page to the counting thread. The channel is bounded, so a slow count
/// applies backpressure to the server of the page.
async fn forward_chunks(
    page: &mut Page,
    sender: mpsc::Sender<Bytes>,
    is_complete: &AtomicBool,
    meter: &ProgressMeter,
) -> Result<(), wordmill_fetch::Error> {
    while let Some(chunk) = meter.wait_for_host(page.chunk()).await? {
        // The counter ended early, and returns the reason itself.
        if sender.send(chunk).await.is_err() {
            return Ok(());
        }
    }
    is_complete.store(true, Ordering::Release);
    Ok(())
}

/// Reader of the chunks of a page, for a thread that may block.
struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
    is_complete: Arc<AtomicBool>,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.current = chunk,
                // A failed fetch closes the channel as well. Only `is_complete` marks the end of
                // the page.
                None if self.is_complete.load(Ordering::Acquire) => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let length = buffer.len().min(self.current.len());
        self.current.split_to(length).copy_to_slice(buffer.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}

struct OwnedHints {
    content_type: Option<String>,
    host_tld: Option<String>,
}

async fn count_off_thread(
    reader: impl Read + Send + 'static,
    hints: OwnedHints,
    options: Options,
    meter: &Arc<ProgressMeter>,
    spans: CountSpans,
) -> Result<DocumentCount, AttemptFailure> {
    let stop = CancellationToken::new();
    let _stop_when_dropped: DropGuard = stop.clone().drop_guard();
    let meter = Arc::clone(meter);
    let count_spans = spans.clone();
    let counting = tokio::task::spawn_blocking(move || {
        let hints = Hints {
            content_type: hints.content_type.as_deref(),
            host_tld: hints.host_tld.as_deref(),
        };
        count_spans.run(|| {
            wordmill_count::count(reader, &hints, &options, &|done_bytes| {
                meter.set_done(done_bytes);
                !stop.is_cancelled()
            })
        })
    });
    finish_count(counting.await.map_err(|panic| panic.to_string()), &spans)
}

/// Records a count in the spans. Converts an error, or the message of a panic, to a failure.
fn finish_count(
    result: Result<Result<DocumentCount, wordmill_count::Error>, String>,
    spans: &CountSpans,
) -> Result<DocumentCount, AttemptFailure> {
    match result {
        Ok(Ok(document_count)) => {
            spans.record_count(&document_count);
            Ok(document_count)
        }
        Ok(Err(error)) => {
            let failure = classify_count_error(&error);
            if failure.code != FailureCode::Internal {
                spans.fail(&failure);
            }
            Err(failure.into())
        }
        Err(panic) => {
            tracing::error!(panic, "the counter panicked; failing the attempt");
            let detail = "Internal error while counting the document.";
            Err(Failure::new(FailureCode::Internal, detail).into())
        }
    }
}

/// Returns the failure for an error of the counter.
fn classify_count_error(error: &wordmill_count::Error) -> Failure {
    let detail = to_sentence(error);
    match error {
        wordmill_count::Error::UnsupportedFormat { .. } => {
            Failure::new(FailureCode::UnsupportedFormat, detail)
        }
        wordmill_count::Error::Entity(_) => Failure::new(FailureCode::ParseError, detail),
        wordmill_count::Error::TooManyUniqueWords { .. } => {
            Failure::new(FailureCode::TooManyUniqueWords, detail)
        }
        // The source ended early. The code that ended it returns the reason.
        wordmill_count::Error::Interrupted | wordmill_count::Error::Read(_) => {
            Failure::new(FailureCode::Internal, detail)
        }
    }
}

/// Returns the failure for an error of the fetcher.
pub(crate) fn classify_fetch_error(error: &wordmill_fetch::Error) -> AttemptFailure {
    let detail = to_sentence(error);
    let code = match error {
        wordmill_fetch::Error::Blocked { .. } => FailureCode::UrlBlocked,
        wordmill_fetch::Error::Dns { .. } => FailureCode::FetchDns,
        wordmill_fetch::Error::Connect { .. }
        | wordmill_fetch::Error::Truncated { .. }
        | wordmill_fetch::Error::Protocol { .. } => FailureCode::FetchConnect,
        wordmill_fetch::Error::Tls { .. } => FailureCode::FetchTls,
        wordmill_fetch::Error::Timeout { .. } => FailureCode::FetchTimeout,
        wordmill_fetch::Error::Redirects(_) => FailureCode::FetchRedirects,
        wordmill_fetch::Error::TooLarge(_) => FailureCode::FetchTooLarge,
        wordmill_fetch::Error::Decode(_) => FailureCode::DecodeError,
        wordmill_fetch::Error::Status { status, retry_after } => {
            let failure = Failure::http_status(*status);
            return AttemptFailure { retry_after: *retry_after, ..failure.into() };
        }
    };
    Failure::new(code, detail).into()
}

/// Formats an error as a sentence, with a capital letter and a full stop.
fn to_sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str().trim_end_matches('.'))
}

fn top_level_domain(domain: &str) -> Option<&str> {
    domain.trim_end_matches('.').rsplit('.').next()
}
