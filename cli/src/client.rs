//! HTTP client for one server. It retries transient errors, and bounds times and sizes.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, RETRY_AFTER,
    USER_AGENT,
};
use hyper::{Method, Response};
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
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Idle timeout: maximum time without progress in sending a request or receiving a response.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(60);
/// Maximum size of a buffered response. Results are streamed instead.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Maximum number of idle connections in the pool.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// Address of the server, credentials and retry time.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: Url,
    /// Value of the header `Authorization`: `Bearer wm_…`, marked as sensitive.
    pub(crate) key: Option<HeaderValue>,
    /// How long a request is retried, starting at its first failure.
    pub(crate) retry_time: Duration,
}

/// HTTP client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http<HttpsConnector<HttpConnector>, Body>,
    server: Server,
    /// Whether the server has answered a request before. Until then a failed connection is not
    /// retried, because the address is probably wrong.
    has_answered: AtomicBool,
}

/// Response of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// Complete body; empty if the response is streamed.
    pub(crate) body: Bytes,
    /// Unread body of a streamed response.
    rest: Option<Incoming>,
    server: String,
}

impl Answer {
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

    /// Creates an [`Error::UnexpectedAnswer`] for this response.
    pub(crate) fn unexpected(&self, detail: impl std::fmt::Display) -> Error {
        Error::UnexpectedAnswer { server: self.server.clone(), detail: detail.to_string() }
    }

    /// Returns the next piece of a streamed body, or `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let cut = |detail: String| Error::Unreachable { server: self.server.clone(), detail };
        let Some(body) = &mut self.rest else {
            return Ok(None);
        };
        loop {
            let frame = tokio::time::timeout(SILENCE_TIME_MAX, body.frame()).await;
            let frame = frame.map_err(|_| cut("the response stopped before its end".to_owned()))?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => {
                    return Err(cut("the connection broke within the response".to_owned()));
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
            .map_err(|error| Error::LimitExceeded(format!("TLS cannot be set up: {error}")))?;
        // Loading the root certificates takes time, and only HTTPS needs them.
        let config = if server.url.scheme() == "https" {
            config.with_native_roots().map_err(Error::file(
                "cannot read this machine's root certificates (SSL_CERT_FILE can name others)",
            ))?
        } else {
            config.with_root_certificates(RootCertStore::empty())
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
        tcp.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let mut http = Http::builder(TokioExecutor::new());
        let http = http.pool_max_idle_per_host(IDLE_CONNECTIONS_MAX).build(connector);
        Ok(Self { http, server, has_answered: AtomicBool::new(false) })
    }

    /// Returns the address of the server for messages.
    pub(crate) fn name(&self) -> String {
        self.server.url.as_str().trim_end_matches('/').to_owned()
    }

    /// Sends a request, retries it after transient errors, and returns a successful response.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, Error> {
        // The retry time starts at the first failure: the first attempt may have sent a long
        // document, or waited for a job.
        let mut end = None;
        let mut tries = 0;
        loop {
            tries += 1;
            let tried = self.try_once(request).await;
            let (retry_after, outcome) = match tried {
                Ok(answer) if retry::is_transient(answer.status) => {
                    (answer.retry_after(), self.check_status(answer))
                }
                // The first attempt deleted the resource, but its response was lost.
                Ok(answer)
                    if tries > 1
                        && request.method == Method::DELETE
                        && matches!(answer.status, 404 | 410) =>
                {
                    return Ok(answer);
                }
                Ok(answer) => return self.check_status(answer),
                Err(SendError::Permanent(error)) => return Err(error),
                Err(SendError::Transient(error)) => (None, Err(error)),
            };
            let now = Instant::now();
            let left = end.get_or_insert(now + self.server.retry_time).duration_since(now);
            match retry::pause(tries, retry_after, jitter(), left) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return outcome,
            }
        }
    }

    /// Returns responses with status 2xx and 304, and turns all others into errors.
    fn check_status(&self, answer: Answer) -> Result<Answer, Error> {
        match answer.status {
            200..300 | 304 => Ok(answer),
            300..400 => {
                let to = answer.headers.get("location").and_then(|to| to.to_str().ok());
                let detail = format!("it redirects to {}", to.unwrap_or("an unknown address"));
                Err(answer.unexpected(detail))
            }
            status => {
                let mut problem = Problem::read(status, &answer.body);
                if status == 401 && self.server.key.is_none() {
                    problem.add("No API key was sent: set --key-file or WORDMILL_API_KEY.");
                }
                Err(Error::Problem(Box::new(problem)))
            }
        }
    }

    async fn try_once(&self, request: &Request) -> Result<Answer, SendError> {
        let unreachable = |detail: String| Error::Unreachable { server: self.name(), detail };
        let attempt = Arc::new(SendAttempt::default());
        let built = self.build(request, &attempt).map_err(SendError::Permanent)?;
        let allowed = SILENCE_TIME_MAX + request.waits;
        let answered = with_idle_timeout(self.http.request(built), &attempt, allowed).await;
        // If the file could not be read, hyper reports a broken connection: the read error is the
        // cause.
        if let Some(error) = attempt.failure() {
            return Err(SendError::Permanent(error));
        }
        let Some(answered) = answered else {
            let detail = format!("no response for {} s", allowed.as_secs());
            return Err(SendError::Transient(unreachable(detail)));
        };
        let response = match answered {
            Ok(response) => response,
            Err(error) => {
                let was_reachable =
                    !error.is_connect() || self.has_answered.load(Ordering::Relaxed);
                let error = unreachable(causes(&error));
                return Err(match was_reachable {
                    true => SendError::Transient(error),
                    false => SendError::Permanent(error),
                });
            }
        };
        self.has_answered.store(true, Ordering::Relaxed);
        self.read(request, response).await
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

    async fn read(
        &self,
        request: &Request,
        response: Response<Incoming>,
    ) -> Result<Answer, SendError> {
        let (parts, mut body) = response.into_parts();
        let status = parts.status.as_u16();
        let answer =
            |body, rest| Answer { status, headers: parts.headers, body, rest, server: self.name() };
        if request.is_streamed && parts.status.is_success() {
            return Ok(answer(Bytes::new(), Some(body)));
        }
        let cut = |detail: &str| {
            let detail = detail.to_owned();
            SendError::Transient(Error::Unreachable { server: self.name(), detail })
        };
        let mut received = BytesMut::new();
        loop {
            let frame = tokio::time::timeout(SILENCE_TIME_MAX, body.frame()).await;
            match frame.map_err(|_| cut("the response stopped before its end"))? {
                None => return Ok(answer(received.freeze(), None)),
                Some(Err(_)) => return Err(cut("the connection broke within the response")),
                Some(Ok(frame)) => {
                    received.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
            if received.len() > ANSWER_BYTES_MAX {
                let detail = "a response of the server is too large to be held in memory";
                return Err(SendError::Permanent(Error::LimitExceeded(detail.to_owned())));
            }
        }
    }
}

/// Waits for an exchange while its body makes progress. Returns `None` if no byte of the body was
/// sent within `allowed`.
async fn with_idle_timeout<T>(
    exchange: impl Future<Output = T>,
    attempt: &SendAttempt,
    allowed: Duration,
) -> Option<T> {
    let mut exchange = std::pin::pin!(exchange);
    let mut previous = 0;
    loop {
        if let Ok(answered) = tokio::time::timeout(allowed, &mut exchange).await {
            return Some(answered);
        }
        let sent = attempt.sent();
        if sent == previous {
            return None;
        }
        previous = sent;
    }
}

/// Joins the causes of an error, from the most general to the most specific.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
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

fn jitter() -> f64 {
    // Without randomness all clients retry at the same time. That is better than failing.
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}
