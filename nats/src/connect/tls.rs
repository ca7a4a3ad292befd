//! TLS with the broker.

use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use async_nats::rustls::pki_types::CertificateDer;
use async_nats::rustls::pki_types::pem::PemObject;
use wordmill_service::env::Env;

/// What is added to a failure to connect where TLS is wanted.
const TLS_HINT: &str = " (if the server is up and speaks TLS, one side does not trust the other: is its \
                        certificate valid now, for the host in WORDMILL_NATS_URL, and from an \
                        authority in WORDMILL_NATS_CA?)";

/// What TLS with the broker needs beyond `tls://` in its address. Each of these asks for TLS, so that no
/// password goes over the wire in the clear because of a missing letter in a URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// `WORDMILL_NATS_CA`: the authorities that are trusted, as PEM, instead of those of the system.
    pub authorities: Option<PathBuf>,
    /// `WORDMILL_NATS_CERT`, `WORDMILL_NATS_KEY`: our own certificate and key, as PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Returns what may be behind a failed connection: the client does not tell what TLS said.
    pub(super) fn hint(&self, url: &str) -> &'static str {
        let is_wanted = *self != Self::default() || url.contains("tls://");
        if is_wanted { TLS_HINT } else { "" }
    }

    pub(super) fn read(env: &mut Env) -> Self {
        let authorities = env.file("WORDMILL_NATS_CA");
        let identity = match (env.file("WORDMILL_NATS_CERT"), env.file("WORDMILL_NATS_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                env.refuse("WORDMILL_NATS_CERT and WORDMILL_NATS_KEY go together");
                None
            }
        };
        Self { authorities, identity }
    }

    /// Adds what is set. The files are read again for every connection.
    pub(super) fn apply(&self, mut options: ConnectOptions) -> Result<ConnectOptions, String> {
        if let Some(path) = &self.authorities {
            check_certificates(path)?;
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.identity {
            check_certificates(certificate)?;
            options = options.add_client_certificate(certificate.clone(), key.clone());
            options = options.require_tls(true);
        }
        Ok(options)
    }
}

/// The client would take a file without certificates for one that trusts nobody.
fn check_certificates(path: &Path) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Result<Vec<_>, _> = certificates;
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{} has no certificate as PEM", path.display()))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
