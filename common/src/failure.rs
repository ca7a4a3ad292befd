//! Why a job ended badly: a stable code, a sentence for the client, and whether trying again may help.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_name::OpenName;

/// Names a cause of failure. Clients branch on it, `docs/errors.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The host name could not be resolved.
    FetchDns,
    /// No connection to the host could be made.
    FetchConnect,
    /// The host was too slow, at connecting, at the first byte or in the middle.
    FetchTimeout,
    /// The TLS handshake failed.
    FetchTls,
    /// The host answered with a 4xx status.
    #[serde(rename = "fetch_http_4xx")]
    FetchHttp4xx,
    /// The host answered with a 5xx status.
    #[serde(rename = "fetch_http_5xx")]
    FetchHttp5xx,
    /// The document is larger than allowed, on the wire, decompressed, or as a ratio of the two.
    FetchTooLarge,
    /// Too many redirects, or one that leads nowhere.
    FetchRedirects,
    /// The URL leads to an address that must not be fetched.
    UrlBlocked,
    /// The document is of a kind that has no words we can read.
    UnsupportedFormat,
    /// The bytes could not be decompressed or decoded.
    DecodeError,
    /// The document could not be parsed.
    ParseError,
    /// The document has more different words than a count may hold.
    TooManyUniqueWords,
    /// The attempt took longer than an attempt may.
    DeadlineExceeded,
    /// The worker went away in the middle of the attempt.
    WorkerCrashed,
    /// The document to be counted is no longer kept.
    SourceGone,
    /// The job's message disappeared from the queue.
    Lost,
    /// A defect of ours.
    Internal,
    /// A code that only the next version has.
    #[cfg(feature = "next-version")]
    NextVersion,
}

impl FailureCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 18] = [
        Self::FetchDns,
        Self::FetchConnect,
        Self::FetchTimeout,
        Self::FetchTls,
        Self::FetchHttp4xx,
        Self::FetchHttp5xx,
        Self::FetchTooLarge,
        Self::FetchRedirects,
        Self::UrlBlocked,
        Self::UnsupportedFormat,
        Self::DecodeError,
        Self::ParseError,
        Self::TooManyUniqueWords,
        Self::DeadlineExceeded,
        Self::WorkerCrashed,
        Self::SourceGone,
        Self::Lost,
        Self::Internal,
    ];

    /// Returns the name as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FetchDns => "fetch_dns",
            Self::FetchConnect => "fetch_connect",
            Self::FetchTimeout => "fetch_timeout",
            Self::FetchTls => "fetch_tls",
            Self::FetchHttp4xx => "fetch_http_4xx",
            Self::FetchHttp5xx => "fetch_http_5xx",
            Self::FetchTooLarge => "fetch_too_large",
            Self::FetchRedirects => "fetch_redirects",
            Self::UrlBlocked => "url_blocked",
            Self::UnsupportedFormat => "unsupported_format",
            Self::DecodeError => "decode_error",
            Self::ParseError => "parse_error",
            Self::TooManyUniqueWords => "too_many_unique_words",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::WorkerCrashed => "worker_crashed",
            Self::SourceGone => "source_gone",
            Self::Lost => "lost",
            Self::Internal => "internal",
            #[cfg(feature = "next-version")]
            Self::NextVersion => "next_version",
        }
    }

    /// Tells whether another attempt may end differently.
    ///
    /// A 4xx answer is permanent here; [`Failure::http_status`] knows the few that are not.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::FetchDns
            | Self::FetchConnect
            | Self::FetchTimeout
            | Self::FetchHttp5xx
            | Self::DeadlineExceeded
            | Self::WorkerCrashed
            | Self::Internal => true,
            Self::FetchTls
            | Self::FetchHttp4xx
            | Self::FetchTooLarge
            | Self::FetchRedirects
            | Self::UrlBlocked
            | Self::UnsupportedFormat
            | Self::DecodeError
            | Self::ParseError
            | Self::TooManyUniqueWords
            | Self::SourceGone
            | Self::Lost => false,
            #[cfg(feature = "next-version")]
            Self::NextVersion => false,
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OpenName<FailureCode> {
    /// Returns the name as clients see it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(code) => code.as_str(),
            Self::Other(name) => name,
        }
    }

    /// Returns the name as metrics show it, from a fixed set: an unknown code is `other`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.known().map_or("other", FailureCode::as_str)
    }
}

impl fmt::Display for OpenName<FailureCode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure, of an attempt or of a whole job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// The cause.
    pub code: OpenName<FailureCode>,
    /// One sentence that the client may read. Never internal text.
    pub detail: String,
    /// Whether another attempt may end differently.
    pub retryable: bool,
}

impl Failure {
    /// Returns a failure that is retried or not as its code says.
    #[must_use]
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), retryable: code.is_retryable() }
    }

    /// Returns the failure of an attempt whose worker went away.
    #[must_use]
    pub fn worker_crashed() -> Self {
        Self::new(FailureCode::WorkerCrashed, "The worker went away in the middle of the attempt.")
    }

    /// Returns the failure for an answer with an error status.
    ///
    /// 408, 425 and 429 are 4xx that ask to come back: they are retryable.
    #[must_use]
    pub fn http_status(status: u16) -> Self {
        let code =
            if status >= 500 { FailureCode::FetchHttp5xx } else { FailureCode::FetchHttp4xx };
        let mut failure = Self::new(code, format!("The host answered with status {status}."));
        failure.retryable |= matches!(status, 408 | 425 | 429);
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_the_same_in_json_and_in_text() {
        for code in FailureCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn a_few_4xx_answers_ask_to_come_back() {
        assert!(!Failure::http_status(404).retryable);
        assert!(Failure::http_status(429).retryable);
        assert!(Failure::http_status(503).retryable);
        assert_eq!(Failure::http_status(404).code, FailureCode::FetchHttp4xx);
    }

    #[test]
    fn metrics_show_an_unknown_code_as_other() {
        assert_eq!(OpenName::Other("fetch_quic".to_owned()).label(), "other");
        assert_eq!(OpenName::from(FailureCode::Lost).label(), "lost");
    }

    #[test]
    fn every_code_has_a_heading_in_the_documentation() {
        let page = include_str!("../../docs/errors.md");
        for code in FailureCode::ALL {
            assert!(page.contains(&format!("\n### `{code}`\n")), "docs/errors.md lacks {code}");
        }
    }
}
