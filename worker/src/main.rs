//! The `wordmill-worker` binary: reads the settings, starts telemetry, and runs the worker service.

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use wordmill_service::env::{self, Env};
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

fn main() -> ExitCode {
    let mut env = Env::from_process();
    let config = Config::read(&mut env);
    if let Err(invalid) = env.finish() {
        return env::report("wordmill-worker", &invalid);
    }
    if std::env::args().nth(1).as_deref() == Some("healthcheck") {
        let ready = readiness_probe::connect(config.listen)
            .and_then(readiness_probe::is_ready)
            .unwrap_or(false);
        return if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let pipeline = match telemetry::start(&config.telemetry, &config.name) {
        Ok(pipeline) => pipeline,
        Err(error) => return env::report("wordmill-worker", &error),
    };
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
        "worker listens"
    );
    let stop = CancellationToken::new();
    tokio::select! {
        // Spawned, because the main thread is not a worker thread of the runtime: it would have to
        // be woken for each delivery.
        result = tokio::spawn(wordmill_worker::run(config, listener, stop.clone())) => Ok(result??),
        () = signals.stop(stop) => Ok(()),
    }
}
