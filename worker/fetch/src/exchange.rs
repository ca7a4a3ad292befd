//! Exchanges one request and its response over one connection.
//!
//! Each hop opens its own connection and closes it at the end. Without a pool, no request can use a
//! connection to an address that the guard did not check for it. The reader of the response drives
//! the connection, so no background task is needed, and a slow reader applies backpressure to the
//! server.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT,
};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use url::{Position, Url};

use super::connect::Connection;
use super::decode;
use super::error::{Error, Phase};
use super::guard::Refusal;
use super::limits::Limits;

/// Media types that can be counted, in order of preference.
const ACCEPT_TYPES: &str =
    "text/html, application/xhtml+xml, text/plain;q=0.9, text/*;q=0.8, */*;q=0.5";

/// Connection with one request and one response. It makes progress only while it is polled.
pub(super) struct ConnectionDriver {
    connection_future: Option<http1::Connection<TokioIo<Connection>, Full<Bytes>>>,
}

impl ConnectionDriver {
    /// Moves bytes between the socket and the response, as far as possible without waiting.
    pub(super) fn poll_drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection_future) = &mut self.connection_future
            && Pin::new(connection_future).poll(cx).is_ready()
        {
            // The reader of the response receives the same error, so it is not handled here.
            self.connection_future = None;
        }
    }
}

/// Builds the request for a URL.
///
/// # Errors
/// [`Refusal::Length`] if the URL is too long for a request line.
pub(super) fn build_request(
    url: &Url,
    user_agent: HeaderValue,
) -> Result<Request<Full<Bytes>>, Refusal> {
    // The URL parser has escaped all characters that are invalid here, so only the length can be
    // wrong.
    let authority = &url[Position::BeforeHost..Position::AfterPort];
    let target = &url[Position::BeforePath..Position::AfterQuery];
    Request::get(target)
        .header(HOST, authority)
        .header(USER_AGENT, user_agent)
        .header(ACCEPT, HeaderValue::from_static(ACCEPT_TYPES))
        .header(ACCEPT_ENCODING, HeaderValue::from_static(decode::ACCEPT_ENCODINGS))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Full::default())
        .map_err(|_| Refusal::Length)
}

/// Builds the request that posts JSON to a URL, with further header fields.
///
/// # Errors
/// [`Refusal::Length`] if the URL is too long for a request line.
pub(super) fn build_post(
    url: &Url,
    user_agent: HeaderValue,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Refusal> {
    let mut request = build_request(url, user_agent)?;
    *request.method_mut() = Method::POST;
    *request.body_mut() = Full::new(body);
    let fields = request.headers_mut();
    fields.remove(ACCEPT);
    // The response body is discarded without decoding.
    fields.remove(ACCEPT_ENCODING);
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.extend(headers);
    Ok(request)
}

/// Sends a request and waits for the header of the response.
///
/// # Errors
/// [`Error::Timeout`] if the header is not complete in time, and the errors of the connection.
pub(super) async fn send(
    connection: Connection,
    request: Request<Full<Bytes>>,
    limits: &Limits,
) -> Result<(Response<Incoming>, ConnectionDriver), Error> {
    let limit = limits.first_byte_timeout;
    timeout(limit, run_exchange(connection, request, limits.header_size_max))
        .await
        .unwrap_or(Err(Error::Timeout { phase: Phase::FirstByte, limit }))
}

async fn run_exchange(
    connection: Connection,
    request: Request<Full<Bytes>>,
    header_size_max: usize,
) -> Result<(Response<Incoming>, ConnectionDriver), Error> {
    let to_error = |error| Error::from_http(error, header_size_max);
    let (mut sender, connection_future) = http1::Builder::new()
        .max_buf_size(header_size_max)
        .handshake(TokioIo::new(connection))
        .await
        .map_err(to_error)?;
    let mut driver = ConnectionDriver { connection_future: Some(connection_future) };
    let mut response = pin!(sender.send_request(request));
    let response = poll_fn(|cx| {
        // The response becomes ready only while the connection is driven, so poll it again after
        // that.
        if let Poll::Ready(response) = response.as_mut().poll(cx) {
            return Poll::Ready(response);
        }
        driver.poll_drive(cx);
        response.as_mut().poll(cx)
    });
    let response = response.await.map_err(to_error)?;
    Ok((response, driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_and_host(url: &str) -> (String, String) {
        let agent = HeaderValue::from_static("test");
        let request = build_request(&Url::parse(url).unwrap(), agent).unwrap();
        let host = request.headers()[HOST].to_str().unwrap().to_owned();
        (request.uri().to_string(), host)
    }

    #[test]
    fn requests_contain_only_the_path_and_query_of_the_url() {
        for (url, line, host) in [
            ("http://example.com", "/", "example.com"),
            ("https://example.com:443/a?b=c#d", "/a?b=c", "example.com"),
            ("http://example.com:8080/?q", "/?q", "example.com:8080"),
            ("http://[2606:4700::1111]:8080/", "/", "[2606:4700::1111]:8080"),
            ("http://bücher.example/ä b", "/%C3%A4%20b", "xn--bcher-kva.example"),
            (
                "http://h.example/!$&'()*+,;=:@|^`{}\"<>[]\\~?`{}\"|^[]\\'<>",
                "/!$&'()*+,;=:@|^%60%7B%7D%22%3C%3E[]/~?`{}%22|^[]\\%27%3C%3E",
                "h.example",
            ),
        ] {
            assert_eq!(line_and_host(url), (line.to_owned(), host.to_owned()));
        }
    }

    #[test]
    fn too_long_urls_are_refused() {
        let url = Url::parse(&format!("http://example.com/{}", "a".repeat(70_000))).unwrap();
        let refused = build_request(&url, HeaderValue::from_static("test"));
        assert_eq!(refused.unwrap_err(), Refusal::Length);
    }
}
