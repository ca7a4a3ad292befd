//! The `wordmill-worker` binary: parses the command line, reads the settings and runs the worker.

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use wordmill_service::env;
use wordmill_service::shutdown::Signals;
use wordmill_service::{readiness_probe, telemetry};
use wordmill_worker::config::Config;

/// Allocator of release builds. Most allocations of a job are freed within a millisecond, on
/// several threads.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(not(any(feature = "jemalloc", debug_assertions)))]
compile_error!(
    "a release build needs the allocator jemalloc: add `--features jemalloc`, or run `make release`"
);

const USAGE: &str = "\
Usage: wordmill-worker [command]

Commands:
  (none)       process jobs from the queue, and deliver webhooks
  healthcheck  check whether the worker on this machine is ready: exit code 0 if it is, 1 if not
  help         show this help

Settings are environment variables: see docs/settings.md.";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints to the terminal")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => with_config(serve),
        ["healthcheck"] => with_config(check),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            env::EXIT_USAGE.into()
        }
    }
}

fn with_config(command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match env::read_settings("wordmill-worker", Config::read) {
        Ok(config) => command(config),
        Err(exit_code) => exit_code,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a command takes its settings")]
fn check(config: Config) -> ExitCode {
    let ready = readiness_probe::connect(config.listen)
        .and_then(readiness_probe::is_ready)
        .unwrap_or(false);
    if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn serve(config: Config) -> ExitCode {
    let pipeline = telemetry::start(&config.telemetry, &config.name);
    let code = match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "worker failed");
            ExitCode::FAILURE
        }
    };
    // The runtime has shut down, so all tasks and their spans have ended and can be exported.
    pipeline.finish();
    code
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    let signals = Signals::listen();
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (WORDMILL_WORKER_LISTEN)", config.listen))?;
    info!(
        address = %listener.local_addr()?,
        broker = config.broker.url,
        worker = config.name,
        slots = config.slots,
        version = env!("CARGO_PKG_VERSION"),
        "worker listening"
    );
    let stop = CancellationToken::new();
    tokio::select! {
        // Spawn the service: the main thread is not one of the runtime's worker threads, so it
        // would have to be woken for each delivery.
        result = tokio::spawn(wordmill_worker::run(config, listener, stop.clone())) => Ok(result??),
        () = signals.stop(stop) => Ok(()),
    }
}
