//! Security headers of every response.

use axum::http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};

/// Prevents browsers from guessing a content type other than the declared one.
pub(crate) const NOSNIFF_HEADER: (HeaderName, HeaderValue) =
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
/// Prevents pages of other origins from embedding responses (CORP). CORS requests are not affected;
/// `WORDMILL_CORS_ORIGINS` controls them.
pub(crate) const SAME_ORIGIN_HEADER: (HeaderName, HeaderValue) = (
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderValue::from_static("same-origin"),
);
