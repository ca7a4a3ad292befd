//! HTTP client of the exporter: TLS, headers, proxies, and the causes of failures.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, USER_AGENT};
use hyper_rustls::ConfigBuilderExt as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use reqwest::redirect::Policy;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use url::{Host, Url};

use crate::env::{SettingWarning, redact_url};

/// Protocol that the client offers in the TLS handshake, the only one that it supports.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Path of a PEM file, and the variable that names it.
#[derive(Debug, Clone)]
pub(super) struct PemFile {
    /// Name of the variable.
    pub(super) variable: &'static str,
    /// Path of the file.
    pub(super) path: PathBuf,
}

impl PemFile {
    fn read<T>(
        &self,
        read: impl FnOnce(&Path) -> Result<T, pem::Error>,
    ) -> Result<T, SettingWarning> {
        read(&self.path).map_err(|error| self.warning(&error))
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, SettingWarning> {
        self.read(|path| {
            let certificates: Vec<_> =
                CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
            if certificates.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(certificates) }
        })
    }

    fn warning(&self, reason: &impl ToString) -> SettingWarning {
        let value = self.path.display().to_string();
        // Without the file, the headers could be sent to a server that the operator does not trust.
        let reason = format!("{}; spans are not exported", reason.to_string());
        SettingWarning { variable: self.variable, value, reason }
    }
}

/// Certificates for TLS.
#[derive(Debug, Clone, Default)]
pub(super) struct Tls {
    /// Trusted authorities, instead of those of the system.
    pub(super) authorities: Option<PemFile>,
    /// Client certificate, and its private key.
    pub(super) identity: Option<(PemFile, PemFile)>,
}

impl Tls {
    /// Reads the files, and creates the configuration of TLS connections.
    fn config(&self) -> Result<ClientConfig, SettingWarning> {
        let builder = match &self.authorities {
            Some(file) => {
                let mut roots = RootCertStore::empty();
                for certificate in file.certificates()? {
                    roots.add(certificate).map_err(|error| file.warning(&error))?;
                }
                config_builder().with_root_certificates(roots)
            }
            None => with_system_roots(),
        };
        let mut config = match &self.identity {
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    certificate.certificates()?,
                    key.read(|path| PrivateKeyDer::from_pem_file(path))?,
                )
                .map_err(|error| key.warning(&error))?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![ALPN_HTTP1.to_owned()];
        Ok(config)
    }
}

fn config_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    #[expect(clippy::expect_used, reason = "ring supports the default versions of TLS")]
    builder.with_safe_default_protocol_versions().expect("TLS versions")
}

/// Trusts the authorities of the system, or Mozilla's list if the system has none, for example in
/// an image that contains only this program.
fn with_system_roots() -> ConfigBuilder<ClientConfig, WantsClientCert> {
    config_builder().with_native_roots().unwrap_or_else(|_| {
        let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        config_builder().with_root_certificates(RootCertStore { roots })
    })
}

/// HTTP client of the exporter. Clones share the connections and the last error.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::blocking::Client,
    /// Headers of every request. Their values are sensitive, so `Debug` does not show them.
    headers: HeaderMap,
    last_error: Arc<Mutex<Option<String>>>,
}

impl Client {
    /// Creates a client for requests to `endpoint`. It sends `headers`, whose values must be marked
    /// as sensitive, and follows no redirects, so that only the endpoint receives the headers.
    ///
    /// # Errors
    /// [`SettingWarning`] about a certificate that cannot be used.
    pub(super) fn new(
        endpoint: &Url,
        headers: HeaderMap,
        tls: &Tls,
        timeout: Duration,
    ) -> Result<Self, SettingWarning> {
        // Always sets a TLS configuration, because the default of reqwest requires a process-wide
        // crypto provider. Plain HTTP needs no authorities, which take milliseconds to read.
        let config = if endpoint.scheme() == "https" {
            tls.config()?
        } else {
            config_builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        };
        let builder = reqwest::blocking::Client::builder()
            .timeout(timeout)
            .redirect(Policy::none())
            .tls_backend_preconfigured(config);
        let builder = if is_loopback(endpoint) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| SettingWarning {
            variable: "OTEL_EXPORTER_OTLP_ENDPOINT",
            value: redact_url(endpoint.as_str()),
            reason: format!("{}; spans are not exported", describe(&error)),
        })?;
        Ok(Self { http, headers, last_error: Arc::default() })
    }

    /// Removes and returns the cause of the last failed request, if it got no response.
    pub(super) fn take_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // Drops the headers that the exporter has read from the environment: it does not know the
        // `_FILE` variables and their precedence. Keeps only the headers of the encoding.
        let exporter_headers = std::mem::take(request.headers_mut());
        for name in [CONTENT_TYPE, CONTENT_ENCODING, USER_AGENT] {
            if let Some(value) = exporter_headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        request.headers_mut().extend(self.headers.clone());
        let result = self.http.send_bytes(request).await;
        // The exporter reports every error as "network error".
        let error = result.as_ref().err().map(|error| describe(error.as_ref()));
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        result
    }
}

/// Returns whether a URL is on this machine, where a proxy cannot reach it.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Returns the causes of a failed request, such as `client error (Connect): invalid peer
/// certificate: UnknownIssuer`. Omits the outermost error, which contains the URL.
fn describe(error: &(dyn StdError + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    // Some errors display their cause as their own text.
    causes.dedup();
    if causes.is_empty() { "no response".to_owned() } else { causes.join(": ") }
}
