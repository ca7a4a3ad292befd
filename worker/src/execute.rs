//! Gets a source and counts it, off the async threads.

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
use wordmill_common::panic;
use wordmill_common::source::{Source, SourceInfo};
use wordmill_common::telemetry;
use wordmill_count::{DocumentCount, Hints, Options};
use wordmill_fetch::Page;

use crate::keep_alive::Meter;
use crate::metrics::Fetch;
use crate::outcome::{AttemptFailure, CountResult};
use crate::spans::{self, Counting};
use crate::{Worker, batch_merge};

/// How many chunks of a page may wait to be counted.
const CHUNKS_WAITING_MAX: usize = 4;

/// Largest text of a small job, which is counted on the thread that received it. That takes less
/// than a millisecond; waking another thread took as long as counting a text of 1 kB.
const SMALL_TEXT_BYTES_MAX: usize = 8 << 10;
/// The content type of a text that came in JSON.
const TEXT: &str = "text/plain; charset=utf-8";

/// Returns a meter for the work that `source` takes.
pub(crate) fn meter(source: &Source) -> Meter {
    Meter::new(match source {
        Source::Url { .. } => Stage::Fetch,
        Source::Text { .. } | Source::Document(_) | Source::Batch(_) => Stage::Count,
    })
}

/// Gets a job's source and counts it as its options say. Dropped, it lets go of the connection, and the
/// thread that counts ends by itself soon after.
///
/// # Errors
/// What the client is told, see [`AttemptFailure`].
pub(crate) async fn count(
    worker: &Worker,
    message: &JobMessage,
    meter: &Arc<Meter>,
) -> Result<CountResult, AttemptFailure> {
    #[cfg(feature = "next-version")]
    next::check(message)?;
    let source = &message.source;
    let options = Options::from(message.options.clone());
    let (counted, final_url) = match source {
        Source::Text { text } => (count_text(text, options, meter).await?, None),
        Source::Url { url } => {
            let (counted, final_url) = count_page(worker, url, options, meter).await?;
            (counted, Some(final_url))
        }
        Source::Document(document) => {
            (document::count(worker, document, options, meter).await?, None)
        }
        Source::Batch(batch) => return batch_merge::merge(worker, message, batch, meter).await,
    };
    Ok(count_result(source, counted, final_url))
}

/// The part of the next version, for tests of two versions side by side.
#[cfg(feature = "next-version")]
mod next {
    use wordmill_common::failure::{Failure, FailureCode};
    use wordmill_common::message::JobMessage;
    use wordmill_common::options::Next;
    use wordmill_common::source::Source;

    /// Fails if the option `next` requests it. A batch never does, only its members.
    pub(super) fn check(message: &JobMessage) -> Result<(), Failure> {
        if matches!(message.source, Source::Batch(_)) {
            return Ok(());
        }
        let failure = Failure::new(FailureCode::NextVersion, "The next version failed.");
        match message.options.next {
            None | Some(Next::Count) => Ok(()),
            Some(Next::Fail) => Err(failure),
            Some(Next::Retry) => Err(Failure { retryable: true, ..failure }),
        }
    }
}

/// The amount of work that a job takes, which decides where it is counted.
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

/// Counts a small job on the thread of the caller. `None` if its source is not a text.
pub(crate) fn count_small(message: &JobMessage) -> Option<Result<CountResult, AttemptFailure>> {
    let source = &message.source;
    let Source::Text { text } = source else { return None };
    let spans = Counting::begin(false);
    let hints = Hints { content_type: Some(TEXT), host_tld: None };
    let options = Options::from(message.options.clone());
    // A panic leaves nothing behind that is used again.
    let counting =
        AssertUnwindSafe(|| wordmill_count::count(text.as_bytes(), &hints, &options, &|_| true));
    let counted = spans
        .run(|| catch_unwind(counting))
        .map_err(|payload| panic::message(&*payload).to_owned());
    Some(judge(counted, &spans).map(|counted| count_result(source, counted, None)))
}

/// Says about a source what was found out.
fn count_result(source: &Source, counted: DocumentCount, final_url: Option<String>) -> CountResult {
    // A text that came in JSON is UTF-8 by definition: nothing had to be found out.
    let is_text = matches!(source, Source::Text { .. });
    let charset_from = (!is_text).then(|| counted.charset_from.as_str().to_owned());
    let source = SourceInfo {
        final_url,
        content_type: Some(counted.content_type.clone()),
        charset: Some(counted.charset.clone()),
        charset_from,
        extractor: Some(counted.format.extractor()),
        size_bytes: Some(counted.size_bytes),
        sha256: Some(counted.sha256.clone()),
        ..source.describe()
    };
    let DocumentCount { totals, totals_by_rule, totals_by_scope, histogram, .. } = counted;
    let (explanation, rule, members) = (counted.explanation, counted.rule, None);
    CountResult {
        totals,
        totals_by_rule,
        totals_by_scope,
        histogram,
        explanation,
        rule,
        source,
        members,
    }
}

async fn count_text(
    text: &str,
    options: Options,
    meter: &Arc<Meter>,
) -> Result<DocumentCount, AttemptFailure> {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    meter.set_total(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    let hints = OwnedHints { content_type: Some(TEXT.to_owned()), host_tld: None };
    count_off_thread(bytes.reader(), hints, options, meter, Counting::begin(false)).await
}

async fn count_page(
    worker: &Worker,
    url: &str,
    options: Options,
    meter: &Arc<Meter>,
) -> Result<(DocumentCount, String), AttemptFailure> {
    let url = Url::parse(url).map_err(|error| {
        Failure::new(FailureCode::ParseError, format!("The URL cannot be parsed: {error}."))
    })?;
    let mut fetch = worker.metrics.fetch();
    let span = spans::fetch(&url);
    let failed_within = |error: &wordmill_fetch::Error, fetch: &mut Fetch| {
        let failed = failed(error, fetch);
        telemetry::fail(&span, failed.failure.code.to_string());
        failed
    };
    let page = meter.wait_for_host(worker.fetcher.get(&url)).instrument(span.clone()).await;
    spans::fetched(&span, &page);
    let mut page = page.map_err(|error| failed_within(&error, &mut fetch))?;
    if let Some(total) = page.progress().total_bytes {
        meter.set_total(total);
    }
    let hints = OwnedHints {
        content_type: page.content_type.clone(),
        host_tld: page.final_url.domain().and_then(top_level).map(str::to_owned),
    };
    let final_url = page.final_url.to_string();
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let is_complete = Arc::new(AtomicBool::new(false));
    let chunks = Chunks { receiver, current: Bytes::new(), is_complete: Arc::clone(&is_complete) };
    let counting = count_off_thread(chunks, hints, options, meter, Counting::begin(true));
    let passing = async {
        let passed = pass_on(&mut page, sender, &is_complete, meter).await;
        if is_complete.load(Ordering::Acquire) {
            fetch.is_complete(page.progress());
        }
        let passed = passed.map_err(|error| failed_within(&error, &mut fetch));
        drop(fetch);
        passed
    };
    let passing = passing.instrument(span.clone());
    let (passed, counted) = tokio::join!(passing, counting);
    spans::received(&span, &page);
    // What went wrong on the way explains what the counter says about it.
    passed?;
    Ok((counted?, final_url))
}

/// Passes a page's chunks on to the thread that counts, as fast as it takes them.
async fn pass_on(
    page: &mut Page,
    sender: mpsc::Sender<Bytes>,
    is_complete: &AtomicBool,
    meter: &Meter,
) -> Result<(), wordmill_fetch::Error> {
    while let Some(chunk) = meter.wait_for_host(page.chunk()).await? {
        // The counter has seen enough: it says itself why.
        if sender.send(chunk).await.is_err() {
            return Ok(());
        }
    }
    is_complete.store(true, Ordering::Release);
    Ok(())
}

/// The chunks of a page as a reader, for a thread that may block.
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
    meter: &Arc<Meter>,
    spans: Counting,
) -> Result<DocumentCount, AttemptFailure> {
    let stop = CancellationToken::new();
    let _stop_when_dropped: DropGuard = stop.clone().drop_guard();
    let (meter, within) = (Arc::clone(meter), spans.clone());
    let counting = tokio::task::spawn_blocking(move || {
        let hints = Hints {
            content_type: hints.content_type.as_deref(),
            host_tld: hints.host_tld.as_deref(),
        };
        within.run(|| {
            wordmill_count::count(reader, &hints, &options, &|done_bytes| {
                meter.set_done(done_bytes);
                !stop.is_cancelled()
            })
        })
    });
    judge(counting.await.map_err(|panic| panic.to_string()), &spans)
}

/// Tells a count from what went wrong, a panic included, and notes either in the spans.
fn judge(
    counted: Result<Result<DocumentCount, wordmill_count::Error>, String>,
    spans: &Counting,
) -> Result<DocumentCount, AttemptFailure> {
    match counted {
        Ok(Ok(counted)) => {
            spans.record_count(&counted);
            Ok(counted)
        }
        Ok(Err(error)) => {
            let failure = not_counted(&error);
            if failure.code != FailureCode::Internal {
                spans.fail(&failure.code);
            }
            Err(failure.into())
        }
        Err(panic) => {
            tracing::error!(panic, "the counter panicked");
            let detail = "The service failed while it counted the document.";
            Err(Failure::new(FailureCode::Internal, detail).into())
        }
    }
}

fn not_counted(error: &wordmill_count::Error) -> Failure {
    let detail = sentence(error);
    match error {
        wordmill_count::Error::UnsupportedFormat { .. } => {
            Failure::new(FailureCode::UnsupportedFormat, detail)
        }
        wordmill_count::Error::TooManyUniqueWords { .. } => {
            Failure::new(FailureCode::TooManyUniqueWords, detail)
        }
        // Both only say that the source ended early; whoever ended it knows why.
        wordmill_count::Error::Interrupted | wordmill_count::Error::Read(_) => {
            Failure::new(FailureCode::Internal, detail)
        }
    }
}

/// Gives a failed fetch its stable code, and notes it.
fn failed(error: &wordmill_fetch::Error, fetch: &mut Fetch) -> AttemptFailure {
    let failed = classify_fetch_error(error);
    fetch.has_failed(&failed.failure.code);
    failed
}

/// Gives a failed fetch its stable code.
pub(crate) fn classify_fetch_error(error: &wordmill_fetch::Error) -> AttemptFailure {
    let detail = sentence(error);
    let code = match error {
        wordmill_fetch::Error::Blocked { .. } => FailureCode::UrlBlocked,
        wordmill_fetch::Error::Dns { .. } => FailureCode::FetchDns,
        wordmill_fetch::Error::Connect { .. }
        | wordmill_fetch::Error::Cut { .. }
        | wordmill_fetch::Error::Protocol { .. } => FailureCode::FetchConnect,
        wordmill_fetch::Error::Tls { .. } => FailureCode::FetchTls,
        wordmill_fetch::Error::Timeout { .. } => FailureCode::FetchTimeout,
        wordmill_fetch::Error::Redirects(_) => FailureCode::FetchRedirects,
        wordmill_fetch::Error::TooLarge(_) => FailureCode::FetchTooLarge,
        wordmill_fetch::Error::Decode(_) => FailureCode::DecodeError,
        wordmill_fetch::Error::Status { status, retry_after } => {
            let (failure, retry_after) = (Failure::http_status(*status), *retry_after);
            return AttemptFailure { retry_after, ..failure.into() };
        }
    };
    Failure::new(code, detail).into()
}

/// Writes an error as a sentence: upper case at the front, a full stop at the end.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

fn top_level(domain: &str) -> Option<&str> {
    domain.trim_end_matches('.').rsplit('.').next()
}
