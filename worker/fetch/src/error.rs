//! Why a fetch ended without a page.
//!
//! Every `Display` text is written for the client: it names the exceeded limit and its value, and
//! it never names an address that the client did not give. Further details for the operator are in
//! the chain of sources, which is for the log only.

use std::fmt;
use std::io;
use std::time::Duration;

use super::guard::Refusal;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a page could not be fetched, one variant per case that a caller treats differently.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guard refused a URL or the addresses behind it (`url_blocked`). Permanent.
    #[error("{}{refusal}", RedirectPrefix(*.redirects))]
    Blocked {
        /// How many redirects had been followed: 0 means that the client's own URL was refused.
        redirects: usize,
        /// The reason of the refusal.
        #[source]
        refusal: Refusal,
    },

    /// The host name has no address, or the name service failed (`fetch_dns`). Transient.
    ///
    /// The system's resolver does not tell the two apart.
    #[error("cannot find an address for \"{host}\"")]
    Dns {
        /// The name that was looked up.
        host: String,
        /// The error of the resolver.
        #[source]
        source: io::Error,
    },

    /// No connection could be made (`fetch_connect`). Transient.
    #[error("cannot connect to {authority}")]
    Connect {
        /// Host and port as they stand in the URL.
        authority: String,
        /// The error of the system for the last address.
        #[source]
        source: io::Error,
    },

    /// The TLS handshake failed (`fetch_tls`): mostly a bad certificate, at times a cut connection.
    #[error("cannot make a secure connection to {authority}: {source}")]
    Tls {
        /// Host and port as they stand in the URL.
        authority: String,
        /// The cause, mostly a problem with the certificate.
        #[source]
        source: io::Error,
    },

    /// A wait took longer than its limit (`fetch_timeout`). Transient.
    #[error("{wait} took longer than {limit:?}")]
    Timeout {
        /// The phase of the fetch.
        wait: Wait,
        /// The limit that was exceeded.
        limit: Duration,
    },

    /// The server refused with a 4xx or 5xx status (`fetch_http_4xx`, `fetch_http_5xx`).
    #[error("the server answered with status {status}")]
    Status {
        /// The status, 400 to 599.
        status: u16,
        /// The wait before the next attempt that the server asks for, if any; not clamped.
        retry_after: Option<Duration>,
    },

    /// The redirects lead nowhere (`fetch_redirects`). Permanent.
    #[error(transparent)]
    Redirects(#[from] RedirectFault),

    /// The page is larger than a limit (`fetch_too_large`). Permanent.
    #[error(transparent)]
    TooLarge(#[from] SizeLimit),

    /// The body does not follow its own Content-Encoding (`decode_error`). Permanent.
    #[error(transparent)]
    Decode(#[from] DecodeFault),

    /// The connection broke before the response was complete (`fetch_connect`). Transient.
    ///
    /// The part received before is not the page and must not be counted.
    #[error("the connection was cut before the answer was complete")]
    Cut {
        /// The error of the connection.
        #[source]
        source: Source,
    },

    /// The response violates HTTP (`fetch_connect`). Transient at best.
    #[error("the server did not answer in proper HTTP: {what}")]
    Protocol {
        /// The rule that was broken.
        what: &'static str,
        /// The error of the HTTP library, if it noticed.
        #[source]
        source: Option<Source>,
    },
}

/// The phase of a fetch in which a timeout expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The addresses of a host name.
    Resolve,
    /// A TCP connection and, for https, its TLS handshake.
    Connect,
    /// The status line and the header.
    FirstByte,
    /// More of the body.
    NextByte,
    /// All of the fetch, from the call to the last byte.
    Total,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "looking up the host",
            Self::Connect => "connecting",
            Self::FirstByte => "waiting for the answer to begin",
            Self::NextByte => "waiting for more of the body",
            Self::Total => "the whole fetch",
        })
    }
}

/// Why redirects were not followed to a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectFault {
    /// More redirects than allowed, in a loop or not.
    #[error("more than {max} redirects")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// A 3xx status without a target, such as 304, or with an unreadable Location.
    #[error("the server answered with status {status} and no usable Location")]
    NoLocation {
        /// The status, 300 to 399.
        status: u16,
    },
}

/// A limit on size that a page exceeded, with the limit's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SizeLimit {
    /// The status line and header, in bytes; a hundred fields are refused at any size.
    #[error("the response header is larger than {} or has more than 100 fields", Size(u64::try_from(*.0).unwrap_or(u64::MAX)))]
    Header(usize),
    /// The body as transferred, in bytes.
    #[error("the body is larger than {} as transferred", Size(*.0))]
    Wire(u64),
    /// The body after decompression, in bytes.
    #[error("the body is larger than {} after decompression", Size(*.0))]
    Decoded(u64),
    /// The most decompressed bytes for each transferred byte.
    #[error("the body decompresses to more than {0} times its size as transferred")]
    Ratio(u64),
}

/// The fault in the encoding of a body.
#[derive(Debug, thiserror::Error)]
pub enum DecodeFault {
    /// A Content-Encoding that was not offered.
    #[error("content encoding \"{name}\" is not supported")]
    Unknown {
        /// The encoding's name as sent, cut to a printable length.
        name: String,
    },
    /// Encodings on top of each other.
    #[error("the body has {layers} layers of content encoding where 1 is supported")]
    Layers {
        /// The number of layers.
        layers: usize,
    },
    /// Brotli with a large window, an extension that no browser accepts.
    #[error(
        "the body is brotli with a large window: compress it with a window of at most {}",
        Size(*window_bytes_max)
    )]
    LargeWindow {
        /// The largest window that is accepted, in bytes.
        window_bytes_max: u64,
    },
    /// The data are not valid in their encoding.
    #[error("the body is not valid {encoding}")]
    Corrupt {
        /// The encoding's name.
        encoding: &'static str,
        /// The error of the decoder.
        #[source]
        source: io::Error,
    },
    /// The compressed data end before the body does.
    #[error("the body goes on after the end of its {encoding} data")]
    Trailing {
        /// The encoding's name.
        encoding: &'static str,
    },
}

impl Error {
    /// Returns the error for a failure of the HTTP connection after it was made.
    pub(super) fn from_http(error: hyper::Error, header_size_max: usize) -> Self {
        if error.is_parse_too_large() {
            return SizeLimit::Header(header_size_max).into();
        }
        if error.is_parse() {
            let source = Some(error.into());
            return Self::Protocol { what: "the header cannot be parsed", source };
        }
        Self::Cut { source: error.into() }
    }

    /// Wraps the error so that it passes through a reader; [`Error::from_io`] unwraps it.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Returns the error that [`Error::into_io`] wrapped, or the reader's own.
    pub(super) fn from_io(error: io::Error) -> Result<Self, io::Error> {
        error.downcast::<Self>()
    }
}

/// The prefix of a message about a URL from a redirect; empty for the client's own URL.
struct RedirectPrefix(usize);

impl fmt::Display for RedirectPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            redirects => write!(f, "redirect {redirects} was not followed: "),
        }
    }
}

/// A number of bytes in the largest unit that shows it without a fraction.
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
                Error::Timeout { wait: Wait::Total, limit: Duration::from_secs(300) },
                "the whole fetch took longer than 300s",
            ),
        ];
        for (error, message) in messages {
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn refusals_say_when_a_redirect_led_there() {
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
