//! Requests to one server: sent again while that may help, and bounded in time and size.

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

use crate::body::{Attempt, Body};
use crate::error::{Error, Problem};
use crate::request::Request;
use crate::retry;

/// Longest time to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest silence of a server that has something to say, and of a connection that takes nothing.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(60);
/// Largest answer that is held in memory. Results are not: they are passed on as they come.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Connections that are kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// Where the server is, and as whom it is asked.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: Url,
    /// Complete: `Bearer wm_…`, marked as secret.
    pub(crate) key: Option<HeaderValue>,
    /// For how long a request is sent again.
    pub(crate) retry_time: Duration,
}

/// A client of one server.
#[derive(Debug)]
pub(crate) struct Client {
    http: Http<HttpsConnector<HttpConnector>, Body>,
    server: Server,
    /// One that nobody can connect to and that has never answered is not waited for: its address is
    /// wrong, as a rule.
    has_answered: AtomicBool,
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HeaderMap,
    /// All of it, unless it is streamed.
    pub(crate) body: Bytes,
    rest: Option<Incoming>,
    server: String,
}

impl Answer {
    /// Returns the entity tag.
    pub(crate) fn etag(&self) -> Option<&HeaderValue> {
        self.headers.get(ETAG)
    }

    fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// Reads the body as JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.unexpected(error))
    }

    /// Says what is wrong with it.
    pub(crate) fn unexpected(&self, detail: impl std::fmt::Display) -> Error {
        Error::UnexpectedAnswer { server: self.server.clone(), detail: detail.to_string() }
    }

    /// Returns the next piece of a streamed body; `None` after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let cut = |detail: String| Error::Unreachable { server: self.server.clone(), detail };
        let Some(body) = &mut self.rest else {
            return Ok(None);
        };
        loop {
            let frame = tokio::time::timeout(SILENCE_TIME_MAX, body.frame()).await;
            let frame = frame.map_err(|_| cut("the answer stopped in the middle".to_owned()))?;
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(cut("the answer was cut off".to_owned())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// Why one try got no answer.
#[derive(Debug)]
enum AttemptError {
    /// Another try may do better.
    Transient(Error),
    /// None would.
    Permanent(Error),
}

impl Client {
    /// Returns a client.
    ///
    /// # Errors
    /// [`Error::File`] if the root certificates of this machine cannot be read.
    pub(crate) fn new(server: Server) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::LimitExceeded(format!("TLS cannot be set up: {error}")))?;
        // Reading them takes time, and only HTTPS needs them.
        let config = if server.url.scheme() == "https" {
            config.with_native_roots().map_err(Error::file(
                "cannot read this machine's root certificates (SSL_CERT_FILE may name others)",
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

    /// Returns the address of the server, as people know it.
    pub(crate) fn name(&self) -> String {
        self.server.url.as_str().trim_end_matches('/').to_owned()
    }

    /// Sends a request, again if that may help, and returns the answer if it is a good one.
    ///
    /// # Errors
    /// Those of the last try.
    pub(crate) async fn send(&self, request: &Request) -> Result<Answer, Error> {
        // From the first failure on: a long document, or a long wait, may have gone before.
        let mut end = None;
        let mut tries = 0;
        loop {
            tries += 1;
            let tried = self.try_once(request).await;
            let (retry_after, outcome) = match tried {
                Ok(answer) if retry::is_transient(answer.status) => {
                    (answer.retry_after(), self.check_status(answer))
                }
                // The first try had arrived, only its answer had not.
                Ok(answer)
                    if tries > 1
                        && request.method == Method::DELETE
                        && matches!(answer.status, 404 | 410) =>
                {
                    return Ok(answer);
                }
                Ok(answer) => return self.check_status(answer),
                Err(AttemptError::Permanent(error)) => return Err(error),
                Err(AttemptError::Transient(error)) => (None, Err(error)),
            };
            let now = Instant::now();
            let left = end.get_or_insert(now + self.server.retry_time).duration_since(now);
            match retry::pause(tries, retry_after, jitter(), left) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return outcome,
            }
        }
    }

    /// Tells a good answer from a bad one.
    fn check_status(&self, answer: Answer) -> Result<Answer, Error> {
        match answer.status {
            200..300 | 304 => Ok(answer),
            300..400 => {
                let to = answer.headers.get("location").and_then(|to| to.to_str().ok());
                let detail = format!("it redirects to {}", to.unwrap_or("another place"));
                Err(answer.unexpected(detail))
            }
            status => {
                let mut problem = Problem::read(status, &answer.body);
                if status == 401 && self.server.key.is_none() {
                    problem.add("No key was sent: --key-file or WORDMILL_API_KEY names one.");
                }
                Err(Error::Problem(Box::new(problem)))
            }
        }
    }

    async fn try_once(&self, request: &Request) -> Result<Answer, AttemptError> {
        let unreachable = |detail: String| Error::Unreachable { server: self.name(), detail };
        let attempt = Arc::new(Attempt::default());
        let built = self.build(request, &attempt).map_err(AttemptError::Permanent)?;
        let allowed = SILENCE_TIME_MAX + request.waits;
        let answered = with_idle_timeout(self.http.request(built), &attempt, allowed).await;
        if let Some(error) = attempt.failure() {
            return Err(AttemptError::Permanent(error));
        }
        let Some(answered) = answered else {
            let detail = format!("nothing was heard for {} s", allowed.as_secs());
            return Err(AttemptError::Transient(unreachable(detail)));
        };
        let response = match answered {
            Ok(response) => response,
            Err(error) => {
                let was_there = !error.is_connect() || self.has_answered.load(Ordering::Relaxed);
                let error = unreachable(causes(&error));
                return Err(match was_there {
                    true => AttemptError::Transient(error),
                    false => AttemptError::Permanent(error),
                });
            }
        };
        self.has_answered.store(true, Ordering::Relaxed);
        self.read(request, response).await
    }

    fn build(
        &self,
        request: &Request,
        attempt: &Arc<Attempt>,
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
            .map_err(|error| Error::Usage(format!("{url} cannot be asked for: {error}")))
    }

    async fn read(
        &self,
        request: &Request,
        response: Response<Incoming>,
    ) -> Result<Answer, AttemptError> {
        let (parts, mut body) = response.into_parts();
        let status = parts.status.as_u16();
        let answer =
            |body, rest| Answer { status, headers: parts.headers, body, rest, server: self.name() };
        if request.is_streamed && parts.status.is_success() {
            return Ok(answer(Bytes::new(), Some(body)));
        }
        let cut = |detail: &str| {
            let detail = detail.to_owned();
            AttemptError::Transient(Error::Unreachable { server: self.name(), detail })
        };
        let mut received = BytesMut::new();
        loop {
            let frame = tokio::time::timeout(SILENCE_TIME_MAX, body.frame()).await;
            match frame.map_err(|_| cut("the answer stopped in the middle"))? {
                None => return Ok(answer(received.freeze(), None)),
                Some(Err(_)) => return Err(cut("the answer was cut off")),
                Some(Ok(frame)) => {
                    received.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
            if received.len() > ANSWER_BYTES_MAX {
                let detail = "an answer of the server is too large to be held in memory";
                return Err(AttemptError::Permanent(Error::LimitExceeded(detail.to_owned())));
            }
        }
    }
}

/// Waits for an exchange as long as something moves; `None` if nothing did for `allowed`.
async fn with_idle_timeout<T>(
    exchange: impl Future<Output = T>,
    attempt: &Attempt,
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

/// Returns what an error was caused by, from the most general to the most special.
fn causes(error: &hyper_util::client::legacy::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(source) = cause {
        let text = source.to_string();
        // Some repeat what they were caused by.
        if !causes.iter().any(|before| before.contains(&text)) {
            causes.push(text);
        }
        cause = source.source();
    }
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

fn jitter() -> f64 {
    // Without randomness all come back at the same time, which is no reason to give up.
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}
