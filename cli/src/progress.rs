//! Progress line on standard error, shown only on a terminal.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::text::{format_number, format_size, truncate};

/// Interval between two updates of the line.
const INTERVAL: Duration = Duration::from_millis(100);
/// Length of the bar in characters.
const BAR_CHARS: u64 = 24;
/// Width of a terminal that does not report its size.
const TERMINAL_COLUMNS_DEFAULT: u16 = 80;
/// Escape sequence that clears the line and moves the cursor to its start.
const CLEAR: &str = "\r\x1b[K";

/// Progress of the current activity.
#[derive(Debug)]
pub(crate) struct Progress {
    is_shown: bool,
    /// Bytes of documents that have been sent.
    pub(crate) sent_bytes: Arc<AtomicU64>,
    state: RefCell<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    activity: &'static str,
    done: u64,
    all: u64,
    /// Total number of bytes to send; 0 if unknown.
    all_bytes: u64,
    /// Progress of a single job. Used if `all` is 1.
    job_thousandths: Option<u64>,
    is_drawn: bool,
}

impl Progress {
    /// Creates the progress line. It is shown if standard error is a terminal, unless `is_dumb`
    /// (`TERM=dumb`).
    pub(crate) fn new(is_dumb: bool) -> Self {
        Self {
            is_shown: !is_dumb && io::stderr().is_terminal(),
            sent_bytes: Arc::default(),
            state: RefCell::default(),
        }
    }

    /// Starts an activity with `all` steps and `all_bytes` bytes to send.
    pub(crate) fn begin(&self, activity: &'static str, all: usize, all_bytes: u64) {
        let all = u64::try_from(all).unwrap_or(u64::MAX);
        let is_drawn = self.state.borrow().is_drawn;
        *self.state.borrow_mut() = State { activity, all, all_bytes, is_drawn, ..State::default() };
    }

    /// Counts a completed step.
    pub(crate) fn step(&self) {
        self.state.borrow_mut().done += 1;
    }

    /// Sets the progress of a single job in thousandths.
    pub(crate) fn set_job_progress(&self, thousandths: Option<u64>) {
        self.state.borrow_mut().job_thousandths = thousandths;
    }

    /// Runs a future to completion, and updates the line at intervals.
    pub(crate) async fn show_during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    self.clear();
                    return done;
                }
                () = tokio::time::sleep(INTERVAL), if self.is_shown => self.draw(),
            }
        }
    }

    /// Removes the line. It is not drawn again before the next activity starts.
    pub(crate) fn end(&self) {
        self.clear();
        self.state.borrow_mut().all = 0;
    }

    /// Removes the line, so that other output can be printed. The next update draws it again.
    pub(crate) fn clear(&self) {
        if std::mem::take(&mut self.state.borrow_mut().is_drawn) {
            write(CLEAR);
        }
    }

    fn draw(&self) {
        let mut state = self.state.borrow_mut();
        if state.all == 0 {
            return;
        }
        let columns = rustix::termios::tcgetwinsize(io::stderr())
            .map_or(TERMINAL_COLUMNS_DEFAULT, |size| size.ws_col);
        let columns = if columns == 0 { TERMINAL_COLUMNS_DEFAULT } else { columns };
        let line = state.line(self.sent_bytes.load(Ordering::Relaxed));
        write(&format!("{CLEAR}{}", truncate(&line, usize::from(columns).saturating_sub(1))));
        state.is_drawn = true;
    }
}

impl State {
    fn line(&self, sent_bytes: u64) -> String {
        let steps = self.done.saturating_mul(1000) / self.all.max(1);
        let thousandths = match (self.job_thousandths, self.all_bytes) {
            (Some(thousandths), _) if self.all == 1 => thousandths,
            (_, 0) => steps,
            (_, all_bytes) => sent_bytes.min(all_bytes).saturating_mul(1000) / all_bytes,
        };
        let full = usize::try_from(thousandths * BAR_CHARS / 1000).unwrap_or(0);
        let empty = usize::try_from(BAR_CHARS).unwrap_or(0).saturating_sub(full);
        let bar = format!("{}{}", "#".repeat(full), "-".repeat(empty));
        let mut line = format!("{} [{bar}] {:>3} %", self.activity, thousandths / 10);
        if self.all > 1 {
            line += &format!("  {} of {}", format_number(self.done), format_number(self.all));
        }
        if self.all_bytes > 0 {
            line += &format!("  {} of {}", format_size(sent_bytes), format_size(self.all_bytes));
        }
        line
    }
}

fn write(text: &str) {
    let mut err = io::stderr().lock();
    // Errors are ignored: the line is only a convenience.
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_shows_the_progress() {
        let state = |done, all, all_bytes, job_thousandths| State {
            activity: "counting",
            done,
            all,
            all_bytes,
            job_thousandths,
            is_drawn: false,
        };
        for (state, sent_bytes, line) in [
            (state(0, 1, 0, None), 0, "counting [------------------------]   0 %"),
            (state(0, 1, 0, Some(455)), 0, "counting [##########--------------]  45 %"),
            (
                state(412, 1000, 0, None),
                0,
                "counting [#########---------------]  41 %  412 of 1,000",
            ),
            (
                state(1, 2, 4000, None),
                3000,
                "counting [##################------]  75 %  1 of 2  3.0 kB of 4.0 kB",
            ),
            (
                state(2, 2, 10, None),
                99,
                "counting [########################] 100 %  2 of 2  99 B of 10 B",
            ),
        ] {
            assert_eq!(state.line(sent_bytes), line);
        }
    }
}
