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
    AlreadyFinished,
    BrokerUnavailable,
    DeadLetterNotFound,
    EmptyBatch,
    ExplainNotRecorded,
    HeadTooLarge,
    IdempotencyKeyReused,
    InputTooLarge,
    IncompleteBody,
    Internal,
    InvalidIdempotencyKey,
    InvalidJobId,
    InvalidJson,
    InvalidLabel,
    InvalidMultipart,
    InvalidOption,
    InvalidQuery,
    InvalidRequest,
    InvalidUrl,
    JobCancelled,
    JobFailed,
    JobNotFinished,
    JobNotFound,
    MalformedRequest,
    MethodNotAllowed,
    NotAcceptable,
    NotReady,
    Overloaded,
    QueueFull,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    ResultExpired,
    RouteNotFound,
    SourceGone,
    StorageFull,
    TooManyWaiting,
    Unauthenticated,
    UnsupportedMediaType,
}

impl Code {
    /// Every code, by name.
    pub(crate) const ALL: [Self; 39] = [
        Self::AlreadyFinished,
        Self::BrokerUnavailable,
        Self::DeadLetterNotFound,
        Self::EmptyBatch,
        Self::ExplainNotRecorded,
        Self::HeadTooLarge,
        Self::IdempotencyKeyReused,
        Self::IncompleteBody,
        Self::InputTooLarge,
        Self::Internal,
        Self::InvalidIdempotencyKey,
        Self::InvalidJobId,
        Self::InvalidJson,
        Self::InvalidLabel,
        Self::InvalidMultipart,
        Self::InvalidOption,
        Self::InvalidQuery,
        Self::InvalidRequest,
        Self::InvalidUrl,
        Self::JobCancelled,
        Self::JobFailed,
        Self::JobNotFinished,
        Self::JobNotFound,
        Self::MalformedRequest,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::NotReady,
        Self::Overloaded,
        Self::QueueFull,
        Self::QuotaExceeded,
        Self::RateLimited,
        Self::RequestTimeout,
        Self::ResultExpired,
        Self::RouteNotFound,
        Self::SourceGone,
        Self::StorageFull,
        Self::TooManyWaiting,
        Self::Unauthenticated,
        Self::UnsupportedMediaType,
    ];

    /// Returns the code as clients see it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AlreadyFinished => "already_finished",
            Self::BrokerUnavailable => "broker_unavailable",
            Self::DeadLetterNotFound => "dead_letter_not_found",
            Self::EmptyBatch => "empty_batch",
            Self::ExplainNotRecorded => "explain_not_recorded",
            Self::HeadTooLarge => "head_too_large",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::IncompleteBody => "incomplete_body",
            Self::InputTooLarge => "input_too_large",
            Self::Internal => "internal",
            Self::InvalidIdempotencyKey => "invalid_idempotency_key",
            Self::InvalidJobId => "invalid_job_id",
            Self::InvalidJson => "invalid_json",
            Self::InvalidLabel => "invalid_label",
            Self::InvalidMultipart => "invalid_multipart",
            Self::InvalidOption => "invalid_option",
            Self::InvalidQuery => "invalid_query",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidUrl => "invalid_url",
            Self::JobCancelled => "job_cancelled",
            Self::JobFailed => "job_failed",
            Self::JobNotFinished => "job_not_finished",
            Self::JobNotFound => "job_not_found",
            Self::MalformedRequest => "malformed_request",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotAcceptable => "not_acceptable",
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::QueueFull => "queue_full",
            Self::QuotaExceeded => "quota_exceeded",
            Self::RateLimited => "rate_limited",
            Self::RequestTimeout => "request_timeout",
            Self::ResultExpired => "result_expired",
            Self::RouteNotFound => "route_not_found",
            Self::SourceGone => "source_gone",
            Self::StorageFull => "storage_full",
            Self::TooManyWaiting => "too_many_waiting",
            Self::Unauthenticated => "unauthenticated",
            Self::UnsupportedMediaType => "unsupported_media_type",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BrokerUnavailable
            | Self::NotReady
            | Self::Overloaded
            | Self::QueueFull
            | Self::StorageFull
            | Self::TooManyWaiting => StatusCode::SERVICE_UNAVAILABLE,
            Self::InputTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::IncompleteBody
            | Self::InvalidIdempotencyKey
            | Self::InvalidJobId
            | Self::InvalidJson
            | Self::InvalidMultipart
            | Self::InvalidQuery
            | Self::MalformedRequest => StatusCode::BAD_REQUEST,
            Self::EmptyBatch
            | Self::IdempotencyKeyReused
            | Self::InvalidLabel
            | Self::InvalidOption
            | Self::InvalidRequest
            | Self::InvalidUrl => StatusCode::UNPROCESSABLE_ENTITY,
            Self::AlreadyFinished
            | Self::ExplainNotRecorded
            | Self::JobCancelled
            | Self::JobFailed
            | Self::JobNotFinished => StatusCode::CONFLICT,
            Self::DeadLetterNotFound | Self::JobNotFound | Self::RouteNotFound => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ResultExpired | Self::SourceGone => StatusCode::GONE,
            Self::QuotaExceeded | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// Returns what the code means, in words that never change.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::AlreadyFinished => "The job has already ended",
            Self::BrokerUnavailable => "The queue is not available",
            Self::DeadLetterNotFound => "No such dead letter",
            Self::EmptyBatch => "The batch has no job",
            Self::ExplainNotRecorded => "The job recorded no explanation",
            Self::HeadTooLarge => "The head of the request is too large",
            Self::IdempotencyKeyReused => "The name is taken by another request",
            Self::IncompleteBody => "The body is incomplete",
            Self::InputTooLarge => "The request is too large",
            Self::Internal => "A defect of the service",
            Self::InvalidIdempotencyKey => "Not an idempotency key",
            Self::InvalidJobId => "Not a job id",
            Self::InvalidJson => "The body is not JSON",
            Self::InvalidLabel => "A label is not allowed",
            Self::InvalidMultipart => "The form cannot be read",
            Self::InvalidOption => "An option is not known",
            Self::InvalidQuery => "A query parameter is not valid",
            Self::InvalidRequest => "The body is not a job",
            Self::InvalidUrl => "The URL cannot be fetched",
            Self::JobCancelled => "The job was cancelled",
            Self::JobFailed => "The job failed",
            Self::JobNotFinished => "The job is not finished",
            Self::JobNotFound => "No such job",
            Self::MalformedRequest => "Not a request of HTTP/1.1",
            Self::MethodNotAllowed => "The route has no such method",
            Self::NotAcceptable => "There is no such form of a result",
            Self::NotReady => "The service is not ready",
            Self::Overloaded => "Too many submissions at once",
            Self::QueueFull => "The queue is full",
            Self::QuotaExceeded => "Too many unfinished jobs",
            Self::RateLimited => "Too many requests",
            Self::RequestTimeout => "The body did not arrive in time",
            Self::ResultExpired => "The result is no longer kept",
            Self::RouteNotFound => "No such route",
            Self::SourceGone => "The source is no longer kept",
            Self::StorageFull => "There is no room for the document",
            Self::TooManyWaiting => "Too many clients wait",
            Self::Unauthenticated => "No valid API key",
            Self::UnsupportedMediaType => "The content type is not supported",
        }
    }

    /// Tells whether the same request may succeed later.
    fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::BrokerUnavailable
                | Self::IncompleteBody
                | Self::Internal
                | Self::JobNotFinished
                | Self::NotReady
                | Self::Overloaded
                | Self::QueueFull
                | Self::QuotaExceeded
                | Self::RateLimited
                | Self::RequestTimeout
                | Self::StorageFull
                | Self::TooManyWaiting
        )
    }

    pub(crate) fn retry_after(self) -> Option<Duration> {
        if matches!(self, Self::QueueFull | Self::StorageFull) {
            return Some(RETRY_FULL);
        }
        let passes = matches!(
            self,
            Self::BrokerUnavailable
                | Self::NotReady
                | Self::JobNotFinished
                | Self::Overloaded
                | Self::TooManyWaiting
        );
        passes.then_some(RETRY_SOON)
    }
}

/// One error, as the client sees it. What the log says is logged where the problem arises.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    more: Map<String, Value>,
    retry_after: Option<Duration>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), more: Map::new(), retry_after: None }
    }

    /// Returns the problem of a job that may or may not have been queued: the id lets the client
    /// find out.
    pub(crate) fn unconfirmed(job_id: JobId) -> Self {
        let detail = "The queue did not confirm the job in time. It may have been accepted: ask \
                      for it by its id, or submit it again.";
        Self::new(Code::BrokerUnavailable, detail).with("job_id", json!(job_id))
    }

    /// Says when to come back, instead of what the code says.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the code as clients see it.
    pub(crate) fn name(&self) -> &'static str {
        self.code.name()
    }

    /// Tells whether it leaves open what became of a job, which it names.
    pub(crate) fn names_a_job(&self) -> bool {
        self.more.contains_key("job_id")
    }

    /// Tells whether it is of this kind.
    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == code
    }

    /// Tells whether it lies in the time and not in the request.
    pub(crate) fn passes(&self) -> bool {
        let status = self.status();
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
    }

    /// Says more about this case.
    pub(crate) fn explained(mut self, detail: String) -> Self {
        self.detail = detail;
        self
    }

    /// Returns what is said of one of many things in a single answer.
    pub(crate) fn brief(&self) -> Value {
        let (code, retryable) = (self.code.name(), self.code.is_retryable());
        let mut said = json!({"code": code, "detail": self.detail, "retryable": retryable});
        if let (Some(said), Some(job_id)) = (said.as_object_mut(), self.more.get("job_id")) {
            said.insert("job_id".to_owned(), job_id.clone());
        }
        said
    }

    /// Adds a member.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.more.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.code.status()
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns what the answer says.
    pub(crate) fn body(&self, trace_id: TraceId) -> Value {
        let code = self.code.name();
        let mut body = json!({
            "type": format!("urn:wordmill:error:{code}"),
            "title": self.code.title(),
            "status": self.status().as_u16(),
            "detail": self.detail,
            "code": code,
            "retryable": self.code.is_retryable(),
            "trace_id": trace_id,
        });
        if let Some(body) = body.as_object_mut() {
            body.extend(self.more.clone());
        }
        body
    }

    /// Writes the answer, with the header fields that it has so far.
    pub(crate) fn render(&self, trace_id: TraceId, headers: &HeaderMap) -> Response {
        let mut response = (self.status(), Json(self.body(trace_id))).into_response();
        response.headers_mut().extend(headers.clone());
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        response
    }
}

/// The body is written where the trace is known: see `trace::answer`.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if let Some(after) = self.retry_after.or_else(|| self.code.retry_after()) {
            response.headers_mut().insert(RETRY_AFTER, after.as_secs().into());
        }
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
            BrokerError::Full { .. } => {
                warn!(%error, "the broker has no room");
                Self::new(Code::StorageFull, "There is no room now. Come back later.")
            }
            BrokerError::Gone { .. } => {
                Self::new(Code::ResultExpired, "What the job found is no longer kept.")
            }
            BrokerError::Corrupt { .. } | BrokerError::TooLarge { .. } => {
                error!(%error, "a request met something that should not exist");
                Self::new(Code::Internal, "The service met something that it does not understand.")
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
            let name = code.name();
            assert!(page.contains(&format!("\n### `{name}`\n")), "docs/errors.md lacks {name}");
        }
    }

    #[test]
    fn whatever_is_our_fault_says_when_to_come_back() {
        for code in Code::ALL {
            if code.status() == StatusCode::SERVICE_UNAVAILABLE {
                assert!(code.is_retryable() && code.retry_after().is_some(), "{code:?}");
            }
        }
    }
}
