//! The only map from errors to HTTP answers: RFC 9457 problems with a stable code.

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tracing::{error, warn};
use wordmill_common::id::JobId;
use wordmill_common::trace::TraceId;
use wordmill_nats::Error as BrokerError;

/// When to come back after a failure that passes by itself.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// When to come back to a queue that is full.
const RETRY_FULL: Duration = Duration::from_secs(5);

/// Names a kind of error. Clients branch on it; `docs/errors.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    BrokerUnavailable,
    InputTooLarge,
    Internal,
    InvalidJobId,
    InvalidJson,
    InvalidLabel,
    InvalidOption,
    InvalidQuery,
    InvalidRequest,
    InvalidUrl,
    JobCancelled,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    MethodNotAllowed,
    NotReady,
    QueueFull,
    RequestTimeout,
    ResultExpired,
    RouteNotFound,
    UnsupportedMediaType,
}

impl Code {
    #[cfg(test)]
    const ALL: [Self; 21] = [
        Self::BrokerUnavailable,
        Self::InputTooLarge,
        Self::Internal,
        Self::InvalidJobId,
        Self::InvalidJson,
        Self::InvalidLabel,
        Self::InvalidOption,
        Self::InvalidQuery,
        Self::InvalidRequest,
        Self::InvalidUrl,
        Self::JobCancelled,
        Self::JobFailed,
        Self::JobNotFinished,
        Self::JobNotFound,
        Self::MethodNotAllowed,
        Self::NotReady,
        Self::QueueFull,
        Self::RequestTimeout,
        Self::ResultExpired,
        Self::RouteNotFound,
        Self::UnsupportedMediaType,
    ];

    /// Returns the code, its status, and a title that never changes.
    fn facts(self) -> (&'static str, StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::BrokerUnavailable => (
                "broker_unavailable",
                S::SERVICE_UNAVAILABLE,
                "The queue is not available",
            ),
            Self::InputTooLarge => (
                "input_too_large",
                S::PAYLOAD_TOO_LARGE,
                "The request is too large",
            ),
            Self::Internal => (
                "internal",
                S::INTERNAL_SERVER_ERROR,
                "A defect of the service",
            ),
            Self::InvalidJobId => ("invalid_job_id", S::BAD_REQUEST, "Not a job id"),
            Self::InvalidJson => ("invalid_json", S::BAD_REQUEST, "The body is not JSON"),
            Self::InvalidLabel => (
                "invalid_label",
                S::UNPROCESSABLE_ENTITY,
                "A label is not allowed",
            ),
            Self::InvalidOption => (
                "invalid_option",
                S::UNPROCESSABLE_ENTITY,
                "An option is not known",
            ),
            Self::InvalidQuery => (
                "invalid_query",
                S::BAD_REQUEST,
                "A query parameter is not valid",
            ),
            Self::InvalidRequest => (
                "invalid_request",
                S::UNPROCESSABLE_ENTITY,
                "The body is not a job",
            ),
            Self::InvalidUrl => (
                "invalid_url",
                S::UNPROCESSABLE_ENTITY,
                "The URL cannot be fetched",
            ),
            Self::JobCancelled => ("job_cancelled", S::CONFLICT, "The job was cancelled"),
            Self::JobFailed => ("job_failed", S::CONFLICT, "The job failed"),
            Self::JobNotFinished => ("job_not_finished", S::CONFLICT, "The job is not finished"),
            Self::JobNotFound => ("job_not_found", S::NOT_FOUND, "No such job"),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                S::METHOD_NOT_ALLOWED,
                "The route has no such method",
            ),
            Self::NotReady => (
                "not_ready",
                S::SERVICE_UNAVAILABLE,
                "The service is not ready",
            ),
            Self::QueueFull => ("queue_full", S::SERVICE_UNAVAILABLE, "The queue is full"),
            Self::RequestTimeout => (
                "request_timeout",
                S::REQUEST_TIMEOUT,
                "The body did not arrive in time",
            ),
            Self::ResultExpired => ("result_expired", S::GONE, "The result is no longer kept"),
            Self::RouteNotFound => ("route_not_found", S::NOT_FOUND, "No such route"),
            Self::UnsupportedMediaType => (
                "unsupported_media_type",
                S::UNSUPPORTED_MEDIA_TYPE,
                "The content type is not supported",
            ),
        }
    }

    /// Tells whether the same request may succeed later.
    fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::BrokerUnavailable
                | Self::Internal
                | Self::JobNotFinished
                | Self::NotReady
                | Self::QueueFull
                | Self::RequestTimeout
        )
    }

    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::QueueFull => Some(RETRY_FULL),
            Self::BrokerUnavailable | Self::NotReady | Self::JobNotFinished => Some(RETRY_SOON),
            _ => None,
        }
    }
}

/// One error, as the client sees it. What the log says is logged where the problem arises.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    more: Map<String, Value>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            more: Map::new(),
        }
    }

    /// Returns the problem of a job that may or may not have been queued: the id lets the client
    /// find out.
    pub(crate) fn unconfirmed(job_id: JobId) -> Self {
        let detail = "The queue did not confirm the job in time. It may have been accepted: ask \
                      for it by its id, or submit it again.";
        Self::new(Code::BrokerUnavailable, detail).with("job_id", json!(job_id))
    }

    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.code.facts().1
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Writes the answer.
    pub(crate) fn render(&self, trace_id: TraceId, headers: &HeaderMap) -> Response {
        let (code, status, title) = self.code.facts();
        let mut body = json!({
            "type": format!("urn:wordmill:error:{code}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code,
            "retryable": self.code.is_retryable(),
            "trace_id": trace_id,
        });
        if let Some(body) = body.as_object_mut() {
            body.extend(self.more.clone());
        }
        let mut response = (status, Json(body)).into_response();
        response.headers_mut().extend(headers.clone());
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        if let Some(after) = self.code.retry_after() {
            response
                .headers_mut()
                .insert(RETRY_AFTER, after.as_secs().into());
        }
        response
    }
}

/// The body is written where the trace is known: see `trace::answer`.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Unavailable { .. } | BrokerError::Contended { .. } => {
                warn!(%error, "the broker did not do what a request needed");
                let detail = "The queue or the store did not answer in time. Try again.";
                Self::new(Code::BrokerUnavailable, detail)
            }
            BrokerError::Corrupt { .. } | BrokerError::TooLarge { .. } => {
                error!(%error, "a request met something that should not exist");
                Self::new(
                    Code::Internal,
                    "The service met something that it does not understand.",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_heading_in_the_documentation() {
        let page = include_str!("../../docs/errors.md");
        for code in Code::ALL {
            let name = code.facts().0;
            assert!(
                page.contains(&format!("\n### `{name}`\n")),
                "docs/errors.md lacks {name}"
            );
        }
    }

    #[test]
    fn whatever_is_our_fault_says_when_to_come_back() {
        for code in Code::ALL {
            if code.facts().1 == StatusCode::SERVICE_UNAVAILABLE {
                assert!(
                    code.is_retryable() && code.retry_after().is_some(),
                    "{code:?}"
                );
            }
        }
    }
}
