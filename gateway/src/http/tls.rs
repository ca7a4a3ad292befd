//! HTTPS, if there is a certificate.

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

/// The only protocol that is spoken behind TLS, as clients ask for it.
const ALPN_HTTP1: &[u8] = b"http/1.1";

/// What is said of a key that belongs to another certificate.
const KEY_MISMATCH: &str = "WORDMILL_TLS_KEY is not the key of WORDMILL_TLS_CERT";

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The certificate, then those that lead to its authority, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// The certificate that new connections get. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Tls(pub(crate) watch::Receiver<Arc<ServerConfig>>);

/// Reads certificate and key.
///
/// # Errors
/// What is wrong with them, in words for whoever runs the service.
pub(crate) fn parse(
    contents: &[Vec<u8>],
    _: Option<&ServerConfig>,
) -> Result<ServerConfig, String> {
    let [certificate, key] = contents else {
        return Err("a certificate and a key are needed".to_owned());
    };
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("WORDMILL_TLS_KEY has no private key as PEM: {error}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| {
        let is_foreign = matches!(error, Error::InconsistentKeys(_));
        if is_foreign { KEY_MISMATCH.to_owned() } else { error.to_string() }
    })?;
    config.alpn_protocols = vec![ALPN_HTTP1.to_owned()];
    Ok(config)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("WORDMILL_TLS_CERT has no certificate as PEM".to_owned()),
        Err(error) => Err(format!("WORDMILL_TLS_CERT is not PEM: {error}")),
    }
}

/// Wraps a connection of the health check, which accepts the very certificate that the service was
/// given and no other: it asks by address, which the certificate need not name.
///
/// # Errors
/// A certificate that cannot be read.
pub fn probe(stream: TcpStream, certificate: &Path) -> io::Result<impl Read + Write> {
    let pem = fs::read(certificate)?;
    let chain = certificates(&pem).map_err(io::Error::other)?;
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

/// Accepts one certificate.
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
