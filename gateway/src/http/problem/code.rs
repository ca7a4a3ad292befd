//! What can go wrong, by name.

use std::time::Duration;

use axum::http::StatusCode;

/// When to come back after a failure that passes by itself.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// When to come back to a queue that is full.
const RETRY_FULL: Duration = Duration::from_secs(5);

/// Names a kind of error. Clients branch on it; `docs/errors.md` explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    AlreadyFinished,
    BrokerUnavailable,
    CrossSiteRequest,
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
    InvalidWebhook,
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
    UnknownHost,
    UnsupportedMediaType,
    WebhookNotRequested,
    WebhooksDisabled,
    WebhooksFull,
}

impl Code {
    /// Every code, by name.
    pub(crate) const ALL: [Self; 45] = [
        Self::AlreadyFinished,
        Self::BrokerUnavailable,
        Self::CrossSiteRequest,
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
        Self::InvalidWebhook,
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
        Self::UnknownHost,
        Self::UnsupportedMediaType,
        Self::WebhookNotRequested,
        Self::WebhooksDisabled,
        Self::WebhooksFull,
    ];

    /// Returns the code as clients see it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AlreadyFinished => "already_finished",
            Self::BrokerUnavailable => "broker_unavailable",
            Self::CrossSiteRequest => "cross_site_request",
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
            Self::InvalidWebhook => "invalid_webhook",
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
            Self::UnknownHost => "unknown_host",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::WebhookNotRequested => "webhook_not_requested",
            Self::WebhooksDisabled => "webhooks_disabled",
            Self::WebhooksFull => "webhooks_full",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BrokerUnavailable
            | Self::NotReady
            | Self::Overloaded
            | Self::QueueFull
            | Self::StorageFull
            | Self::TooManyWaiting
            | Self::WebhooksFull => StatusCode::SERVICE_UNAVAILABLE,
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
            | Self::InvalidUrl
            | Self::InvalidWebhook
            | Self::WebhooksDisabled => StatusCode::UNPROCESSABLE_ENTITY,
            Self::AlreadyFinished
            | Self::ExplainNotRecorded
            | Self::JobCancelled
            | Self::JobFailed
            | Self::JobNotFinished
            | Self::WebhookNotRequested => StatusCode::CONFLICT,
            Self::CrossSiteRequest => StatusCode::FORBIDDEN,
            Self::DeadLetterNotFound | Self::JobNotFound | Self::RouteNotFound => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ResultExpired | Self::SourceGone => StatusCode::GONE,
            Self::QuotaExceeded | Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    /// Returns what the code means, in words that never change.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::AlreadyFinished => "The job has already ended",
            Self::BrokerUnavailable => "The queue is not available",
            Self::CrossSiteRequest => "A page of another site sent the request",
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
            Self::InvalidWebhook => "The webhook cannot be delivered there",
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
            Self::UnknownHost => "The host name is not accepted",
            Self::UnsupportedMediaType => "The content type is not supported",
            Self::WebhookNotRequested => "The job has no webhook",
            Self::WebhooksDisabled => "There are no webhooks here",
            Self::WebhooksFull => "Too many webhooks wait",
        }
    }

    /// Tells whether the same request may succeed later.
    pub(crate) fn is_retryable(self) -> bool {
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
                | Self::WebhooksFull
        )
    }

    pub(crate) fn retry_after(self) -> Option<Duration> {
        if matches!(self, Self::QueueFull | Self::StorageFull | Self::WebhooksFull) {
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
