//! One invocation: whom it asks, what it tells on standard error, and how it ends.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use hyper::header::HeaderValue;

use crate::arguments::{PrintArguments, ServerArguments};
use crate::client::{Client, Server};
use crate::error::Error;
use crate::exit;
use crate::out::Output;
use crate::progress::Progress;
use crate::text::{pluralize, replace_control_chars};

/// Where the key is found if no file is named.
const KEY_VARIABLE: &str = "WORDMILL_API_KEY";
/// Largest file with a key, in bytes.
const KEY_BYTES_MAX: u64 = 4096;
/// Most ids in the command that leads back to jobs.
const LISTED_IDS_MAX: usize = 20;

/// One invocation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) progress: Progress,
    /// Jobs that were accepted and have not been seen to end.
    open: RefCell<Vec<String>>,
    exit_code: Cell<u8>,
}

impl Session {
    /// Prepares everything; no request is sent yet.
    ///
    /// # Errors
    /// [`Error::File`] and [`Error::Usage`] if the key cannot be had.
    pub(crate) fn open(arguments: &ServerArguments) -> Result<Self, Error> {
        let key = match &arguments.key_file {
            Some(path) => Some(key_of(path)?),
            None => variable(KEY_VARIABLE).map(|key| key.to_string_lossy().into_owned()),
        };
        let key = key.as_deref().map(|key| bearer(key.trim())).transpose()?;
        let url = arguments.server.clone();
        let client = Client::new(Server { url, key, retry_time: arguments.retry_time })?;
        let is_dumb = variable("TERM").is_some_and(|kind| kind == "dumb");
        Ok(Self {
            client,
            progress: Progress::new(is_dumb),
            open: RefCell::default(),
            exit_code: Cell::new(exit::OK),
        })
    }

    /// Opens what results are written to. Before anything is asked for, so that nothing is done in vain.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn out(&self, arguments: &PrintArguments) -> Result<Output<'_>, Error> {
        Output::open(&self.progress, arguments.output.as_deref())
    }

    /// Tells something that is no result.
    pub(crate) fn note(&self, text: &str) {
        self.progress.clear();
        print_error(text);
    }

    /// Tells that something went wrong with one of several things, and remembers it for the end.
    pub(crate) fn fail(&self, name: &str, error: &Error) {
        // An error with a file names it.
        if matches!(error, Error::File { .. } | Error::LimitExceeded(_)) {
            self.note(&error.to_string());
        } else {
            self.note(&format!("{name}: {error}"));
        }
        self.raise_exit_code(error.exit_code());
    }

    /// Remembers an exit code; the highest one counts.
    pub(crate) fn raise_exit_code(&self, code: u8) {
        self.exit_code.set(self.exit_code.get().max(code));
    }

    /// Returns the exit code so far.
    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code.get()
    }

    /// Remembers a job that somebody may want to come back to.
    pub(crate) fn remember_job(&self, job_id: &str) {
        self.open.borrow_mut().push(job_id.to_owned());
    }

    /// Forgets a job that has ended.
    pub(crate) fn forget_job(&self, job_id: &str) {
        self.open.borrow_mut().retain(|open| open != job_id);
    }

    /// Tells how to come back to jobs that go on.
    pub(crate) fn print_unfinished_jobs(&self) {
        let open = self.open.borrow();
        if open.is_empty() {
            return;
        }
        let ids: Vec<String> =
            open.iter().take(LISTED_IDS_MAX).map(|id| replace_control_chars(id)).collect();
        let goes = if open.len() == 1 { "goes" } else { "go" };
        let mut text = format!("{} {goes} on; to come back:", pluralize(open.len(), "job"));
        text += &format!("\n  wordmill wait {}", ids.join(" "));
        if open.len() > LISTED_IDS_MAX {
            text += &format!("\n  wordmill list   shows {} more", open.len() - LISTED_IDS_MAX);
        }
        self.progress.clear();
        print_line(&text);
    }
}

/// Tells what is wrong, in one line.
pub(crate) fn print_error(text: &str) {
    print_line(&replace_control_chars(text));
}

fn print_line(text: &str) {
    // There is nobody to tell that nobody can be told.
    let _ = writeln!(io::stderr(), "wordmill: {text}");
}

/// Returns what the environment says; what is empty says nothing.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn key_of(path: &Path) -> Result<String, Error> {
    let cannot = || Error::file(format!("cannot read the key in {}", path.display()));
    let metadata = fs::metadata(path).map_err(cannot())?;
    if metadata.is_file() && metadata.len() > KEY_BYTES_MAX {
        return Err(Error::Usage(format!("{} is too large for a key", path.display())));
    }
    fs::read_to_string(path).map_err(cannot())
}

fn bearer(key: &str) -> Result<HeaderValue, Error> {
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {key}")).ok().filter(|_| is_key);
    // What was found instead may be a secret, too.
    let mut value = value.ok_or_else(|| {
        Error::Usage(format!("what --key-file or {KEY_VARIABLE} names is no key (wm_…)"))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word() {
        assert_eq!(bearer("wm_1").unwrap(), "Bearer wm_1");
        assert!(!format!("{:?}", bearer("wm_1")).contains("wm_1"));
        for wrong in ["", "two words", "a\nb", "ü"] {
            let error = bearer(wrong).unwrap_err();
            assert_eq!(error.exit_code(), exit::USAGE, "{wrong:?}");
            assert!(wrong.is_empty() || !error.to_string().contains(wrong));
        }
    }

    #[test]
    fn the_key_is_read_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(key_of(&path).unwrap_err().exit_code(), exit::LOCAL);
        fs::write(&path, "wm_1\n").unwrap();
        assert_eq!(key_of(&path).unwrap(), "wm_1\n");
        fs::write(&path, vec![b'a'; 5000]).unwrap();
        assert_eq!(key_of(&path).unwrap_err().exit_code(), exit::USAGE);
    }
}
