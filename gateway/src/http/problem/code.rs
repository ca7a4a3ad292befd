//! Table of problem codes with their status, retry rule and title.

use std::time::Duration;

use axum::http::StatusCode;

use self::Retry::{After, Later, Never};

/// `Retry-After` of an error that usually disappears within a second.
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
        "Job already finished";
    BrokerUnavailable = "broker_unavailable", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "Broker unavailable";
    CrossSiteRequest = "cross_site_request", FORBIDDEN, Never,
        "Cross-site request refused";
    DeadLetterNotFound = "dead_letter_not_found", NOT_FOUND, Never,
        "Dead letter not found";
    EmptyBatch = "empty_batch", UNPROCESSABLE_ENTITY, Never,
        "Batch without a valid job";
    ExplainNotRecorded = "explain_not_recorded", CONFLICT, Never,
        "No explanation recorded";
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Never,
        "Request head too large";
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, Never,
        "Idempotency key used by another request";
    IncompleteBody = "incomplete_body", BAD_REQUEST, Later,
        "Incomplete request body";
    InputTooLarge = "input_too_large", PAYLOAD_TOO_LARGE, Never,
        "Request too large";
    Internal = "internal", INTERNAL_SERVER_ERROR, Later,
        "Internal error";
    InvalidIdempotencyKey = "invalid_idempotency_key", BAD_REQUEST, Never,
        "Invalid idempotency key";
    InvalidJobId = "invalid_job_id", BAD_REQUEST, Never,
        "Invalid job id";
    InvalidJson = "invalid_json", BAD_REQUEST, Never,
        "Invalid JSON";
    InvalidLabel = "invalid_label", UNPROCESSABLE_ENTITY, Never,
        "Invalid label";
    InvalidMultipart = "invalid_multipart", BAD_REQUEST, Never,
        "Invalid multipart form";
    InvalidOption = "invalid_option", UNPROCESSABLE_ENTITY, Never,
        "Invalid option";
    InvalidQuery = "invalid_query", BAD_REQUEST, Never,
        "Invalid query parameter";
    InvalidRequest = "invalid_request", UNPROCESSABLE_ENTITY, Never,
        "Invalid request body";
    InvalidUrl = "invalid_url", UNPROCESSABLE_ENTITY, Never,
        "Invalid URL";
    InvalidWebhook = "invalid_webhook", UNPROCESSABLE_ENTITY, Never,
        "Invalid webhook URL";
    JobCancelled = "job_cancelled", CONFLICT, Never,
        "Job cancelled";
    JobFailed = "job_failed", CONFLICT, Never,
        "Job failed";
    JobNotFinished = "job_not_finished", CONFLICT, After(RETRY_AFTER),
        "Job not finished";
    JobNotFound = "job_not_found", NOT_FOUND, Never,
        "Job not found";
    MalformedRequest = "malformed_request", BAD_REQUEST, Never,
        "Malformed HTTP request";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, Never,
        "Method not allowed";
    NotAcceptable = "not_acceptable", NOT_ACCEPTABLE, Never,
        "Unsupported result format";
    NotReady = "not_ready", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "Service not ready";
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "Too many concurrent submissions";
    QueueFull = "queue_full", SERVICE_UNAVAILABLE, After(RETRY_AFTER_FULL),
        "Queue full";
    QuotaExceeded = "quota_exceeded", TOO_MANY_REQUESTS, Later,
        "Too many unfinished jobs";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, Later,
        "Too many requests";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, Later,
        "Request body timeout";
    ResultExpired = "result_expired", GONE, Never,
        "Job or result no longer stored";
    RouteNotFound = "route_not_found", NOT_FOUND, Never,
        "Route not found";
    SourceGone = "source_gone", GONE, Never,
        "Source no longer stored";
    StorageFull = "storage_full", SERVICE_UNAVAILABLE, After(RETRY_AFTER_FULL),
        "Storage full";
    TooManyWaiting = "too_many_waiting", SERVICE_UNAVAILABLE, After(RETRY_AFTER),
        "Too many waiting clients";
    Unauthenticated = "unauthenticated", UNAUTHORIZED, Never,
        "Missing or invalid API key";
    UnknownHost = "unknown_host", MISDIRECTED_REQUEST, Never,
        "Host name not accepted";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, Never,
        "Unsupported content type";
    WebhookNotRequested = "webhook_not_requested", CONFLICT, Never,
        "Job without a webhook";
    WebhooksDisabled = "webhooks_disabled", UNPROCESSABLE_ENTITY, Never,
        "Webhooks disabled";
    WebhooksFull = "webhooks_full", SERVICE_UNAVAILABLE, After(RETRY_AFTER_FULL),
        "Too many waiting webhooks";
}

impl Code {
    /// Returns the name that clients see.
    pub(crate) fn name(self) -> &'static str {
        self.entry().name
    }

    /// Returns the status of a response with this code.
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
            After(delay) => Some(delay),
            Never | Later => None,
        }
    }
}
