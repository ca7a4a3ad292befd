//! Spans of fetching and counting. Those of messages and records are in `wordmill_nats::spans`.

use tracing::{Span, info_span};
use url::Url;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::job::{Attempt, Job, Status};
use wordmill_count::DocumentCount;
use wordmill_fetch::{FetchEvent, Page, Progress};
use wordmill_service::telemetry;

/// Begins the span `GET` of a page.
pub(crate) fn begin_fetch_span(url: &Url) -> Span {
    info_span!(
        "GET",
        otel.kind = "client",
        http.request.method = "GET",
        url.full = redact(url),
        server.address = url.host_str(),
        server.port = url.port_or_known_default().map(i64::from),
    )
}

/// Begins the span `POST` of a webhook.
pub(crate) fn begin_post_span(url: &Url) -> Span {
    info_span!(
        "POST",
        otel.kind = "client",
        http.request.method = "POST",
        url.full = redact(url),
        server.address = url.host_str(),
        server.port = url.port_or_known_default().map(i64::from),
    )
}

/// Removes the parts of a URL that may be secret: user name, password, query and fragment.
fn redact(url: &Url) -> String {
    let mut redacted = url.clone();
    redacted.set_query(None);
    redacted.set_fragment(None);
    // These calls fail only for URLs without a host, which have no credentials.
    let _ = redacted.set_username("");
    let _ = redacted.set_password(None);
    redacted.into()
}

/// Adds an event of a fetch to its span.
pub(crate) fn record_fetch_event(span: &Span, event: FetchEvent<'_>) {
    match event {
        FetchEvent::SlotAcquired => telemetry::add_event(span, "host slot acquired", []),
        FetchEvent::NameResolved { addresses } => {
            let addresses = ("wordmill.fetch.addresses", usize_to_i64(addresses).into());
            telemetry::add_event(span, "name resolved", [addresses]);
        }
        FetchEvent::Connected { peer, tries } => {
            let attributes = [
                ("network.peer.address", peer.ip().to_string().into()),
                ("network.peer.port", i64::from(peer.port()).into()),
                ("wordmill.fetch.addresses_tried", usize_to_i64(tries).into()),
            ];
            telemetry::add_event(span, "connected", attributes);
        }
        FetchEvent::TlsEstablished { version } => {
            let version = ("tls.protocol.version", version.unwrap_or("unknown").into());
            telemetry::add_event(span, "TLS established", [version]);
        }
        FetchEvent::HeaderReceived { status } => {
            let status = ("http.response.status_code", i64::from(status).into());
            telemetry::add_event(span, "response header received", [status]);
        }
        FetchEvent::Redirected { location } => {
            telemetry::add_event(span, "redirected", [("url.full", redact(location).into())]);
        }
    }
}

/// Adds the event `body received` to the span of a fetch.
pub(crate) fn record_body_end(span: &Span, progress: Progress) {
    let size = ("http.response.body.size", to_i64(progress.received_bytes).into());
    telemetry::add_event(span, "body received", [size]);
}

/// Records the status and the redirects of a page, or the status of the error, in the span.
pub(crate) fn record_page_head(span: &Span, page: &Result<Page, wordmill_fetch::Error>) {
    match page {
        Ok(page) => {
            telemetry::set_attribute(span, "http.response.status_code", i64::from(page.status));
            if page.redirects > 0 {
                let redirects = usize_to_i64(page.redirects);
                telemetry::set_attribute(span, "http.request.resend_count", redirects);
            }
        }
        Err(wordmill_fetch::Error::Status { status, .. }) => {
            telemetry::set_attribute(span, "http.response.status_code", i64::from(*status));
        }
        Err(_) => {}
    }
}

/// Records the received size of a page in the span.
pub(crate) fn record_page_size(span: &Span, page: &Page) {
    telemetry::set_attribute(
        span,
        "http.response.body.size",
        to_i64(page.progress().received_bytes),
    );
}

/// Spans of counting: `extract text`, for pages only, and `count words` within it. Both steps are
/// interleaved while the page arrives, so their durations do not show which one is slow.
#[derive(Debug, Clone)]
pub(crate) struct CountSpans {
    extract: Span,
    count: Span,
}

impl CountSpans {
    /// Begins the span of a text.
    pub(crate) fn for_text() -> Self {
        Self { extract: Span::none(), count: info_span!("count words") }
    }

    /// Begins the spans of a page, or of a document that may be one.
    pub(crate) fn for_page() -> Self {
        let extract = info_span!("extract text");
        let count = info_span!(parent: &extract, "count words");
        Self { extract, count }
    }

    /// Runs `count` within the spans.
    pub(crate) fn run<T>(&self, count: impl FnOnce() -> T) -> T {
        self.extract.in_scope(|| self.count.in_scope(count))
    }

    /// Records the properties of the source and its totals.
    pub(crate) fn record_count(&self, document_count: &DocumentCount) {
        let extract = &self.extract;
        let count = &self.count;
        let totals = &document_count.totals;
        telemetry::set_attribute(
            extract,
            "wordmill.source.size_bytes",
            to_i64(document_count.size_bytes),
        );
        telemetry::set_attribute(
            extract,
            "wordmill.source.charset",
            document_count.charset.clone(),
        );
        telemetry::set_attribute(extract, "wordmill.text.characters", to_i64(totals.characters));
        telemetry::set_attribute(count, "wordmill.words.total", to_i64(totals.words));
        telemetry::set_attribute(count, "wordmill.words.unique", to_i64(totals.unique_words));
    }

    /// Marks the count as failed because of the document itself.
    pub(crate) fn fail(&self, failure: &Failure) {
        telemetry::fail(&self.count, failure.code.to_string(), &failure.detail);
    }
}

/// Adds an event to the span of the delivery if the previous attempt was lost with its worker.
pub(crate) fn record_lost_attempt(job: &Job) {
    let has_crashed = |attempt: &&Attempt| {
        let failure = attempt.failure.as_ref();
        failure.is_some_and(|failure| failure.code == FailureCode::WorkerCrashed)
    };
    if let Some(attempt) = job.attempts.iter().rev().nth(1).filter(has_crashed) {
        let number = ("job.attempt", i64::from(attempt.number).into());
        telemetry::add_event(&Span::current(), "attempt lost with its worker", [number]);
    }
}

/// Records the status and the attempt of the job in the span of the delivery.
pub(crate) fn record_state(job: &Job) {
    let span = Span::current();
    telemetry::set_attribute(&span, "job.status", job.status.as_str());
    telemetry::set_attribute(&span, "job.attempt", i64::from(job.attempt_count()));
    if let Some(failure) = job.failure.as_ref().filter(|_| job.status == Status::Failed) {
        telemetry::fail(&span, failure.code.to_string(), &failure.detail);
    }
}

/// Converts a number to the type of span attributes. Sizes and word counts are far below the
/// maximum.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn usize_to_i64(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_parts_of_urls_are_redacted() {
        let url = Url::parse("https://user:pass@example.org:8443/a/b?token=1#c").unwrap();
        assert_eq!(redact(&url), "https://example.org:8443/a/b");
    }
}
