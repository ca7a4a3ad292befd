//! HTTP client for one server. It retries transient errors, and bounds times and sizes.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

use crate::body::{Body, SendAttempt};
use crate::error::{Error, Problem};
use crate::request::Request;
use crate::retry;

/// Timeout of opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle timeout: maximum time without progress in sending a request or receiving a response.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of a buffered response. Results are streamed instead.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Maximum number of idle connections in the pool.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// Address of the server, credentials and retry time.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: Url,
    /// Value of the header `Authorization`: `Bearer wm_…`, marked as sensitive.
    pub(crate) key: Option<HeaderValue>,
    /// Time during which a request is retried, starting at its first failure.
    pub(crate) retry_time: Duration,
}

/// HTTP client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http<HttpsConnector<HttpConnector>, Body>,
    server: Server,
    /// Whether the server has responded to a request. Until then, a failed connection is not
    /// retried, because the address is probably wrong.
    has_responded: AtomicBool,
}

/// Response of the server.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// Complete body; empty if the response is streamed.
    pub(crate) body: Bytes,
    /// Unread body of a streamed response.
    rest: Option<Incoming>,
    server: String,
}

impl Response {
    /// Returns the entity tag (`ETag`).
    pub(crate) fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Deserializes the body from JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.unexpected(error))
    }

    /// Creates an [`Error::UnexpectedResponse`] for this response.
    pub(crate) fn unexpected(&self, detail: impl std::fmt::Display) -> Error {
        Error::UnexpectedResponse { server: self.server.clone(), detail: detail.to_string() }
    }

    /// Returns the next chunk of a streamed body, or `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let incomplete =
            |detail: String| Error::Unreachable { server: self.server.clone(), detail };
        let Some(body) = &mut self.rest else {
            return Ok(None);
        };
        loop {
            let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await;
            let frame = frame.map_err(|_| {
                incomplete("the server stopped sending before the response was complete".to_owned())
            })?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => {
                    return Err(incomplete(
                        "the connection was closed before the response was complete".to_owned(),
                    ));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Error of one attempt.
#[derive(Debug)]
enum SendError {
    /// A retry may succeed.
    Transient(Error),
    /// A retry would fail, too.
    Permanent(Error),
}

impl Client {
    /// Creates a client.
    ///
    /// # Errors
    /// [`Error::File`] if the root certificates of this machine cannot be read.
    pub(crate) fn new(server: Server) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::LimitExceeded(format!("cannot set up TLS: {error}")))?;
        // Loading the root certificates takes time, and only HTTPS needs them.
        let config = if server.url.scheme() == "https" {
            config.with_native_roots().map_err(Error::file(
                "cannot read the root certificates (set SSL_CERT_FILE to use other certificates)",
            ))?
        } else {
            config.with_root_certificates(RootCertStore::empty())
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let mut http = Http::builder(TokioExecutor::new());
        let http = http.pool_max_idle_per_host(IDLE_CONNECTIONS_MAX).build(connector);
        Ok(Self { http, server, has_responded: AtomicBool::new(false) })
    }

    /// Returns the address of the server for messages.
    pub(crate) fn name(&self) -> String {
        self.server.url.as_str().trim_end_matches('/').to_owned()
    }

    /// Sends a request, retries it after transient errors, and returns a successful response.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response, Error> {
        // The retry time starts at the first failure, because the first attempt may have taken long
        // to send a document or to wait for a job.
        let mut end = None;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (retry_after, outcome) = match self.try_once(request).await {
                Ok(response) if retry::is_transient(response.status) => {
                    (response.retry_after(), self.check_status(response))
                }
                // An earlier attempt deleted the resource, but its response was lost.
                Ok(response)
                    if attempts > 1
                        && request.method == Method::DELETE
                        && matches!(response.status, 404 | 410) =>
                {
                    return Ok(response);
                }
                Ok(response) => return self.check_status(response),
                Err(SendError::Permanent(error)) => return Err(error),
                Err(SendError::Transient(error)) => (None, Err(error)),
            };
            let now = Instant::now();
            let left = end.get_or_insert(now + self.server.retry_time).duration_since(now);
            match retry::compute_delay(attempts, retry_after, random_fraction(), left) {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return outcome,
            }
        }
    }

    /// Returns responses with status 2xx and 304, and turns all others into errors.
    fn check_status(&self, response: Response) -> Result<Response, Error> {
        match response.status {
            200..300 | 304 => Ok(response),
            300..400 => {
                let to = response.headers.get("location").and_then(|to| to.to_str().ok());
                let detail = format!("it redirects to {}", to.unwrap_or("an unknown address"));
                Err(response.unexpected(detail))
            }
            status => {
                let mut problem = Problem::parse(status, &response.body);
                if status == 401 && self.server.key.is_none() {
                    problem
                        .add_sentence("No API key was sent: set --key-file or WORDMILL_API_KEY.");
                }
                Err(Error::Problem(Box::new(problem)))
            }
        }
    }

    async fn try_once(&self, request: &Request) -> Result<Response, SendError> {
        let unreachable = |detail: String| Error::Unreachable { server: self.name(), detail };
        let attempt = Arc::new(SendAttempt::default());
        let built = self.build(request, &attempt).map_err(SendError::Permanent)?;
        let idle_time_max = IDLE_TIMEOUT + request.server_wait;
        let result = with_idle_timeout(self.http.request(built), &attempt, idle_time_max).await;
        // If the file could not be read, hyper reports a broken connection: the read error is the
        // cause.
        if let Some(error) = attempt.take_failure() {
            return Err(SendError::Permanent(error));
        }
        let Some(result) = result else {
            let detail = format!("no response for {} s", idle_time_max.as_secs());
            return Err(SendError::Transient(unreachable(detail)));
        };
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                let was_reachable =
                    !error.is_connect() || self.has_responded.load(Ordering::Relaxed);
                let error = unreachable(join_causes(&error));
                return Err(match was_reachable {
                    true => SendError::Transient(error),
                    false => SendError::Permanent(error),
                });
            }
        };
        self.has_responded.store(true, Ordering::Relaxed);
        self.receive(request, response).await
    }

    fn build(
        &self,
        request: &Request,
        attempt: &Arc<SendAttempt>,
    ) -> Result<hyper::Request<Body>, Error> {
        let url = request.url(&self.server.url);
        let mut built = hyper::Request::builder().method(request.method.clone()).uri(url.as_str());
        built = built.header(USER_AGENT, concat!("wordmill/", env!("CARGO_PKG_VERSION")));
        if let Some(key) = &self.server.key {
            built = built.header(AUTHORIZATION, key);
        }
        for (name, value) in &request.headers {
            built = built.header(name, value);
        }
        if let Some(content_type) = request.payload.content_type() {
            built = built.header(CONTENT_TYPE, content_type);
            built = built.header(CONTENT_LENGTH, request.payload.size_bytes());
        }
        let body = request.payload.body(attempt);
        built
            .body(body)
            .map_err(|error| Error::Usage(format!("cannot build a request for {url}: {error}")))
    }

    async fn receive(
        &self,
        request: &Request,
        response: hyper::Response<Incoming>,
    ) -> Result<Response, SendError> {
        let (parts, mut body) = response.into_parts();
        let status = parts.status.as_u16();
        let build_response = |body, rest| Response {
            status,
            headers: parts.headers,
            body,
            rest,
            server: self.name(),
        };
        if request.is_streamed && parts.status.is_success() {
            return Ok(build_response(Bytes::new(), Some(body)));
        }
        let incomplete = |detail: &str| {
            let detail = detail.to_owned();
            SendError::Transient(Error::Unreachable { server: self.name(), detail })
        };
        let mut received = BytesMut::new();
        loop {
            let frame = tokio::time::timeout(IDLE_TIMEOUT, body.frame()).await;
            match frame.map_err(|_| {
                incomplete("the server stopped sending before the response was complete")
            })? {
                None => return Ok(build_response(received.freeze(), None)),
                Some(Err(_)) => {
                    return Err(incomplete(
                        "the connection was closed before the response was complete",
                    ));
                }
                Some(Ok(frame)) => {
                    received.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
            if received.len() > RESPONSE_BYTES_MAX {
                let detail =
                    format!("the server's response exceeds {} MiB", RESPONSE_BYTES_MAX >> 20);
                return Err(SendError::Permanent(Error::LimitExceeded(detail)));
            }
        }
    }
}

/// Waits for a response as long as the request body makes progress. Returns `None` if no byte of
/// the body was sent within `idle_time_max`.
async fn with_idle_timeout<T>(
    exchange: impl Future<Output = T>,
    attempt: &SendAttempt,
    idle_time_max: Duration,
) -> Option<T> {
    let mut exchange = std::pin::pin!(exchange);
    let mut previous = 0;
    loop {
        if let Ok(response) = tokio::time::timeout(idle_time_max, &mut exchange).await {
            return Some(response);
        }
        let sent = attempt.sent();
        if sent == previous {
            return None;
        }
        previous = sent;
    }
}

/// Joins the causes of an error, from the most general to the most specific.
fn join_causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        // Some errors repeat the text of their cause.
        if !causes.iter().any(|before| before.contains(&text)) {
            causes.push(text);
        }
        cause = source.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

fn random_fraction() -> f64 {
    // Without randomness, clients may retry at the same time, which is better than failing.
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}
