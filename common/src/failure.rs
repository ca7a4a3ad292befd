//! Reasons why jobs fail: a stable code, a sentence for the client, and whether another attempt may
//! succeed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_name::OpenName;

/// Another attempt may succeed.
const RETRYABLE: bool = true;
/// Every further attempt would fail in the same way.
const PERMANENT: bool = false;

/// Declares [`FailureCode`] from a table of rows `Variant = "name", RETRYABLE or PERMANENT;`.
macro_rules! failure_codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $is_retryable:expr;)*) => {
        /// Code of a failure. Clients can branch on it; `docs/errors.md` explains each code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum FailureCode {
            $($(#[$doc])* #[serde(rename = $name)] $code,)*
            /// A code that only the next version has.
            #[cfg(feature = "next-version")]
            #[serde(rename = "next_version")]
            NextVersion,
        }

        impl FailureCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// Returns the name that the API uses.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                    #[cfg(feature = "next-version")]
                    Self::NextVersion => "next_version",
                }
            }

            /// Returns whether another attempt may succeed.
            ///
            /// `fetch_http_4xx` is permanent here; [`Failure::http_status`] makes exceptions for
            /// some statuses.
            #[must_use]
            pub fn is_retryable(self) -> bool {
                match self {
                    $(Self::$code => $is_retryable,)*
                    #[cfg(feature = "next-version")]
                    Self::NextVersion => PERMANENT,
                }
            }
        }
    };
}

failure_codes! {
    /// The host name could not be resolved.
    FetchDns = "fetch_dns", RETRYABLE;
    /// No connection to the host could be established.
    FetchConnect = "fetch_connect", RETRYABLE;
    /// The host was too slow to accept the connection, to send the first byte, or to send the rest.
    FetchTimeout = "fetch_timeout", RETRYABLE;
    /// The TLS handshake failed.
    FetchTls = "fetch_tls", PERMANENT;
    /// The host responded with a 4xx status.
    FetchHttp4xx = "fetch_http_4xx", PERMANENT;
    /// The host responded with a 5xx status.
    FetchHttp5xx = "fetch_http_5xx", RETRYABLE;
    /// The document exceeds the limit on its transferred size, its decompressed size, or the ratio
    /// of the two.
    FetchTooLarge = "fetch_too_large", PERMANENT;
    /// The host redirected too often, or to an invalid location.
    FetchRedirects = "fetch_redirects", PERMANENT;
    /// The URL leads to an address that may not be fetched.
    UrlBlocked = "url_blocked", PERMANENT;
    /// Words in this document format cannot be counted.
    UnsupportedFormat = "unsupported_format", PERMANENT;
    /// The document could not be decompressed or decoded.
    DecodeError = "decode_error", PERMANENT;
    /// The document or the URL could not be parsed.
    ParseError = "parse_error", PERMANENT;
    /// The document has more unique words than the limit allows.
    TooManyUniqueWords = "too_many_unique_words", PERMANENT;
    /// The attempt exceeded its deadline.
    DeadlineExceeded = "deadline_exceeded", RETRYABLE;
    /// The worker stopped responding during the attempt.
    WorkerCrashed = "worker_crashed", RETRYABLE;
    /// The document to count is no longer stored.
    SourceGone = "source_gone", PERMANENT;
    /// The job's message disappeared from the queue.
    Lost = "lost", PERMANENT;
    /// A bug in the service.
    Internal = "internal", RETRYABLE;
}

impl fmt::Display for FailureCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OpenName<FailureCode> {
    /// Returns the name that the API uses.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(code) => code.as_str(),
            Self::Other(name) => name,
        }
    }

    /// Returns the name as a metric label, from a fixed set: `other` for an unknown code.
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

/// Failure of an attempt or of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Cause of the failure.
    pub code: OpenName<FailureCode>,
    /// One sentence about this case, for clients. It contains no internal details.
    pub detail: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
}

impl Failure {
    /// Returns a failure that is retryable if its code is.
    #[must_use]
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        Self { code: code.into(), detail: detail.into(), retryable: code.is_retryable() }
    }

    /// Returns the failure of an attempt whose worker stopped responding.
    #[must_use]
    pub fn worker_crashed() -> Self {
        Self::new(FailureCode::WorkerCrashed, "The worker stopped responding during the attempt.")
    }

    /// Returns the failure for an HTTP response with an error status.
    ///
    /// Unlike other 4xx statuses, 408, 425 and 429 are retryable: they mean that a later request
    /// may succeed.
    #[must_use]
    pub fn http_status(status: u16) -> Self {
        let code =
            if status >= 500 { FailureCode::FetchHttp5xx } else { FailureCode::FetchHttp4xx };
        let mut failure = Self::new(code, format!("The host responded with status {status}."));
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
    fn some_4xx_statuses_are_retryable() {
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
