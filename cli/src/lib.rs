//! The command `wordmill`: counts files, folders, web pages and standard input, and manages jobs,
//! from a terminal or a script.
//!
//! It uses the public HTTP API only, and depends on no other crate of this workspace. [`main`] is
//! the entry point, `arguments` defines the command line, and each action has a module.

mod arguments;
mod batch;
mod body;
mod client;
mod count;
mod csv;
mod dead_letters;
mod error;
mod exit;
mod explain;
mod follow;
mod job;
mod jobs;
mod json;
mod out;
mod progress;
mod queue;
mod report;
mod request;
mod retry;
mod row;
mod session;
mod source;
mod submit;
mod table;
mod text;
mod warning;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use clap_complete::Shell;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Action, Arguments};
use crate::error::Error;
use crate::out::Output;
use crate::progress::Progress;
use crate::session::{Session, print_error};

/// Parses the command line, runs the action, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Action::Completions { shell } = arguments.action {
        return ExitCode::from(report_result(print_completions(shell)));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print_error(&format!("cannot start: {error}"));
            return ExitCode::from(exit::LOCAL_ERROR);
        }
    };
    let code = runtime.block_on(run(arguments));
    // Does not wait for blocking threads: one may still be reading from a pipe.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// End of a session: the action completed, or a signal or the time limit stopped it.
enum Ending {
    Completed(Result<(), Error>),
    Stopped(&'static str, u8),
}

async fn run(arguments: Arguments) -> u8 {
    let session = match Session::open(&arguments.server) {
        Ok(session) => session,
        Err(error) => return report_result(Err(error)),
    };
    let timeout = arguments.server.timeout;
    let ending = tokio::select! {
        // A signal or the time limit wins, even if the action finishes at the same time.
        biased;
        stopped = wait_for_signal() => stopped,
        () = wait_for_timeout(timeout) => {
            Ending::Stopped("time limit reached (--timeout)", exit::TIMED_OUT)
        }
        result = session.progress.show_during(run_action(&session, arguments.action)) => {
            Ending::Completed(result)
        }
    };
    session.progress.clear();
    let code = match ending {
        Ending::Completed(result) => report_result(result),
        Ending::Stopped(reason, code) => {
            print_error(reason);
            code
        }
    };
    if code != exit::OK {
        session.print_unfinished_jobs();
    }
    code.max(session.exit_code())
}

async fn run_action(session: &Session, action: Action) -> Result<(), Error> {
    match action {
        Action::Count(arguments) => count::run(session, arguments).await,
        Action::Status(arguments) => jobs::status(session, arguments).await,
        Action::Wait(arguments) => jobs::wait(session, arguments).await,
        Action::Result(arguments) => jobs::result(session, arguments).await,
        Action::Explain(arguments) => explain::run(session, arguments).await,
        Action::Cancel(arguments) => jobs::cancel(session, arguments).await,
        Action::Retry(arguments) => jobs::retry(session, arguments).await,
        Action::Delete(arguments) => jobs::delete(session, arguments).await,
        Action::List(arguments) => jobs::list(session, arguments).await,
        Action::Queue(arguments) => queue::run(session, arguments).await,
        Action::DeadLetters(action) => dead_letters::run(session, action).await,
        Action::Completions { shell } => print_completions(shell),
    }
}

/// Prints the error, if there is one, and returns the exit code.
fn report_result(result: Result<(), Error>) -> u8 {
    match result {
        Ok(()) => exit::OK,
        Err(Error::ClosedPipe) => Error::ClosedPipe.exit_code(),
        Err(error) => {
            print_error(&error.to_string());
            error.exit_code()
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn wait_for_signal() -> Ending {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        // The default action still ends the process for a signal whose handler could not be
        // installed.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => Ending::Stopped("interrupted", exit::INTERRUPTED),
        _ = terminate.recv() => Ending::Stopped("terminated", exit::TERMINATED),
    }
}

async fn wait_for_timeout(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn print_completions(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "wordmill", &mut script);
    let progress = Progress::new(true);
    let mut out = Output::open(&progress, None)?;
    out.bytes(&script)?;
    out.finish()
}
