//! Limits of one fetch, and the settings of a fetcher.

use std::time::Duration;

use super::error::SizeLimit;
use super::guard::Allowance;

/// The limits of every fetch. None can be switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest lookup of one host name (default 10 s).
    pub resolve_timeout: Duration,
    /// Longest time to connect on one hop: TCP to all addresses of the name in turn, then TLS
    /// (default 10 s).
    pub connect_timeout: Duration,
    /// Longest wait on one hop from the request to the complete response header (default 30 s).
    pub first_byte_timeout: Duration,
    /// Longest silence of the server within the body (default 30 s). Time between two calls for a
    /// chunk does not count.
    pub stall_timeout: Duration,
    /// Longest time of the whole fetch, from the call to the last byte: the wait for a slot,
    /// redirects, and the time of the caller between chunks (default 5 min).
    pub total_timeout: Duration,
    /// Largest status line and header of one hop, in bytes (default 64 KiB, at least 8 KiB). It is
    /// also the size of the connection's read buffer. More than 100 fields are always refused.
    pub header_size_max: usize,
    /// Largest body as transferred, before decompression, in bytes (default 64 MiB).
    pub wire_size_max: u64,
    /// Largest body after decompression, in bytes (default 256 MiB).
    pub decoded_size_max: u64,
    /// The most decompressed bytes for each transferred byte (default 200).
    pub ratio_max: u64,
    /// Decompressed bytes up to which `ratio_max` does not apply (default 1 MiB): small pages may
    /// compress well.
    pub ratio_free_size: u64,
    /// The most redirects that are followed (default 10; 0 follows none).
    pub redirects_max: usize,
    /// The most concurrent fetches from one host name in this process (default 4); others wait
    /// until a slot is free or `total_timeout` has passed.
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

/// The settings of a [`Fetcher`](super::Fetcher).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The limits of one fetch.
    pub limits: Limits,
    /// Allowed networks that are not public (default none). Every client that may submit a URL or a
    /// webhook can reach them, on the named port or else on every port that is not reserved for
    /// another protocol.
    pub allow: Vec<Allowance>,
    /// The `User-Agent` header (default `wordmill/<version>`).
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

/// Why a fetcher could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A limit that would stop every fetch, or no fetch at all.
    #[error("{name} must be {bounds}")]
    Limit {
        /// The field of [`Limits`].
        name: &'static str,
        /// The allowed values.
        bounds: &'static str,
    },
    /// The user agent has characters that a header cannot carry.
    #[error("the user agent is not a valid header value")]
    UserAgent,
    /// The TLS library refused its own defaults.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl Limits {
    /// Checks the size of the data that was decompressed from `consumed_bytes` bytes so far.
    ///
    /// # Errors
    /// [`SizeLimit`], if it exceeds the largest size or the largest ratio.
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

    /// Refuses limits that would stop every fetch or overflow a clock.
    pub(super) fn validate(&self) -> Result<(), SetupError> {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        // The HTTP library's own minimum; it panics below it.
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
