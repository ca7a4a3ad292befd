//! Connections to allowed addresses, plain or over TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ProtocolVersion, RootCertStore, crypto::ring};
use tracing::{debug, info};

use super::error::{Error, Phase};
use super::event::{FetchEvent, Observer};
use super::guard::{AllowedAddress, Scheme, Target, TargetHost};
use super::limits::SetupError;

/// Maximum number of addresses of one name that are tried. Large services publish up to a dozen.
const ADDRESSES_MAX: usize = 16;

/// Connection for HTTP, plain or over TLS.
pub(super) type Connection = Box<dyn Stream>;

/// Traits of a [`Connection`].
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections. Proxies from the environment are ignored: they would resolve names
/// themselves, and bypass the guard.
#[derive(Clone)]
pub(super) struct Connector {
    tls: TlsConnector,
    timeout: Duration,
}

impl Connector {
    /// Creates a connector that trusts `roots`.
    ///
    /// # Errors
    /// [`SetupError::Tls`].
    pub(super) fn try_new(roots: RootCertStore, timeout: Duration) -> Result<Self, SetupError> {
        // Pass the crypto provider explicitly: the process-wide default may be unset.
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), timeout })
    }

    /// Connects to the first address that accepts a connection. For https, the certificate must be
    /// valid for the host of `target`.
    pub(super) async fn connect(
        &self,
        target: &Target,
        addresses: &[AllowedAddress],
        observer: Observer<'_>,
    ) -> Result<Connection, Error> {
        let deadline = Instant::now() + self.timeout;
        let tcp = self.dial(target, addresses, deadline, observer).await?;
        match target.scheme {
            Scheme::Http => Ok(Box::new(tcp)),
            Scheme::Https => self.connect_tls(target, tcp, deadline, observer).await,
        }
    }

    /// Tries the addresses in turn, each with an equal share of the remaining time, so that an
    /// address that drops packets does not use up the time of the others. For example, the first of
    /// two addresses gets 5 of 10 s.
    async fn dial(
        &self,
        target: &Target,
        addresses: &[AllowedAddress],
        deadline: Instant,
        observer: Observer<'_>,
    ) -> Result<TcpStream, Error> {
        let mut last_error = Error::Connect {
            authority: target.to_string(),
            source: io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"),
        };
        let addresses = addresses.get(..ADDRESSES_MAX).unwrap_or(addresses);
        let mut addresses_left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for (index, allowed) in addresses.iter().enumerate() {
            let share = deadline.saturating_duration_since(Instant::now()) / addresses_left.max(1);
            addresses_left = addresses_left.saturating_sub(1);
            let address = SocketAddr::new(allowed.address(), target.port);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    // A failure is harmless: the connection carries only one small request.
                    tcp.set_nodelay(true).ok();
                    observer(FetchEvent::Connected { peer: address, tries: index + 1 });
                    return Ok(tcp);
                }
                Ok(Err(source)) => {
                    last_error = Error::Connect { authority: target.to_string(), source };
                }
                Err(_) => last_error = self.timeout_error(),
            }
        }
        Err(last_error)
    }

    async fn connect_tls(
        &self,
        target: &Target,
        tcp: TcpStream,
        deadline: Instant,
        observer: Observer<'_>,
    ) -> Result<Connection, Error> {
        let to_error = |source| Error::Tls { authority: target.to_string(), source };
        let name = server_name(&target.host).map_err(to_error)?;
        match timeout_at(deadline, self.tls.connect(name, tcp)).await {
            Ok(Ok(tls)) => {
                let version = tls.get_ref().1.protocol_version().and_then(version_name);
                observer(FetchEvent::TlsEstablished { version });
                Ok(Box::new(tls))
            }
            Ok(Err(source)) => Err(to_error(source)),
            Err(_) => Err(self.timeout_error()),
        }
    }

    fn timeout_error(&self) -> Error {
        Error::Timeout { phase: Phase::Connect, limit: self.timeout }
    }
}

fn version_name(version: ProtocolVersion) -> Option<&'static str> {
    // The client offers no other version.
    let known = [(ProtocolVersion::TLSv1_2, "1.2"), (ProtocolVersion::TLSv1_3, "1.3")];
    known.into_iter().find(|(known, _)| *known == version).map(|(_, name)| name)
}

fn server_name(host: &TargetHost) -> io::Result<ServerName<'static>> {
    match host {
        TargetHost::Name(name) => ServerName::try_from(name.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error)),
        TargetHost::Address(allowed) => {
            let address: IpAddr = allowed.address();
            Ok(ServerName::IpAddress(address.into()))
        }
    }
}

/// Returns the trusted certificate authorities: those of the platform, or Mozilla's built-in list
/// if the platform has none, for example in an image that contains only this program.
///
/// The platform takes precedence, so that an operator can add and remove authorities.
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` select other locations.
pub(super) fn trusted_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let platform = rustls_native_certs::load_native_certs();
    for error in platform.errors {
        debug!(%error, "cannot read platform certificates");
    }
    // Platform stores often contain invalid certificates, which are skipped.
    let (platform_roots, _) = roots.add_parsable_certificates(platform.certs);
    if platform_roots == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    info!(platform = platform_roots, total = roots.len(), "certificate authorities loaded");
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_roots_are_never_empty() {
        assert!(!trusted_roots().is_empty());
    }
}
