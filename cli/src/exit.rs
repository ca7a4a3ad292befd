//! Exit codes.

/// Success, even if the reader of the output, for example `head`, closed the pipe early.
pub(crate) const OK: u8 = 0;
/// A job failed or was cancelled.
pub(crate) const JOB_FAILED: u8 = 1;
/// The command line is invalid.
pub(crate) const USAGE: u8 = 2;
/// The server cannot be reached, or returned 5xx until `--retry-time` expired.
pub(crate) const UNAVAILABLE: u8 = 3;
/// The server refused a request (4xx).
pub(crate) const REQUEST_REFUSED: u8 = 4;
/// A local file cannot be read or written.
pub(crate) const LOCAL_ERROR: u8 = 5;
/// The time limit (`--timeout`) was reached. Submitted jobs continue.
pub(crate) const TIMED_OUT: u8 = 124;
/// Interrupted by Ctrl-C. Submitted jobs continue.
pub(crate) const INTERRUPTED: u8 = 130;
/// Terminated by SIGTERM. Submitted jobs continue.
pub(crate) const TERMINATED: u8 = 143;

/// Table of exit codes in `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  success
    1  a job failed or was cancelled
    2  invalid command line
    3  the server cannot be reached, or returned 5xx until --retry-time expired
    4  the server refused a request (4xx); docs/errors.md explains the codes
    5  a local file cannot be read or written
  124  time limit reached (--timeout); submitted jobs continue
  130  interrupted (Ctrl-C), 143 terminated; submitted jobs continue
With several sources or ids, the highest code that applies is returned.";
