//! Classifies a response by its header: a page, a redirect, or an error.

use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::http::response::Parts;
use url::Url;

use super::decode::ContentEncoding;
use super::error::{Error, RedirectFault, SizeLimit};
use super::limits::Limits;

/// Maximum Retry-After that is returned. A longer one is clamped, so that adding it to a time
/// cannot overflow.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Kind of a response.
#[derive(Debug)]
pub(super) enum ResponseKind {
    /// A page. Its body has not been read.
    Page(Head),
    /// A redirect to this URL.
    Redirect(Url),
}

/// Header fields of a page that are used.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) encoding: ContentEncoding,
    pub(super) framing: Framing,
    /// Size of the body before decompression, in bytes, if known.
    pub(super) total_bytes: Option<u64>,
}

/// Marker of the end of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// A length that is known from the header.
    Length,
    /// A last chunk.
    Chunked,
    /// The end of the connection. A broken connection looks the same.
    UntilClose,
}

/// Classifies a response to a request for `url` by its header.
///
/// # Errors
/// [`Error::Status`] for a 4xx or 5xx status, [`Error::Redirects`] for a redirect without a valid
/// target, [`Error::TooLarge`], [`Error::Decode`] and [`Error::Protocol`].
pub(super) fn classify(
    url: &Url,
    parts: &Parts,
    body: &Incoming,
    limits: &Limits,
    now: SystemTime,
) -> Result<ResponseKind, Error> {
    let status = parts.status;
    if status.is_redirection() {
        return redirect_location(url, status, &parts.headers)
            .map(ResponseKind::Redirect)
            .map_err(Error::from);
    }
    if status.is_client_error() || status.is_server_error() {
        let retry_after = parse_retry_after(&parts.headers, now);
        return Err(Error::Status { status: status.as_u16(), retry_after });
    }
    if !status.is_success() {
        return Err(Error::Protocol { what: "unexpected status", source: None });
    }
    if status == StatusCode::PARTIAL_CONTENT {
        // A part must not be counted as the whole page.
        return Err(Error::Protocol {
            what: "a partial response (206) was not requested",
            source: None,
        });
    }
    let encoding = ContentEncoding::from_headers(&parts.headers)?;
    // The `Content-Length` header is not used: in a chunked body it has no effect.
    let total_bytes = body.size_hint().exact();
    if total_bytes.is_some_and(|total_bytes| total_bytes > limits.wire_size_max) {
        return Err(SizeLimit::Wire(limits.wire_size_max).into());
    }
    let content_type = parts.headers.get(CONTENT_TYPE);
    Ok(ResponseKind::Page(Head {
        status: status.as_u16(),
        content_type: content_type.and_then(|value| value.to_str().ok()).map(str::to_owned),
        encoding,
        framing: framing_of(&parts.headers, total_bytes)?,
        total_bytes,
    }))
}

fn redirect_location(
    url: &Url,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<Url, RedirectFault> {
    let unusable = RedirectFault::NoLocation { status: status.as_u16() };
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Err(unusable);
    }
    // Servers may send unescaped UTF-8 here. The URL parser escapes it.
    let location = headers.get(LOCATION).and_then(|value| str::from_utf8(value.as_bytes()).ok());
    location.and_then(|location| url.join(location).ok()).ok_or(unusable)
}

fn framing_of(headers: &HeaderMap, total_bytes: Option<u64>) -> Result<Framing, Error> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter().peekable();
    match (encodings.peek(), total_bytes) {
        (None, Some(_)) => return Ok(Framing::Length),
        (None, None) => return Ok(Framing::UntilClose),
        (Some(_), _) => {}
    }
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Ok(Framing::Chunked);
    }
    // Compression at this layer was not requested, and no code would decompress it.
    Err(Error::Protocol { what: "the transfer encoding is not chunked", source: None })
}

/// Parses a Retry-After header in either form, seconds or a date.
pub(super) fn parse_retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value.as_bytes()).unwrap())])
    }

    #[test]
    fn both_forms_of_retry_after_are_parsed() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:00 GMT").unwrap();
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(59)),
            ("Friday, 31-Dec-99 23:59:59 GMT", Some(59)),
            ("Fri Dec 31 23:59:59 1999", Some(59)),
            ("Fri, 31 Dec 1999 00:00:00 GMT", Some(0)),
            ("99999999999999999999999", Some(RETRY_AFTER_MAX.as_secs())),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(RETRY_AFTER_MAX.as_secs())),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let read = parse_retry_after(&headers(RETRY_AFTER, value), now);
            assert_eq!(read, expected.map(Duration::from_secs), "{value:?}");
        }
    }

    #[test]
    fn locations_are_resolved_against_the_request_url() {
        let url = Url::parse("https://example.com/a/b?c").unwrap();
        for (location, expected) in [
            ("/x", "https://example.com/x"),
            ("x?y", "https://example.com/a/x?y"),
            ("//other.test/", "https://other.test/"),
            ("http://plain.test", "http://plain.test/"),
            ("/ä ö", "https://example.com/%C3%A4%20%C3%B6"),
            ("file:///etc/passwd", "file:///etc/passwd"),
        ] {
            let to =
                redirect_location(&url, StatusCode::FOUND, &headers(LOCATION, location)).unwrap();
            assert_eq!(to.as_str(), expected);
        }
    }

    #[test]
    fn redirects_without_a_usable_location_are_errors() {
        let url = Url::parse("https://example.com/").unwrap();
        let to = |status: u16, headers: &HeaderMap| {
            redirect_location(&url, StatusCode::from_u16(status).unwrap(), headers)
        };
        let fault = |status| Err(RedirectFault::NoLocation { status });
        assert_eq!(to(302, &HeaderMap::new()), fault(302));
        assert_eq!(to(301, &headers(LOCATION, "http://[")), fault(301));
        for status in [300, 304, 305, 306, 399] {
            assert_eq!(to(status, &headers(LOCATION, "/x")), fault(status));
        }
    }

    #[test]
    fn transfer_encodings_other_than_chunked_are_refused() {
        assert_eq!(framing_of(&HeaderMap::new(), Some(1)).unwrap(), Framing::Length);
        assert_eq!(framing_of(&HeaderMap::new(), None).unwrap(), Framing::UntilClose);
        let chunked = headers(TRANSFER_ENCODING, "Chunked");
        assert_eq!(framing_of(&chunked, None).unwrap(), Framing::Chunked);
        assert!(framing_of(&headers(TRANSFER_ENCODING, "gzip, chunked"), None).is_err());
    }
}
