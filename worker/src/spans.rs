//! Spans of a worker's own work; those of what goes through the broker are in `wordmill_nats::spans`.

use tracing::{Span, info_span};
use url::Url;
use wordmill_common::failure::FailureCode;
use wordmill_common::job::{Attempt, Job, Status};
use wordmill_common::open_name::OpenName;
use wordmill_common::telemetry;
use wordmill_count::DocumentCount;
use wordmill_fetch::Page;

/// Begins the span `GET`: a page is fetched.
pub(crate) fn fetch(url: &Url) -> Span {
    info_span!(
        "GET",
        otel.kind = "client",
        http.request.method = "GET",
        url.full = shown(url),
        server.address = url.host_str(),
        server.port = url.port_or_known_default().map(i64::from),
    )
}

/// Begins the span `POST`: a webhook is delivered.
pub(crate) fn post(url: &Url) -> Span {
    info_span!(
        "POST",
        otel.kind = "client",
        http.request.method = "POST",
        url.full = shown(url),
        server.address = url.host_str(),
        server.port = url.port_or_known_default().map(i64::from),
    )
}

/// Returns a URL without what may be secret: user name, password, query and fragment.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // These fail for URLs without a host only, which carry neither.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

/// Notes what came of the header of a page.
pub(crate) fn fetched(span: &Span, page: &Result<Page, wordmill_fetch::Error>) {
    match page {
        Ok(page) => {
            telemetry::note(span, "http.response.status_code", i64::from(page.status));
            if page.redirects > 0 {
                let redirects = i64::try_from(page.redirects).unwrap_or(i64::MAX);
                telemetry::note(span, "http.request.resend_count", redirects);
            }
        }
        Err(wordmill_fetch::Error::Status { status, .. }) => {
            telemetry::note(span, "http.response.status_code", i64::from(*status));
        }
        Err(_) => {}
    }
}

/// Notes how much of a page has arrived.
pub(crate) fn received(span: &Span, page: &Page) {
    telemetry::note(span, "http.response.body.size", signed(page.progress().received_bytes));
}

/// The spans `extract text`, for pages only, and `count words` within it. Both happen at once, while
/// the page arrives: their lengths tell how long that took, not which of the two is slow.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    extract: Span,
    count: Span,
}

impl Counting {
    /// Begins the spans for a page, or for a text that is at hand.
    pub(crate) fn begin(is_page: bool) -> Self {
        if !is_page {
            return Self { extract: Span::none(), count: info_span!("count words") };
        }
        let extract = info_span!("extract text");
        let count = info_span!(parent: &extract, "count words");
        Self { extract, count }
    }

    /// Counts within the spans.
    pub(crate) fn run<T>(&self, count: impl FnOnce() -> T) -> T {
        self.extract.in_scope(|| self.count.in_scope(count))
    }

    /// Notes what was found, in numbers.
    pub(crate) fn record_count(&self, counted: &DocumentCount) {
        let (extract, count, totals) = (&self.extract, &self.count, &counted.totals);
        telemetry::note(extract, "wordmill.source.size_bytes", signed(counted.size_bytes));
        telemetry::note(extract, "wordmill.source.charset", counted.charset.clone());
        telemetry::note(extract, "wordmill.text.characters", signed(totals.characters));
        telemetry::note(count, "wordmill.words.total", signed(totals.words));
        telemetry::note(count, "wordmill.words.unique", signed(totals.unique_words));
    }

    /// Marks that the document itself was at fault.
    pub(crate) fn fail(&self, code: &OpenName<FailureCode>) {
        telemetry::fail(&self.count, code.to_string());
    }
}

/// Notes in the span of a delivery that an earlier attempt ended with its worker.
pub(crate) fn note_lost_attempt(job: &Job) {
    let crashed = |attempt: &&Attempt| {
        let failure = attempt.failure.as_ref();
        failure.is_some_and(|failure| failure.code == FailureCode::WorkerCrashed)
    };
    if let Some(attempt) = job.attempts.iter().rev().nth(1).filter(crashed) {
        let number = ("job.attempt", i64::from(attempt.number));
        telemetry::add_event(&Span::current(), "attempt lost with its worker", number);
    }
}

/// Notes in the span of a delivery what the job is now.
pub(crate) fn note_state(job: &Job) {
    let span = Span::current();
    telemetry::note(&span, "job.status", job.status.as_str());
    telemetry::note(&span, "job.attempt", i64::from(job.attempt_count()));
    if let Some(failure) = job.failure.as_ref().filter(|_| job.status == Status::Failed) {
        telemetry::fail(&span, failure.code.to_string());
    }
}

/// Attributes are signed; sizes and numbers of words do not come near the difference.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        let url = Url::parse("https://user:pass@example.org:8443/a/b?token=1#c").unwrap();
        assert_eq!(shown(&url), "https://example.org:8443/a/b");
    }
}
