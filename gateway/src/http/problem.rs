//! Maps all errors to HTTP responses: RFC 9457 problems with a stable code.

mod code;

use std::time::Duration;

use axum::Json;
use axum::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tracing::{error, warn};
use wordmill_common::id::JobId;
use wordmill_common::trace_context::TraceId;
use wordmill_nats::Error as BrokerError;

pub(crate) use self::code::Code;

/// Maximum length of a detail, in characters. The response to a batch has a detail for each refused
/// line.
const DETAIL_CHARS_MAX: usize = 500;

const NEWER_VERSION_NEEDED: &str = "Only a newer version of Wordmill can handle this job. Try \
    again: another gateway may run that version.";

/// An error as the client sees it. The code that creates a problem also logs its cause.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    members: Map<String, Value>,
    retry_after: Option<Duration>,
}

/// Extension of a response that is rendered in another way, with the problem that caused it, for
/// the span of the request.
#[derive(Debug, Clone)]
pub(crate) struct ProblemCause(pub(crate) Problem);

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: truncate(detail.into()), members: Map::new(), retry_after: None }
    }

    /// Returns the problem of a job that existed and was deleted or has expired.
    pub(crate) fn result_expired() -> Self {
        Self::new(Code::ResultExpired, "The job was deleted or has expired.")
    }

    /// Returns the problem of a job that may have been enqueued without confirmation. It contains
    /// the job id, so that the client can look for the job.
    pub(crate) fn unconfirmed(job_id: JobId) -> Self {
        let detail = "The broker did not confirm the job in time. It may have been accepted: get \
                      it by its id, or submit it again.";
        Self::new(Code::BrokerUnavailable, detail).with_member("job_id", json!(job_id))
    }

    /// Returns the problem of a job that only a newer version of the service can handle. During an
    /// upgrade, another gateway may run that version.
    pub(crate) fn newer_version_needed() -> Self {
        Self::new(Code::BrokerUnavailable, NEWER_VERSION_NEEDED)
    }

    /// Returns whether this is [`Problem::newer_version_needed`]. Retries by this gateway cannot
    /// succeed.
    pub(crate) fn needs_newer_version(&self) -> bool {
        self.code == Code::BrokerUnavailable && self.detail == NEWER_VERSION_NEEDED
    }

    /// Sets `Retry-After`, which otherwise depends on the code.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the code as clients see it.
    pub(crate) fn code_name(&self) -> &'static str {
        self.code.name()
    }

    /// Returns whether the problem has a `job_id`, the id of a job that may have been enqueued.
    pub(crate) fn has_job_id(&self) -> bool {
        self.members.contains_key("job_id")
    }

    /// Returns whether the problem has this code.
    pub(crate) fn has_code(&self, code: Code) -> bool {
        self.code == code
    }

    /// Returns whether the problem is transient: a 5xx status or 429.
    pub(crate) fn is_transient(&self) -> bool {
        let status = self.status();
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
    }

    /// Replaces the detail.
    pub(crate) fn with_detail(mut self, detail: String) -> Self {
        self.detail = truncate(detail);
        self
    }

    /// Returns a short form of the problem, for a response that contains many.
    pub(crate) fn summary(&self) -> Value {
        let code = self.code.name();
        let retryable = self.code.is_retryable();
        let mut summary = json!({"code": code, "detail": self.detail, "retryable": retryable});
        if let (Some(summary), Some(job_id)) = (summary.as_object_mut(), self.members.get("job_id"))
        {
            summary.insert("job_id".to_owned(), job_id.clone());
        }
        summary
    }

    /// Adds a member to the JSON body.
    pub(crate) fn with_member(mut self, name: &str, value: Value) -> Self {
        self.members.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.code.status()
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the JSON body.
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
            body.extend(self.members.clone());
        }
        body
    }

    /// Renders the response with the `headers` that are already set.
    pub(crate) fn render(&self, trace_id: TraceId, headers: &HeaderMap) -> Response {
        let mut response = (self.status(), Json(self.body(trace_id))).into_response();
        response.headers_mut().extend(headers.clone());
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        response
    }
}

/// Truncates a long detail. A detail may quote input of the client, such as the name of an unknown
/// field, of up to a megabyte.
fn truncate(mut detail: String) -> String {
    if let Some((end, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
        detail.truncate(end);
        detail.push('…');
        detail.shrink_to_fit();
    }
    detail
}

/// Stores the problem in the extensions of the response. `request_trace::trace_request` renders the
/// body, because it has the trace id.
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
                warn!(%error, "broker request failed");
                let detail = "The broker did not answer in time. Try again.";
                Self::new(Code::BrokerUnavailable, detail)
            }
            BrokerError::Newer { .. } => {
                warn!(%error, "request needs a newer version of the gateway");
                Self::newer_version_needed()
            }
            BrokerError::Full { .. } => {
                warn!(%error, "broker storage is full");
                Self::new(Code::StorageFull, "The storage is full. Try again later.")
            }
            BrokerError::Gone { .. } => {
                Self::new(Code::ResultExpired, "The result of the job is no longer stored.")
            }
            BrokerError::Corrupt { .. } | BrokerError::TooLarge { .. } => {
                error!(%error, "stored data is corrupt, or too large for the broker");
                Self::new(
                    Code::Internal,
                    "The service cannot read or store the data of this request.",
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
        let page = include_str!("../../../docs/errors.md");
        for code in Code::ALL {
            let name = code.name();
            assert!(page.contains(&format!("\n### `{name}`\n")), "docs/errors.md lacks {name}");
        }
    }

    #[test]
    fn long_details_are_truncated() {
        let name = "ü".repeat(1 << 20);
        let problem = Problem::new(Code::InvalidRequest, format!("unknown field `{name}`."));
        assert_eq!(problem.detail().chars().count(), DETAIL_CHARS_MAX + 1);
        assert!(problem.detail().ends_with('…'), "{}", problem.detail());
        assert_eq!(Problem::new(Code::InvalidRequest, "short").detail(), "short");
    }

    #[test]
    fn every_503_has_a_retry_after() {
        for code in Code::ALL {
            if code.status() == StatusCode::SERVICE_UNAVAILABLE {
                assert!(code.is_retryable() && code.retry_after().is_some(), "{code:?}");
            }
        }
    }
}
