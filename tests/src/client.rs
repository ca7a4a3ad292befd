//! HTTP client of the services.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::{runtime, wait_for};

/// Timeout of one request.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// An HTTP client of one service.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    key: Option<String>,
    tls: Option<Trust>,
}

/// TLS settings of a client: the trusted authority and the expected server name.
#[derive(Debug, Clone)]
pub struct Trust {
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Trusts an authority, given as PEM, for a service with this name.
    pub fn new(name: &str, authority: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority.as_bytes()).expect("PEM");
        roots.add(authority).expect("a certificate authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self { name, config: Arc::new(config) }
    }

    /// Offers application protocols by ALPN.
    pub fn with_protocols(mut self, protocols: &[&str]) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self.config = Arc::new(config);
        self
    }
}

/// An HTTP response with any status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub bytes: Vec<u8>,
    /// Body as text. Invalid UTF-8 is replaced.
    pub text: String,
}

impl Answer {
    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// Returns the value of a header field. `name` must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Asserts that the response is a complete problem with `status` and `code`, and returns it.
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:wordmill:error:{code}"), "{problem}");
        for field in ["title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        assert!(problem["retryable"].is_boolean(), "{problem}");
        let trace_id = problem["trace_id"].as_str().expect("a trace id");
        assert_eq!(trace_id.len(), 32, "{problem}");
        if status == 503 {
            assert!(self.header("retry-after").is_some(), "{self:?}");
        }
        problem
    }
}

impl Client {
    /// Returns a client of the service at `address`.
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), key: None, tls: None }
    }

    /// Returns a client that sends an API key with every request.
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// Returns a client that uses HTTPS.
    pub fn with_tls(&self, trust: Trust) -> Self {
        Self { tls: Some(trust), ..self.clone() }
    }

    /// Returns the API key, if the client has one.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Returns the address of the service, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends a request on a new connection.
    ///
    /// # Errors
    /// A description of the failure if no complete response arrives within 90 s.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        runtime().block_on(self.exchange(method, path, headers, body))
    }

    /// Sends a `GET` request from asynchronous code.
    ///
    /// # Errors
    /// A description of the failure if no complete response arrives within 90 s.
    pub async fn get_async(&self, path: &str) -> Result<Answer, String> {
        self.exchange("GET", path, &[], &[]).await
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header(HOST, &self.address);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let body = Full::new(Bytes::copy_from_slice(body));
        let request = request.body(body).expect("a request");
        let exchange = tokio::time::timeout(ANSWER_MAX, exchange(self, request));
        exchange.await.map_err(|_| "no answer in time".to_owned())?
    }

    /// Sends a request, and panics if no response arrives.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body)
            .unwrap_or_else(|error| panic!("{method} {}: {error}", self.url(path)))
    }

    /// Sends a `GET` request.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], &[])
    }

    /// Sends a `POST` request with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    /// Submits a job, asserts that it is accepted, and returns its id.
    pub fn submit(&self, body: &Value) -> String {
        let answer = self.post("/v1/jobs", body);
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["job_id"].as_str().expect("a job id").to_owned()
    }

    /// Submits a job with a URL as its source.
    pub fn submit_url(&self, url: &str) -> String {
        self.submit(&json!({"url": url}))
    }

    /// Polls a job until it is final, and returns it.
    pub fn wait_until_final(&self, job_id: &str, limit: Duration) -> Value {
        wait_for(&format!("job {job_id} is final"), limit, || {
            let answer = self.get(&format!("/v1/jobs/{job_id}"));
            assert_eq!(answer.status, 200, "{answer:?}");
            let job = answer.json();
            let status = job["status"].as_str().expect("a status").to_owned();
            matches!(status.as_str(), "succeeded" | "failed" | "cancelled").then_some(job)
        })
    }

    /// Returns the result of a succeeded job.
    pub fn result(&self, job_id: &str) -> Value {
        let answer = self.get(&format!("/v1/jobs/{job_id}/result"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

/// Sends one request on a new connection.
async fn exchange(client: &Client, request: Request<Full<Bytes>>) -> Result<Answer, String> {
    let stream = tokio::net::TcpStream::connect(&client.address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let Some(trust) = &client.tls else {
        return exchange_over(stream, request).await;
    };
    let connector = TlsConnector::from(Arc::clone(&trust.config));
    let stream = connector.connect(trust.name.clone(), stream).await;
    exchange_over(stream.map_err(|error| error.to_string())?, request).await
}

async fn exchange_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
    connection.abort();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields = parts.headers.iter();
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: fields.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
        text: text(&body),
        bytes: body.to_vec(),
    })
}
