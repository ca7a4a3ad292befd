//! Why something did not work, in words for a person and as an exit code.

use std::fmt;
use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::exit;

/// What a job that will never have a result is refused with.
const UNSUCCESSFUL_JOB_CODES: [&str; 2] = ["job_failed", "job_cancelled"];
/// Refusals that do not depend on which source is sent: the next one would get the same.
const SOURCE_INDEPENDENT_CODES: [&str; 5] =
    ["unauthenticated", "invalid_option", "invalid_label", "invalid_query", "route_not_found"];

/// Why something did not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server answered, but not as it was hoped.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No answer came.
    #[error("{server} cannot be reached: {detail}")]
    Unreachable {
        /// Where it was looked for.
        server: String,
        /// What the connection ended with.
        detail: String,
    },
    /// The answer is none of this API.
    #[error("{server} does not answer as Wordmill does: {detail}")]
    UnexpectedAnswer {
        /// Who answered.
        server: String,
        /// What is strange.
        detail: String,
    },
    /// A file here cannot be read or written.
    #[error("{what}: {source}")]
    File {
        /// What was attempted.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A limit of this command.
    #[error("{0}")]
    LimitExceeded(String),
    /// The command line contradicts itself or the world.
    #[error("{0}")]
    Usage(String),
    /// Whoever reads our output has gone: there is nobody to tell.
    #[error("nobody reads the output")]
    ClosedPipe,
}

impl Error {
    /// Names what was attempted with a file.
    pub(crate) fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::File { what, source }
    }

    /// Returns the exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Problem(problem) if UNSUCCESSFUL_JOB_CODES.contains(&problem.code()) => {
                exit::FAILED
            }
            Self::Problem(problem) if problem.status < 500 => exit::REFUSED,
            Self::Problem(_) | Self::Unreachable { .. } | Self::UnexpectedAnswer { .. } => {
                exit::UNAVAILABLE
            }
            Self::File { .. } | Self::LimitExceeded(_) => exit::LOCAL,
            Self::Usage(_) => exit::USAGE,
            Self::ClosedPipe => exit::OK,
        }
    }

    /// Returns a stable code: the service's own, or one for what went wrong here.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Problem(problem) => problem.code(),
            Self::Unreachable { .. } => "unreachable",
            Self::UnexpectedAnswer { .. } => "strange_answer",
            Self::File { .. } => "unreadable",
            Self::LimitExceeded(_) => "too_much",
            Self::Usage(_) => "usage",
            Self::ClosedPipe => "nobody_reads",
        }
    }

    /// Returns the error for programs.
    pub(crate) fn to_json(&self) -> Value {
        let code = self.code();
        if let Self::Problem(problem) = self {
            let Problem { status, detail, trace_id, .. } = &**problem;
            return json!({"code": code, "detail": detail, "status": status, "trace_id": trace_id});
        }
        json!({"code": code, "detail": self.to_string()})
    }

    /// Tells whether every further source would meet the same.
    pub(crate) fn affects_every_source(&self) -> bool {
        match self {
            Self::Problem(problem) => {
                problem.status >= 500 || SOURCE_INDEPENDENT_CODES.contains(&problem.code())
            }
            Self::Unreachable { .. }
            | Self::UnexpectedAnswer { .. }
            | Self::Usage(_)
            | Self::ClosedPipe => true,
            Self::File { .. } | Self::LimitExceeded(_) => false,
        }
    }
}

/// An error as the API describes it (RFC 9457), or as much as can be made of another answer.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    pub(crate) status: u16,
    #[serde(default)]
    detail: String,
    code: Option<String>,
    trace_id: Option<String>,
    /// The job that may have been accepted all the same.
    job_id: Option<String>,
    /// Why each line of a batch was refused.
    #[serde(default)]
    lines: Value,
}

impl Problem {
    /// Reads the body of an answer that is an error. Whoever stands between us and the service may
    /// answer, too, in a form of its own.
    pub(crate) fn read(status: u16, body: &[u8]) -> Self {
        let read = serde_json::from_slice(body).unwrap_or_default();
        Self { status, ..read }
    }

    /// Returns what is said of each line of a batch.
    pub(crate) fn lines(&self) -> Value {
        self.lines.clone()
    }

    /// Adds a sentence.
    pub(crate) fn add(&mut self, sentence: &str) {
        self.detail = format!("{} {sentence}", self.detail.trim_end());
    }

    /// Returns the stable code; empty if it is not one of the API's errors.
    pub(crate) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(code) = &self.code else {
            return write!(f, "the answer has status {} and says no more", self.status);
        };
        write!(f, "{} ({code}", self.detail.trim_end())?;
        // A line of a batch has none of its own.
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

    fn answered(status: u16, body: &str) -> Error {
        Error::Problem(Box::new(Problem::read(status, body.as_bytes())))
    }

    #[test]
    fn a_problem_is_shown_with_its_code_and_trace() {
        let body = r#"{"code":"invalid_url","detail":"Not a URL.","trace_id":"4bf9","more":1}"#;
        let error = answered(422, body);
        assert_eq!(error.to_string(), "Not a URL. (invalid_url, status 422, trace 4bf9)");
        let body = r#"{"code":"broker_unavailable","detail":"Who knows.","job_id":"0198"}"#;
        let error = answered(503, body);
        assert_eq!(error.to_string(), "Who knows. (broker_unavailable, status 503, job 0198)");
    }

    #[test]
    fn an_answer_of_another_server_is_an_error() {
        for body in ["", "<html>502</html>", "[]", "{\"code\": 7}", "\u{0}"] {
            let error = answered(502, body);
            assert_eq!(error.to_string(), "the answer has status 502 and says no more", "{body:?}");
            assert_eq!(error.exit_code(), exit::UNAVAILABLE);
        }
    }

    #[test]
    fn every_error_has_its_exit_code() {
        let coded = |status, code: &str| answered(status, &format!("{{\"code\":\"{code}\"}}"));
        let io = || io::Error::from(io::ErrorKind::NotFound);
        let server = || "http://x".to_owned();
        for (error, code, for_all) in [
            (coded(404, "job_not_found"), 4, false),
            (coded(401, "unauthenticated"), 4, true),
            (coded(422, "invalid_option"), 4, true),
            (coded(409, "job_failed"), 1, false),
            (coded(409, "job_cancelled"), 1, false),
            (coded(409, "job_not_finished"), 4, false),
            (coded(429, "rate_limited"), 4, false),
            (coded(503, "queue_full"), 3, true),
            (answered(301, ""), 4, false),
            (Error::Unreachable { server: server(), detail: String::new() }, 3, true),
            (Error::UnexpectedAnswer { server: server(), detail: String::new() }, 3, true),
            (Error::File { what: String::new(), source: io() }, 5, false),
            (Error::LimitExceeded(String::new()), 5, false),
            (Error::Usage(String::new()), 2, true),
            (Error::ClosedPipe, 0, true),
        ] {
            assert_eq!(
                (error.exit_code(), error.affects_every_source()),
                (code, for_all),
                "{error:?}"
            );
        }
    }
}
