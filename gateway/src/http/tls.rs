//! HTTPS: the certificate of the server, and the client side of the health check.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    SignatureScheme, StreamOwned,
};

pub(crate) use tokio_rustls::rustls::ServerConfig;

/// ALPN name of HTTP/1.1, the only protocol that the server offers.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// Error message for a key that does not match the certificate.
const KEY_MISMATCH: &str = "WORDMILL_TLS_KEY does not match the certificate in WORDMILL_TLS_CERT";

/// Paths of the certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// PEM file with the certificate, followed by its intermediate certificates.
    pub certificate: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// TLS configuration of new connections. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Tls(pub(crate) watch::Receiver<Arc<ServerConfig>>);

/// Parses the certificate and its private key.
///
/// # Errors
/// A message for the operator if a file is not valid PEM or the key does not match.
pub(crate) fn parse(
    contents: &[Vec<u8>],
    _: Option<&ServerConfig>,
) -> Result<ServerConfig, String> {
    let [certificate, key] = contents else {
        return Err("a certificate and a key are required".to_owned());
    };
    let chain = parse_certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("WORDMILL_TLS_KEY contains no PEM private key: {error}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| {
        let is_mismatch = matches!(error, Error::InconsistentKeys(_));
        if is_mismatch { KEY_MISMATCH.to_owned() } else { error.to_string() }
    })?;
    config.alpn_protocols = vec![ALPN_HTTP1.to_owned()];
    Ok(config)
}

fn parse_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("WORDMILL_TLS_CERT contains no PEM certificate".to_owned()),
        Err(error) => Err(format!("WORDMILL_TLS_CERT is not a valid PEM file: {error}")),
    }
}

/// Wraps the connection of the health check in TLS. Only the configured certificate is accepted.
/// Its names are not checked, because the health check connects by IP address.
///
/// # Errors
/// If the certificate cannot be read or is not valid PEM.
pub fn probe(stream: TcpStream, certificate: &Path) -> io::Result<impl Read + Write> {
    let pem = fs::read(certificate)?;
    let chain = parse_certificates(&pem).map_err(io::Error::other)?;
    let provider = Arc::new(ring::default_provider());
    let verifier =
        PinnedCertificate { own: chain.into_iter().next(), provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let name = ServerName::from(std::net::IpAddr::from([127, 0, 0, 1]));
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

/// Certificate verifier that accepts exactly one certificate.
#[derive(Debug)]
struct PinnedCertificate {
    own: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl PinnedCertificate {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.own.as_ref() == Some(certificate) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, self.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, self.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}
