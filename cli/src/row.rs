//! One source of `wordmill count`, and its job.

use serde_json::Value;

use crate::error::Error;
use crate::exit;
use crate::job::FetchedJob;
use crate::session::Session;
use crate::words::Words;

/// Source with its job, or with the error that prevented one.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The job, if it was accepted.
    pub(crate) fetched: Option<FetchedJob>,
    /// Error of the submission, or of a later request for the job.
    pub(crate) error: Option<Error>,
    /// The most frequent words, if requested.
    pub(crate) top: Option<Words>,
    /// Explanation of two rules, if requested.
    pub(crate) explanation: Option<Value>,
}

impl Row {
    /// Creates a row without a job.
    pub(crate) fn new(name: String) -> Self {
        Self { name, fetched: None, error: None, top: None, explanation: None }
    }

    /// Sets the final job, and prints the reason if it has no result.
    pub(crate) fn set_job(&mut self, session: &Session, fetched: FetchedJob) {
        if let Some(reason) = fetched.job.failure_text() {
            session.print_message(&format!("{}: {reason}", self.name));
            session.raise_exit_code(exit::JOB_FAILED);
        }
        self.fetched = Some(fetched);
    }

    /// Sets and prints the error of this source.
    ///
    /// # Errors
    /// Returns `error` if it affects every source.
    pub(crate) fn record_error(&mut self, session: &Session, error: Error) -> Result<(), Error> {
        if error.affects_every_source() {
            return Err(error);
        }
        session.report_error(&self.name, &error);
        self.error = Some(error);
        Ok(())
    }

    /// Returns the job if it has a result.
    pub(crate) fn succeeded(&self) -> Option<&FetchedJob> {
        self.fetched.as_ref().filter(|fetched| fetched.job.has_succeeded() && self.error.is_none())
    }
}
