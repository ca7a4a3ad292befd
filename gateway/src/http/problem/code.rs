//! Table of problem codes with their status, retry rule and title.

use std::time::Duration;

use axum::http::StatusCode;

use self::Retry::{After, Later, Never};

/// `Retry-After` of an error that usually passes within a second.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// `Retry-After` of a full queue or store, which takes longer to drain.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(5);

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// No. The client has to change the request first.
    Never,
    /// Yes. The caller of `Problem::new` may set a time.
    Later,
    /// Yes, after this time, unless the caller of `Problem::new` sets another one.
    After(Duration),
}

/// Properties of a code.
struct Entry {
    name: &'static str,
    status: StatusCode,
    retry: Retry,
    title: &'static str,
}

/// Declares [`Code`] from a table: `Variant = "name", STATUS, retry, "Title";`.
macro_rules! codes {
    ($($code:ident = $name:literal, $status:ident, $retry:expr, $title:literal;)*) => {
        /// A kind of error. Clients branch on its name; `docs/errors.md` explains each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            $($code,)*
        }

        impl Code {
            /// Every code, sorted by name.
            pub(crate) const ALL: &[Self] = &[$(Self::$code,)*];

            fn entry(self) -> Entry {
                match self {
                    $(Self::$code => Entry {
                        name: $name,
                        status: StatusCode::$status,
                        retry: $retry,
                        title: $title,
                    },)*
                }
            }
        }
    };
}

codes! {
    AlreadyFinished = "already_finished", CONFLICT, Never,
        "The job has already ended";
    BrokerUnavailable = "broker_unavailable", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "The queue is not available";
    CrossSiteRequest = "cross_site_request", FORBIDDEN, Never,
        "A page of another site sent the request";
    DeadLetterNotFound = "dead_letter_not_found", NOT_FOUND, Never,
        "No such dead letter";
    EmptyBatch = "empty_batch", UNPROCESSABLE_ENTITY, Never,
        "The batch has no job";
    ExplainNotRecorded = "explain_not_recorded", CONFLICT, Never,
        "The job recorded no explanation";
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Never,
        "The head of the request is too large";
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, Never,
        "The name is taken by another request";
    IncompleteBody = "incomplete_body", BAD_REQUEST, Later,
        "The body is incomplete";
    InputTooLarge = "input_too_large", PAYLOAD_TOO_LARGE, Never,
        "The request is too large";
    Internal = "internal", INTERNAL_SERVER_ERROR, Later,
        "A defect of the service";
    InvalidIdempotencyKey = "invalid_idempotency_key", BAD_REQUEST, Never,
        "Not an idempotency key";
    InvalidJobId = "invalid_job_id", BAD_REQUEST, Never,
        "Not a job id";
    InvalidJson = "invalid_json", BAD_REQUEST, Never,
        "The body is not JSON";
    InvalidLabel = "invalid_label", UNPROCESSABLE_ENTITY, Never,
        "A label is not allowed";
    InvalidMultipart = "invalid_multipart", BAD_REQUEST, Never,
        "The form cannot be read";
    InvalidOption = "invalid_option", UNPROCESSABLE_ENTITY, Never,
        "An option is not known";
    InvalidQuery = "invalid_query", BAD_REQUEST, Never,
        "A query parameter is not valid";
    InvalidRequest = "invalid_request", UNPROCESSABLE_ENTITY, Never,
        "The body is not a job";
    InvalidUrl = "invalid_url", UNPROCESSABLE_ENTITY, Never,
        "The URL cannot be fetched";
    InvalidWebhook = "invalid_webhook", UNPROCESSABLE_ENTITY, Never,
        "The webhook cannot be delivered there";
    JobCancelled = "job_cancelled", CONFLICT, Never,
        "The job was cancelled";
    JobFailed = "job_failed", CONFLICT, Never,
        "The job failed";
    JobNotFinished = "job_not_finished", CONFLICT, After(RETRY_AFTER),
        "The job is not finished";
    JobNotFound = "job_not_found", NOT_FOUND, Never,
        "No such job";
    MalformedRequest = "malformed_request", BAD_REQUEST, Never,
        "Not a request of HTTP/1.1";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Never,
        "The route has no such method";
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, Never,
        "There is no such form of a result";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "The service is not ready";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "Too many submissions at once";
    QueueFull = "queue_full", SERVICE_UNAVAILABLE, After(RETRY_AFTER_FULL),
        "The queue is full";
    QuotaExceeded = "quota_exceeded", TOO_MANY_REQUESTS, Later,
        "Too many unfinished jobs";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, Later,
        "Too many requests";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, Later,
        "The body did not arrive in time";
    ResultExpired = "result_expired", GONE, Never,
        "The result is no longer kept";
    RouteNotFound = "route_not_found", NOT_FOUND, Never,
        "No such route";
    SourceGone = "source_gone", GONE, Never,
        "The source is no longer kept";
    StorageFull = "storage_full", SERVICE_UNAVAILABLE, After(RETRY_AFTER_FULL),
        "There is no room for the document";
    TooManyWaiting = "too_many_waiting", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "Too many clients wait";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, Never,
        "No valid API key";
    UnknownHost = "unknown_host", MISDIRECTED_REQUEST, Never,
        "The host name is not accepted";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, Never,
        "The content type is not supported";
    WebhookNotRequested = "webhook_not_requested", CONFLICT, Never,
        "The job has no webhook";
    WebhooksDisabled = "webhooks_disabled", UNPROCESSABLE_ENTITY, Never,
        "There are no webhooks here";
    WebhooksFull = "webhooks_full", SERVICE_UNAVAILABLE, After(RETRY_AFTER_FULL),
        "Too many webhooks wait";
}

impl Code {
    /// Returns the name as clients see it.
    pub(crate) fn name(self) -> &'static str {
        self.entry().name
    }

    /// Returns the status of an answer with this code.
    pub(crate) fn status(self) -> StatusCode {
        self.entry().status
    }

    /// Returns the title, which is the same for all problems with this code.
    pub(crate) fn title(self) -> &'static str {
        self.entry().title
    }

    /// Returns whether the same request may succeed later.
    pub(crate) fn is_retryable(self) -> bool {
        self.entry().retry != Never
    }

    /// Returns the value of `Retry-After`, unless the code has none.
    pub(crate) fn retry_after(self) -> Option<Duration> {
        match self.entry().retry {
            After(pause) => Some(pause),
            Never | Later => None,
        }
    }
}
