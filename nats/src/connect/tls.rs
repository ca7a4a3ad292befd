//! TLS settings of the connection to the broker.

use std::path::{Path, PathBuf};

use async_nats::ConnectOptions;
use async_nats::rustls::pki_types::CertificateDer;
use async_nats::rustls::pki_types::pem::PemObject;
use wordmill_service::env::Env;

/// Appended to the reason of a failed connection if TLS is enabled.
const TLS_HINT: &str = " (if the server runs and uses TLS, one side does not trust the other: \
                        check that the server's certificate is valid now, is for the host in \
                        WORDMILL_NATS_URL, and is from an authority in WORDMILL_NATS_CA)";

/// Certificates for TLS. Each of these settings requires TLS even without `tls://` in the address,
/// so that a typo in a URL cannot send the password in the clear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// `WORDMILL_NATS_CA`: PEM file with the trusted authorities, instead of those of the system.
    pub authorities: Option<PathBuf>,
    /// `WORDMILL_NATS_CERT`, `WORDMILL_NATS_KEY`: PEM files with the client's certificate and key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// Returns a hint for connection errors, because the client does not report the cause of a TLS
    /// failure.
    pub(super) fn error_hint(&self, url: &str) -> &'static str {
        let uses_tls = *self != Self::default() || url.contains("tls://");
        if uses_tls { TLS_HINT } else { "" }
    }

    pub(super) fn read(env: &mut Env) -> Self {
        let authorities = env.file("WORDMILL_NATS_CA");
        let identity = match (env.file("WORDMILL_NATS_CERT"), env.file("WORDMILL_NATS_KEY")) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                env.refuse("WORDMILL_NATS_CERT and WORDMILL_NATS_KEY must be set together");
                None
            }
        };
        Self { authorities, identity }
    }

    /// Adds these settings to `options`. The client reads the files again for every connection.
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

/// Checks that a file contains certificates. The client would accept an empty file, and then trust
/// no server.
fn check_certificates(path: &Path) -> Result<(), String> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Result<Vec<_>, _> = certificates;
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{} contains no PEM certificate", path.display()))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
