//! Errors with a human-readable message, a stable code for programs, and an exit code.

use std::fmt;
use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::exit;

/// Problem codes returned when the result of a failed or cancelled job is requested.
const UNSUCCESSFUL_JOB_CODES: [&str; 2] = ["job_failed", "job_cancelled"];
/// Codes of problems that do not depend on the source, for example because of an invalid option.
const SOURCE_INDEPENDENT_CODES: [&str; 5] =
    ["unauthenticated", "invalid_option", "invalid_label", "invalid_query", "route_not_found"];

/// Error of the command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server returned a problem.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The server cannot be reached, or its response is incomplete.
    #[error("{server} cannot be reached: {detail}")]
    Unreachable {
        /// Address of the server.
        server: String,
        /// Cause, for example `Connection refused`.
        detail: String,
    },
    /// The response does not follow the API.
    #[error("unexpected response from {server}, which may not be Wordmill: {detail}")]
    UnexpectedResponse {
        /// Address of the server.
        server: String,
        /// Difference from the expected response.
        detail: String,
    },
    /// A local file cannot be read or written.
    #[error("{operation}: {source}")]
    File {
        /// Failed operation, for example `cannot read a.txt`.
        operation: String,
        /// Cause.
        source: io::Error,
    },
    /// A limit of this command is exceeded, or a local operation failed.
    #[error("{0}")]
    LimitExceeded(String),
    /// The command line is invalid.
    #[error("{0}")]
    Usage(String),
    /// The reader of the output has closed the pipe. The command then ends without a message.
    #[error("the reader of the output has closed the pipe")]
    ClosedPipe,
}

impl Error {
    /// Returns a function that turns an I/O error into [`Error::File`], for `map_err`.
    pub(crate) fn file(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        |source| Self::File { operation, source }
    }

    /// Returns the exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Problem(problem) if UNSUCCESSFUL_JOB_CODES.contains(&problem.code()) => {
                exit::JOB_FAILED
            }
            Self::Problem(problem) if problem.status < 500 => exit::REQUEST_REFUSED,
            Self::Problem(_) | Self::Unreachable { .. } | Self::UnexpectedResponse { .. } => {
                exit::UNAVAILABLE
            }
            Self::File { .. } | Self::LimitExceeded(_) => exit::LOCAL_ERROR,
            Self::Usage(_) => exit::USAGE,
            Self::ClosedPipe => exit::OK,
        }
    }

    /// Returns a stable code: that of the problem, or one for a local error.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Problem(problem) => problem.code(),
            Self::Unreachable { .. } => "unreachable",
            Self::UnexpectedResponse { .. } => "strange_answer",
            Self::File { .. } => "unreadable",
            Self::LimitExceeded(_) => "too_much",
            Self::Usage(_) => "usage",
            Self::ClosedPipe => "nobody_reads",
        }
    }

    /// Returns the error as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let code = self.code();
        if let Self::Problem(problem) = self {
            let Problem { status, detail, trace_id, .. } = &**problem;
            return json!({"code": code, "detail": detail, "status": status, "trace_id": trace_id});
        }
        json!({"code": code, "detail": self.to_string()})
    }

    /// Returns whether the submission of every other source would fail in the same way.
    pub(crate) fn affects_every_source(&self) -> bool {
        match self {
            Self::Problem(problem) => {
                problem.status >= 500 || SOURCE_INDEPENDENT_CODES.contains(&problem.code())
            }
            Self::Unreachable { .. }
            | Self::UnexpectedResponse { .. }
            | Self::Usage(_)
            | Self::ClosedPipe => true,
            Self::File { .. } | Self::LimitExceeded(_) => false,
        }
    }
}

/// Error response of the API (RFC 9457). If it is from another server, only the status is set.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    pub(crate) status: u16,
    #[serde(default)]
    detail: String,
    code: Option<String>,
    trace_id: Option<String>,
    /// Id of a job that may have been accepted despite the error.
    job_id: Option<String>,
    /// Outcome of each line of a refused batch.
    #[serde(default)]
    lines: Value,
}

impl Problem {
    /// Parses the body of an error response. If it is from another server, for example a proxy,
    /// only the status is set.
    pub(crate) fn parse(status: u16, body: &[u8]) -> Self {
        let parsed = serde_json::from_slice(body).unwrap_or_default();
        Self { status, ..parsed }
    }

    /// Returns the outcome of each line of a refused batch.
    pub(crate) fn lines(&self) -> Value {
        self.lines.clone()
    }

    /// Appends a sentence to the detail.
    pub(crate) fn add_sentence(&mut self, sentence: &str) {
        self.detail = format!("{} {sentence}", self.detail.trim_end());
    }

    /// Returns the stable code; empty if the response is not from the API.
    pub(crate) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(code) = &self.code else {
            return write!(f, "the server returned status {} without details", self.status);
        };
        write!(f, "{} ({code}", self.detail.trim_end())?;
        // Problems of batch lines have no status.
        if self.status > 0 {
            write!(f, ", status {}", self.status)?;
        }
        if let Some(job_id) = &self.job_id {
            write!(f, ", job {job_id}")?;
        }
        match &self.trace_id {
            Some(trace_id) => write!(f, ", trace {trace_id})"),
            None => write!(f, ")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(status: u16, body: &str) -> Error {
        Error::Problem(Box::new(Problem::parse(status, body.as_bytes())))
    }

    #[test]
    fn a_problem_is_shown_with_its_code_and_trace() {
        let body = r#"{"code":"invalid_url","detail":"Not a URL.","trace_id":"4bf9","more":1}"#;
        let error = problem(422, body);
        assert_eq!(error.to_string(), "Not a URL. (invalid_url, status 422, trace 4bf9)");
        let body = r#"{"code":"broker_unavailable","detail":"Try again.","job_id":"0198"}"#;
        let error = problem(503, body);
        assert_eq!(error.to_string(), "Try again. (broker_unavailable, status 503, job 0198)");
    }

    #[test]
    fn a_response_of_another_server_is_an_error() {
        for body in ["", "<html>502</html>", "[]", "{\"code\": 7}", "\u{0}"] {
            let error = problem(502, body);
            let expected = "the server returned status 502 without details";
            assert_eq!(error.to_string(), expected, "{body:?}");
            assert_eq!(error.exit_code(), exit::UNAVAILABLE);
        }
    }

    #[test]
    fn every_error_has_its_exit_code() {
        let coded = |status, code: &str| problem(status, &format!("{{\"code\":\"{code}\"}}"));
        let io = || io::Error::from(io::ErrorKind::NotFound);
        let server = || "http://x".to_owned();
        for (error, code, affects_all) in [
            (coded(404, "job_not_found"), 4, false),
            (coded(401, "unauthenticated"), 4, true),
            (coded(422, "invalid_option"), 4, true),
            (coded(409, "job_failed"), 1, false),
            (coded(409, "job_cancelled"), 1, false),
            (coded(409, "job_not_finished"), 4, false),
            (coded(429, "rate_limited"), 4, false),
            (coded(503, "queue_full"), 3, true),
            (problem(301, ""), 4, false),
            (Error::Unreachable { server: server(), detail: String::new() }, 3, true),
            (Error::UnexpectedResponse { server: server(), detail: String::new() }, 3, true),
            (Error::File { operation: String::new(), source: io() }, 5, false),
            (Error::LimitExceeded(String::new()), 5, false),
            (Error::Usage(String::new()), 2, true),
            (Error::ClosedPipe, 0, true),
        ] {
            assert_eq!(
                (error.exit_code(), error.affects_every_source()),
                (code, affects_all),
                "{error:?}"
            );
        }
    }
}
