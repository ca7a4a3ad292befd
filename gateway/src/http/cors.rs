//! CORS: allows pages of configured origins to use the API from a browser. None by default.

use std::fmt;
use std::time::Duration;

use axum::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LINK, LOCATION, RETRY_AFTER,
};
use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

/// Time for which browsers may cache the response to a preflight request.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Value that allows every origin.
const ANY: &str = "*";

/// The allowed origins. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Parses a list such as `https://example.org,http://localhost:3000`, or `*`.
    ///
    /// # Errors
    /// A message about the first item that is not an origin.
    pub fn parse(text: &str) -> Result<Self, String> {
        let origins: Vec<String> = text.split(',').map(|one| one.trim().to_owned()).collect();
        if origins != [ANY] {
            for origin in &origins {
                let url = Url::parse(origin).ok().filter(|url| url.has_host());
                if url.is_none_or(|url| url.origin().ascii_serialization() != *origin) {
                    return Err(format!(
                        "{origin:?} must be an origin such as https://example.org"
                    ));
                }
            }
        }
        Ok(Self(origins))
    }

    /// Returns whether the list contains this origin. Always false for `*`: this check is for
    /// gateways without keys, which refuse `*` at startup.
    pub(crate) fn is_listed(&self, origin: &HeaderValue) -> bool {
        self.0.iter().any(|listed| origin == listed.as_str())
    }

    /// Returns whether every origin is allowed.
    pub(crate) fn is_any(&self) -> bool {
        self.0 == [ANY]
    }

    /// Returns the CORS middleware; `None` if no origin is allowed.
    pub(crate) fn layer(&self) -> Option<CorsLayer> {
        if self.0.is_empty() {
            return None;
        }
        let named = self.0.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
        let origins = if self.is_any() { AllowOrigin::any() } else { AllowOrigin::list(named) };
        let header = HeaderName::from_static;
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
            .allow_headers([
                ACCEPT,
                AUTHORIZATION,
                CONTENT_TYPE,
                IF_NONE_MATCH,
                header("idempotency-key"),
                header("last-event-id"),
                header("prefer"),
                header("traceparent"),
                header("tracestate"),
            ])
            .expose_headers([
                ETAG,
                LINK,
                LOCATION,
                RETRY_AFTER,
                header("preference-applied"),
                header("ratelimit"),
                header("ratelimit-policy"),
                header("traceresponse"),
            ])
            .max_age(MAX_AGE);
        Some(layer)
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_origins_are_accepted() {
        for good in ["*", "https://example.org", "http://localhost:3000,https://[::1]:8443"] {
            assert_eq!(Origins::parse(good).unwrap().to_string(), good);
        }
        for bad in [
            "example.org",
            "https://example.org/",
            "https://example.org/path",
            "https://example.org:443",
            "https://Example.org",
            "https://user@example.org",
            "https://example.org,*",
            "https://example.org,",
            "null",
            "file:///tmp",
        ] {
            assert!(Origins::parse(bad).is_err(), "{bad}");
        }
        assert!(Origins::default().layer().is_none());
    }
}
