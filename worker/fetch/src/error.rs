//! Errors of fetches.
//!
//! Every `Display` text is written for the client: it contains the exceeded limit and its value,
//! and never an address that the client did not submit. Details for the operator are in the chain
//! of sources, which is for the log only.

use std::fmt;
use std::io;
use std::time::Duration;

use super::guard::Refusal;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Reason why a page could not be fetched, with the resulting failure code of the job.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guard refused a URL or one of its addresses (`url_blocked`). Permanent.
    #[error("{}{refusal}", RedirectPrefix(*.redirects))]
    Blocked {
        /// Number of redirects followed before; 0 if the client's own URL was refused.
        redirects: usize,
        /// Reason for the refusal.
        #[source]
        refusal: Refusal,
    },

    /// The host name has no address, or the name service failed (`fetch_dns`). Transient.
    ///
    /// The system's resolver does not distinguish the two cases.
    #[error("cannot find an address for \"{host}\"")]
    Dns {
        /// Name that could not be resolved.
        host: String,
        /// Error of the resolver.
        #[source]
        source: io::Error,
    },

    /// No connection could be opened (`fetch_connect`). Transient.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port of the URL.
        authority: String,
        /// System error of the last address.
        #[source]
        source: io::Error,
    },

    /// The TLS handshake failed (`fetch_tls`), usually because of a bad certificate, sometimes
    /// because the connection was closed.
    #[error("cannot make a secure connection to {authority}: {source}")]
    Tls {
        /// Host and port of the URL.
        authority: String,
        /// The cause, usually a problem with the certificate.
        #[source]
        source: io::Error,
    },

    /// A phase of the fetch exceeded its time limit (`fetch_timeout`). Transient.
    #[error("{phase} took longer than {limit:?}")]
    Timeout {
        /// Phase of the fetch.
        phase: Phase,
        /// Limit that was exceeded.
        limit: Duration,
    },

    /// The server answered with a 4xx or 5xx status (`fetch_http_4xx`, `fetch_http_5xx`).
    #[error("the server answered with status {status}")]
    Status {
        /// Status, 400 to 599.
        status: u16,
        /// Delay before the next attempt, from the server's `Retry-After`, at most one year.
        retry_after: Option<Duration>,
    },

    /// The redirects do not lead to a page (`fetch_redirects`). Permanent.
    #[error(transparent)]
    Redirects(#[from] RedirectFault),

    /// The page is larger than a limit (`fetch_too_large`). Permanent.
    #[error(transparent)]
    TooLarge(#[from] SizeLimit),

    /// The content encoding of the body is unsupported or invalid (`decode_error`). Permanent.
    #[error(transparent)]
    Decode(#[from] DecodeFault),

    /// The connection closed before the response was complete (`fetch_connect`). Transient.
    ///
    /// The received part must not be counted as the page.
    #[error("the connection was closed before the response was complete")]
    Truncated {
        /// Error of the connection.
        #[source]
        source: Source,
    },

    /// The response violates HTTP (`fetch_connect`). Possibly transient.
    #[error("the server sent an invalid HTTP response: {what}")]
    Protocol {
        /// The violated rule.
        what: &'static str,
        /// Error of the HTTP library, if it detected the violation.
        #[source]
        source: Option<Source>,
    },
}

/// Phase of a fetch in which a timeout expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Resolving the host name.
    Resolve,
    /// Opening a TCP connection and, for https, its TLS handshake.
    Connect,
    /// Waiting for the complete response header.
    FirstByte,
    /// Waiting for more of the body.
    NextByte,
    /// The whole fetch, from the call to the last byte.
    Total,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up the host",
            Self::Connect => "connecting",
            Self::FirstByte => "waiting for the response header",
            Self::NextByte => "waiting for more of the body",
            Self::Total => "the whole fetch",
        })
    }
}

/// Reason why redirects did not lead to a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectFault {
    /// More redirects than allowed, in a loop or not.
    #[error("more than {max} redirects")]
    TooMany {
        /// Maximum number of redirects.
        max: usize,
    },
    /// A 3xx status without a target, for example 304, or with an invalid Location header.
    #[error("the server answered with status {status} but without a usable Location header")]
    NoLocation {
        /// Status, 300 to 399.
        status: u16,
    },
}

/// Size limit that a page exceeded, with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeLimit {
    /// Status line and header, in bytes. More than 100 fields are refused at any size.
    #[error("the response header is larger than {} or has more than 100 fields", Size(u64::try_from(*.0).unwrap_or(u64::MAX)))]
    Header(usize),
    /// Body as transferred, in bytes.
    #[error("the body is larger than {} as transferred", Size(*.0))]
    Wire(u64),
    /// Body after decompression, in bytes.
    #[error("the body is larger than {} after decompression", Size(*.0))]
    Decoded(u64),
    /// Maximum number of decompressed bytes for each transferred byte.
    #[error("the body decompresses to more than {0} times its size as transferred")]
    Ratio(u64),
}

/// Fault in the content encoding of a body.
#[derive(Debug, thiserror::Error)]
pub enum DecodeFault {
    /// The content encoding is not supported.
    #[error("content encoding \"{name}\" is not supported")]
    Unknown {
        /// Name of the encoding, escaped and truncated to 40 characters.
        name: String,
    },
    /// The body has more than one content encoding.
    #[error("the body has {layers} content encodings, but only one is supported")]
    Layers {
        /// Number of encodings.
        layers: usize,
    },
    /// Brotli with a large window, an extension that browsers do not accept.
    #[error(
        "the body uses brotli with a large window: compress it with a window of at most {}",
        Size(*window_bytes_max)
    )]
    LargeWindow {
        /// Maximum size of the window, in bytes.
        window_bytes_max: u64,
    },
    /// The data is not valid for its encoding.
    #[error("the body is not valid {encoding}")]
    Corrupt {
        /// Name of the encoding.
        encoding: &'static str,
        /// Error of the decoder.
        #[source]
        source: io::Error,
    },
    /// The body continues after the end of its compressed data.
    #[error("the body continues after the end of its {encoding} data")]
    Trailing {
        /// Name of the encoding.
        encoding: &'static str,
    },
}

impl Error {
    /// Converts an error of the HTTP connection after it was opened.
    pub(super) fn from_http(error: hyper::Error, header_size_max: usize) -> Self {
        if error.is_parse_too_large() {
            return SizeLimit::Header(header_size_max).into();
        }
        if error.is_parse() {
            let source = Some(error.into());
            return Self::Protocol { what: "the header cannot be parsed", source };
        }
        Self::Truncated { source: error.into() }
    }

    /// Wraps the error so that it passes through a reader. [`Error::from_io`] unwraps it.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Returns the error that [`Error::into_io`] wrapped.
    ///
    /// # Errors
    /// The given error, if it is not from [`Error::into_io`].
    pub(super) fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}

/// Prefix of a message about a redirect; empty for the client's own URL.
struct RedirectPrefix(usize);

impl fmt::Display for RedirectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            redirects => write!(f, "redirect {redirects} was not followed: "),
        }
    }
}

/// Number of bytes, displayed in the largest unit in which it is a whole number.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        for (unit, name) in UNITS {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_limit_and_its_value() {
        let messages: [(Error, &str); 6] = [
            (SizeLimit::Wire(64 << 20).into(), "the body is larger than 64 MiB as transferred"),
            (
                SizeLimit::Decoded(1000).into(),
                "the body is larger than 1000 bytes after decompression",
            ),
            (
                SizeLimit::Ratio(200).into(),
                "the body decompresses to more than 200 times its size as transferred",
            ),
            (
                SizeLimit::Header(64 << 10).into(),
                "the response header is larger than 64 KiB or has more than 100 fields",
            ),
            (RedirectFault::TooMany { max: 10 }.into(), "more than 10 redirects"),
            (
                Error::Timeout { phase: Phase::Total, limit: Duration::from_secs(300) },
                "the whole fetch took longer than 300s",
            ),
        ];
        for (error, message) in messages {
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn refusals_name_the_redirect() {
        let blocked = |redirects| Error::Blocked { redirects, refusal: Refusal::Credentials };
        assert!(!blocked(0).to_string().contains("redirect"));
        assert!(blocked(2).to_string().starts_with("redirect 2 was not followed: "));
    }

    #[test]
    fn errors_pass_through_a_reader_unchanged() {
        let error = Error::from_io(Error::from(SizeLimit::Ratio(3)).into_io()).unwrap();
        assert!(matches!(error, Error::TooLarge(SizeLimit::Ratio(3))));
        assert!(Error::from_io(io::ErrorKind::UnexpectedEof.into()).is_err());
    }
}
