//! Secrets that sign webhooks.
//!
//! Each owner has its own secret, derived from a main secret, so that no record and no message
//! contains one. During a rotation there are several main secrets. A delivery then has one
//! signature for each of them, and a receiver accepts any signature that it can verify.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::Owner;
use crate::secret::Secret;

/// Minimum length of a main secret, in bytes: 128 random bits in hexadecimal.
const SECRET_BYTES_MIN: usize = 32;
/// Maximum number of main secrets at a time: the new one, the old one, and further ones for
/// receivers that switch late.
const SECRETS_MAX: usize = 4;
/// Prefix of every owner's secret, as Standard Webhooks defines it.
const PREFIX: &str = "whsec_";
/// Prefix of the derivation input, which separates these secrets from any others that may be
/// derived from a main secret.
const PURPOSE: &[u8] = b"wordmill webhook secret of ";

/// The main secrets, the current one first.
#[derive(Clone)]
pub struct Secrets(Vec<Secret>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Reason why the main secrets are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecrets {
    /// A secret is too short.
    #[error(
        "a webhook secret must have at least {SECRET_BYTES_MIN} bytes: create one with \
         `openssl rand -hex 32`"
    )]
    TooShort,
    /// There are too many secrets.
    #[error("at most {SECRETS_MAX} webhook secrets are allowed: remove the oldest ones")]
    TooMany,
}

impl Secrets {
    /// Parses main secrets, separated by commas. Returns `None` if there are none.
    ///
    /// # Errors
    /// [`InvalidSecrets`].
    pub fn parse(text: &Secret) -> Result<Option<Self>, InvalidSecrets> {
        let parts = text.expose().split(',').map(str::trim).filter(|part| !part.is_empty());
        let secrets: Vec<Secret> = parts.map(|part| Secret::new(part.to_owned())).collect();
        if secrets.iter().any(|secret| secret.expose().len() < SECRET_BYTES_MIN) {
            return Err(InvalidSecrets::TooShort);
        }
        match secrets.len() {
            0 => Ok(None),
            1..=SECRETS_MAX => Ok(Some(Self(secrets))),
            _ => Err(InvalidSecrets::TooMany),
        }
    }

    /// Returns the secrets of an owner in the form that receivers need, the current one first.
    #[must_use]
    pub fn for_owner(&self, owner: &Owner) -> Vec<Secret> {
        let written = |key: [u8; 32]| Secret::new(format!("{PREFIX}{}", STANDARD.encode(key)));
        self.keys(owner).map(written).collect()
    }

    /// Returns the value of the header `webhook-signature` for a delivery at `timestamp`, in
    /// seconds since 1970.
    #[must_use]
    pub fn sign(&self, owner: &Owner, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signed = |key: [u8; 32]| {
            // Standard Webhooks signs `id.timestamp.body`.
            let head = format!("{id}.{timestamp}.");
            format!("v1,{}", STANDARD.encode(compute_mac(&key, &[head.as_bytes(), body])))
        };
        self.keys(owner).map(signed).collect::<Vec<_>>().join(" ")
    }

    fn keys(&self, owner: &Owner) -> impl Iterator<Item = [u8; 32]> {
        let derive = |main: &Secret| {
            compute_mac(main.expose().as_bytes(), &[PURPOSE, owner.as_str().as_bytes()])
        };
        self.0.iter().map(derive)
    }
}

fn compute_mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC accepts keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Secrets>, InvalidSecrets> {
        Secrets::parse(&Secret::new(text.to_owned()))
    }

    #[test]
    fn short_secrets_and_too_many_secrets_are_refused() {
        let long = "0123456789abcdef0123456789abcdef";
        assert!(read("").unwrap().is_none() && read(" , ").unwrap().is_none());
        assert_eq!(read(&format!("{long}, {long}")).unwrap().unwrap().0.len(), 2);
        assert_eq!(read(&format!("{long},short")).unwrap_err(), InvalidSecrets::TooShort);
        assert_eq!(read(&[long; 5].join(",")).unwrap_err(), InvalidSecrets::TooMany);
        assert_eq!(format!("{:?}", read(long)), "Ok(Some([redacted]))");
    }

    #[test]
    fn each_owner_has_a_stable_secret() {
        let secrets = read("0123456789abcdef0123456789abcdef").unwrap().unwrap();
        let of = |owner: &str| secrets.for_owner(&owner.to_owned().try_into().unwrap());
        let [secret] = of("public").try_into().unwrap();
        // Receivers store the secret, so it must be the same in every version. Computed with
        // openssl.
        assert_eq!(secret.expose(), "whsec_0JfJAMCV3rIai+DpFSsGTqUlaPKI7elBS4EzsqhE/lM=");
        assert_ne!(of("a")[0], secret);
    }

    #[test]
    fn each_main_secret_adds_a_signature() {
        let old = "0123456789abcdef0123456789abcdef";
        let new = "fedcba9876543210fedcba9876543210";
        let secrets = read(&format!("{new},{old}")).unwrap().unwrap();
        let both = secrets.sign(&Owner::public(), "id", 1, b"{}");
        let alone = read(old).unwrap().unwrap().sign(&Owner::public(), "id", 1, b"{}");
        assert!(alone.starts_with("v1,") && both.ends_with(&format!(" {alone}")), "{both}");
        assert_eq!(both.split(' ').count(), 2);
    }
}
