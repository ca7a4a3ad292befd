//! The reason why a job failed: a stable code, a sentence for the client, and whether another
//! attempt may succeed.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_name::OpenName;

/// Another attempt may end differently.
const RETRYABLE: bool = true;
/// Every further attempt would end in the same way.
const PERMANENT: bool = false;

/// Declares [`FailureCode`] from a table: `Variant = "name", RETRYABLE or PERMANENT;`.
macro_rules! failure_codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal, $is_retryable:expr;)*) => {
        /// Names a cause of failure. Clients branch on it, `docs/errors.md` explains each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum FailureCode {
            $($(#[$doc])* #[serde(rename = $name)] $code,)*
            /// A code that only the next version has.
            #[cfg(feature = "next-version")]
            #[serde(rename = "next_version")]
            NextVersion,
        }

        impl FailureCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// Returns the name as clients see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                    #[cfg(feature = "next-version")]
                    Self::NextVersion => "next_version",
                }
            }

            /// Returns whether another attempt may end differently.
            ///
            /// A 4xx answer is permanent here; [`Failure::http_status`] knows the exceptions.
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
    /// No connection to the host could be made.
    FetchConnect = "fetch_connect", RETRYABLE;
    /// The host was too slow, at connecting, at the first byte or in the middle.
    FetchTimeout = "fetch_timeout", RETRYABLE;
    /// The TLS handshake failed.
    FetchTls = "fetch_tls", PERMANENT;
    /// The host answered with a 4xx status.
    FetchHttp4xx = "fetch_http_4xx", PERMANENT;
    /// The host answered with a 5xx status.
    FetchHttp5xx = "fetch_http_5xx", RETRYABLE;
    /// The document is larger than allowed, on the wire, decompressed, or as a ratio of the two.
    FetchTooLarge = "fetch_too_large", PERMANENT;
    /// Too many redirects, or one that leads nowhere.
    FetchRedirects = "fetch_redirects", PERMANENT;
    /// The URL leads to an address that must not be fetched.
    UrlBlocked = "url_blocked", PERMANENT;
    /// The document is of a kind that has no words we can read.
    UnsupportedFormat = "unsupported_format", PERMANENT;
    /// The bytes could not be decompressed or decoded.
    DecodeError = "decode_error", PERMANENT;
    /// The document could not be parsed.
    ParseError = "parse_error", PERMANENT;
    /// The document has more different words than a count may hold.
    TooManyUniqueWords = "too_many_unique_words", PERMANENT;
    /// The attempt took longer than an attempt may.
    DeadlineExceeded = "deadline_exceeded", RETRYABLE;
    /// The worker went away in the middle of the attempt.
    WorkerCrashed = "worker_crashed", RETRYABLE;
    /// The document to be counted is no longer kept.
    SourceGone = "source_gone", PERMANENT;
    /// The job's message disappeared from the queue.
    Lost = "lost", PERMANENT;
    /// A defect of ours.
    Internal = "internal", RETRYABLE;
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
    /// Returns a failure with the retry advice of its code.
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
    /// 408, 425 and 429 are retryable, unlike other 4xx statuses: they ask the client to repeat the
    /// request.
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
