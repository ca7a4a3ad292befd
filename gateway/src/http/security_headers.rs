//! Security headers of every answer.

use axum::http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

/// Prevents browsers from guessing a content type other than the declared one.
pub(crate) const NOSNIFF_HEADER: (HeaderName, HeaderValue) =
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
/// Prevents pages of other origins from embedding answers (CORP). CORS requests are not affected:
/// they need `WORDMILL_CORS_ORIGINS`.
pub(crate) const SAME_ORIGIN_HEADER: (HeaderName, HeaderValue) = (
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderValue::from_static("same-origin"),
);
