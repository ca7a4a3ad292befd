//! One source of `wordmill count`, and the job that was made of it.

use serde_json::Value;

use crate::error::Error;
use crate::exit;
use crate::job::FetchedJob;
use crate::session::Session;
use crate::words::Words;

/// One source, and what became of it.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// The job, if it was accepted.
    pub(crate) fetched: Option<FetchedJob>,
    /// Why there is no job, or no more of it.
    pub(crate) error: Option<Error>,
    /// The most frequent words, if they were asked for.
    pub(crate) top: Option<Words>,
    /// What two rules count differently, if that was asked for.
    pub(crate) explanation: Option<Value>,
}

impl Row {
    /// Returns one of which nothing is known yet.
    pub(crate) fn new(name: String) -> Self {
        Self { name, fetched: None, error: None, top: None, explanation: None }
    }

    /// Notes that its job has ended, and tells if it has no result.
    pub(crate) fn set_job(&mut self, session: &Session, fetched: FetchedJob) {
        if let Some(end) = fetched.job.failure_text() {
            session.note(&format!("{}: {end}", self.name));
            session.raise_exit_code(exit::FAILED);
        }
        self.fetched = Some(fetched);
    }

    /// Notes and tells what is wrong with it, unless it is wrong with all.
    ///
    /// # Errors
    /// What holds for all.
    pub(crate) fn refuse(&mut self, session: &Session, error: Error) -> Result<(), Error> {
        if error.affects_every_source() {
            return Err(error);
        }
        session.fail(&self.name, &error);
        self.error = Some(error);
        Ok(())
    }

    /// Returns the job if it has a result.
    pub(crate) fn succeeded(&self) -> Option<&FetchedJob> {
        self.fetched.as_ref().filter(|fetched| fetched.job.has_succeeded() && self.error.is_none())
    }
}
