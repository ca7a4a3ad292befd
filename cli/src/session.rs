//! State of one invocation: client, messages on standard error, and exit code.

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

/// Environment variable with the API key. Used without `--key-file`.
const KEY_VARIABLE: &str = "WORDMILL_API_KEY";
/// Environment variable with the path of a file with the API key. Used without `--key-file`.
const KEY_FILE_VARIABLE: &str = "WORDMILL_API_KEY_FILE";
/// Maximum size of a key file in bytes.
const KEY_BYTES_MAX: u64 = 4096;
/// Maximum number of ids in the printed `wordmill wait` command.
const LISTED_IDS_MAX: usize = 20;

/// State of one invocation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) progress: Progress,
    /// Ids of accepted jobs that are not known to be final.
    unfinished_jobs: RefCell<Vec<String>>,
    exit_code: Cell<u8>,
}

impl Session {
    /// Reads the API key and creates the client. Sends no request.
    ///
    /// # Errors
    /// [`Error::File`] if the key cannot be read, [`Error::Usage`] if it is not a valid key.
    pub(crate) fn open(arguments: &ServerArguments) -> Result<Self, Error> {
        let key = match &arguments.key_file {
            Some(path) => Some(read_key_file(path)?),
            None => read_key_variables()?,
        };
        let key = key.as_deref().map(|key| bearer_header(key.trim())).transpose()?;
        let url = arguments.server.clone();
        let client = Client::new(Server { url, key, retry_time: arguments.retry_time })?;
        let is_dumb = env_variable("TERM").is_some_and(|kind| kind == "dumb");
        Ok(Self {
            client,
            progress: Progress::new(is_dumb),
            unfinished_jobs: RefCell::default(),
            exit_code: Cell::new(exit::OK),
        })
    }

    /// Opens the output. Called before any request, so that no job is submitted if the output
    /// cannot be written.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn open_output(&self, arguments: &PrintArguments) -> Result<Output<'_>, Error> {
        Output::open(&self.progress, arguments.output.as_deref())
    }

    /// Prints a message on standard error.
    pub(crate) fn print_message(&self, text: &str) {
        self.progress.clear();
        print_error(text);
    }

    /// Prints the error of one source or id, and raises the exit code.
    pub(crate) fn report_error(&self, name: &str, error: &Error) {
        // The messages of these errors contain the name of the file.
        if matches!(error, Error::File { .. } | Error::LimitExceeded(_)) {
            self.print_message(&error.to_string());
        } else {
            self.print_message(&format!("{name}: {error}"));
        }
        self.raise_exit_code(error.exit_code());
    }

    /// Sets the exit code, unless a higher one is set already.
    pub(crate) fn raise_exit_code(&self, code: u8) {
        self.exit_code.set(self.exit_code.get().max(code));
    }

    /// Returns the exit code so far.
    pub(crate) fn exit_code(&self) -> u8 {
        self.exit_code.get()
    }

    /// Adds an unfinished job, for [`Self::print_unfinished_jobs`].
    pub(crate) fn add_unfinished_job(&self, job_id: &str) {
        self.unfinished_jobs.borrow_mut().push(job_id.to_owned());
    }

    /// Removes a job that is final.
    pub(crate) fn remove_unfinished_job(&self, job_id: &str) {
        self.unfinished_jobs.borrow_mut().retain(|unfinished| unfinished != job_id);
    }

    /// Prints the command that waits for the unfinished jobs.
    pub(crate) fn print_unfinished_jobs(&self) {
        let job_ids = self.unfinished_jobs.borrow();
        if job_ids.is_empty() {
            return;
        }
        let ids: Vec<String> =
            job_ids.iter().take(LISTED_IDS_MAX).map(|id| replace_control_chars(id)).collect();
        let verb = if job_ids.len() == 1 { "continues" } else { "continue" };
        let mut text =
            format!("{} {verb}; to wait for the results:", pluralize(job_ids.len(), "job"));
        text += &format!("\n  wordmill wait {}", ids.join(" "));
        if job_ids.len() > LISTED_IDS_MAX {
            text +=
                &format!("\nand {} more: see \"wordmill list\"", job_ids.len() - LISTED_IDS_MAX);
        }
        self.progress.clear();
        print_line(&text);
    }
}

/// Prints a message in one line on standard error.
pub(crate) fn print_error(text: &str) {
    print_line(&replace_control_chars(text));
}

fn print_line(text: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "wordmill: {text}");
}

/// Returns an environment variable. An empty one is treated as unset.
fn env_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Reads the API key from the environment; returns `None` if neither variable is set.
fn read_key_variables() -> Result<Option<String>, Error> {
    match (env_variable(KEY_VARIABLE), env_variable(KEY_FILE_VARIABLE)) {
        (Some(_), Some(_)) => Err(Error::Usage(format!(
            "{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set: set only one of them, or use \
             --key-file"
        ))),
        (Some(key), None) => Ok(Some(key.to_string_lossy().into_owned())),
        (None, Some(path)) => read_key_file(Path::new(&path)).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_key_file(path: &Path) -> Result<String, Error> {
    let cannot = || Error::file(format!("cannot read the key in {}", path.display()));
    let metadata = fs::metadata(path).map_err(cannot())?;
    if metadata.is_file() && metadata.len() > KEY_BYTES_MAX {
        return Err(Error::Usage(format!("{} is too large for an API key", path.display())));
    }
    fs::read_to_string(path).map_err(cannot())
}

fn bearer_header(key: &str) -> Result<HeaderValue, Error> {
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {key}")).ok().filter(|_| is_key);
    // The message must not contain the value, which may be a secret.
    let mut value = value.ok_or_else(|| {
        Error::Usage(format!(
            "the key in the key file or in {KEY_VARIABLE} is not a valid API key (wm_…)"
        ))
    })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_must_be_visible_ascii_and_is_never_shown() {
        assert_eq!(bearer_header("wm_1").unwrap(), "Bearer wm_1");
        assert!(!format!("{:?}", bearer_header("wm_1")).contains("wm_1"));
        for wrong in ["", "two words", "a\nb", "ü"] {
            let error = bearer_header(wrong).unwrap_err();
            assert_eq!(error.exit_code(), exit::USAGE, "{wrong:?}");
            assert!(wrong.is_empty() || !error.to_string().contains(wrong));
        }
    }

    #[test]
    fn the_key_is_read_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(read_key_file(&path).unwrap_err().exit_code(), exit::LOCAL_ERROR);
        fs::write(&path, "wm_1\n").unwrap();
        assert_eq!(read_key_file(&path).unwrap(), "wm_1\n");
        fs::write(&path, vec![b'a'; 5000]).unwrap();
        assert_eq!(read_key_file(&path).unwrap_err().exit_code(), exit::USAGE);
    }
}
