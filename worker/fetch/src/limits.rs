//! Limits of one fetch, and the settings of a fetcher.

use std::time::Duration;

use super::error::SizeLimit;
use super::guard::Allowance;

/// Limits of every fetch. None of them can be disabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time limit for resolving one host name (default 10 s).
    pub resolve_timeout: Duration,
    /// Time limit for connecting on one hop: TCP to all addresses of the name in turn, then TLS
    /// (default 10 s).
    pub connect_timeout: Duration,
    /// Time limit on one hop from the request to the complete response header (default 30 s).
    pub first_byte_timeout: Duration,
    /// Maximum silence of the server while the body is read (default 30 s). Excludes the time
    /// between two calls of [`Page::chunk`](super::Page::chunk).
    pub stall_timeout: Duration,
    /// Time limit of the whole fetch, from the call to the last byte (default 5 min). Includes the
    /// wait for a slot, redirects, and the time that the caller takes between chunks.
    pub total_timeout: Duration,
    /// Maximum size of the status line and header of one hop, in bytes (default 64 KiB, at least 8
    /// KiB). Also the size of the connection's read buffer. More than 100 fields are always
    /// refused.
    pub header_size_max: usize,
    /// Maximum size of the body before decompression, in bytes (default 64 MiB).
    pub wire_size_max: u64,
    /// Maximum size of the body after decompression, in bytes (default 256 MiB).
    pub decoded_size_max: u64,
    /// Maximum number of decompressed bytes for each transferred byte (default 200).
    pub ratio_max: u64,
    /// Decompressed size up to which `ratio_max` does not apply, in bytes (default 1 MiB): small
    /// pages may compress well.
    pub ratio_free_size: u64,
    /// Maximum number of redirects (default 10). With 0, redirects are not followed.
    pub redirects_max: usize,
    /// Maximum number of concurrent fetches from one host name in this process (default 4). Others
    /// wait until a slot is free or `total_timeout` has passed.
    pub per_host_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resolve_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            first_byte_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
            total_timeout: Duration::from_secs(300),
            header_size_max: 64 << 10,
            wire_size_max: 64 << 20,
            decoded_size_max: 256 << 20,
            ratio_max: 200,
            ratio_free_size: 1 << 20,
            redirects_max: 10,
            per_host_max: 4,
        }
    }
}

/// Settings of a [`Fetcher`](super::Fetcher).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Limits of one fetch.
    pub limits: Limits,
    /// Allowed networks that are not public (default none). Every client that may submit a URL or a
    /// webhook can reach them, on the given port, or on every port that does not belong to another
    /// protocol.
    pub allow: Vec<Allowance>,
    /// Value of the `User-Agent` header (default `wordmill/<version>`).
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            allow: Vec::new(),
            user_agent: concat!("wordmill/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Reason why a fetcher could not be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The limit is outside of its bounds.
    #[error("{name} must be {bounds}")]
    Limit {
        /// Name of the field of [`Limits`].
        name: &'static str,
        /// Allowed values.
        bounds: &'static str,
    },
    /// The user agent contains characters that are not allowed in a header.
    #[error("the user agent is not a valid header value")]
    UserAgent,
    /// The TLS library rejected its own defaults.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl Limits {
    /// Checks the size of the data decompressed from the first `consumed_bytes` bytes of a body.
    ///
    /// # Errors
    /// [`SizeLimit`] if the size or the ratio of the sizes is too large.
    pub fn check_decoded(&self, decoded_bytes: u64, consumed_bytes: u64) -> Result<(), SizeLimit> {
        if decoded_bytes > self.decoded_size_max {
            return Err(SizeLimit::Decoded(self.decoded_size_max));
        }
        let has_free_size = decoded_bytes <= self.ratio_free_size;
        if !has_free_size && decoded_bytes > consumed_bytes.saturating_mul(self.ratio_max) {
            return Err(SizeLimit::Ratio(self.ratio_max));
        }
        Ok(())
    }

    /// Checks that no limit makes every fetch fail, and that no timeout overflows a clock.
    ///
    /// # Errors
    /// [`SetupError::Limit`], with the name of the field.
    pub(super) fn validate(&self) -> Result<(), SetupError> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        // Minimum of the HTTP library, which panics below it.
        const HEADER_SIZE_MIN: usize = 8 << 10;
        const PER_HOST_MAX: usize = 1 << 16;

        let timeouts = [
            ("resolve_timeout", self.resolve_timeout),
            ("connect_timeout", self.connect_timeout),
            ("first_byte_timeout", self.first_byte_timeout),
            ("stall_timeout", self.stall_timeout),
            ("total_timeout", self.total_timeout),
        ];
        for (name, timeout) in timeouts {
            if timeout.is_zero() || timeout > DAY {
                let bounds = "more than zero and at most one day";
                return Err(SetupError::Limit { name, bounds });
            }
        }
        if !(HEADER_SIZE_MIN..=1 << 24).contains(&self.header_size_max) {
            let bounds = "from 8KiB to 16MiB";
            return Err(SetupError::Limit { name: "header_size_max", bounds });
        }
        if self.ratio_max == 0 {
            return Err(SetupError::Limit { name: "ratio_max", bounds: "at least 1" });
        }
        if !(1..=PER_HOST_MAX).contains(&self.per_host_max) {
            return Err(SetupError::Limit { name: "per_host_max", bounds: "from 1 to 65536" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Limits::default().validate(), Ok(()));
    }

    #[test]
    fn limits_that_stop_every_fetch_are_refused() {
        let limits = Limits::default;
        for (name, bad) in [
            ("stall_timeout", Limits { stall_timeout: Duration::ZERO, ..limits() }),
            ("total_timeout", Limits { total_timeout: Duration::MAX, ..limits() }),
            ("header_size_max", Limits { header_size_max: 100, ..limits() }),
            ("ratio_max", Limits { ratio_max: 0, ..limits() }),
            ("per_host_max", Limits { per_host_max: 0, ..limits() }),
        ] {
            let error = bad.validate().unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
