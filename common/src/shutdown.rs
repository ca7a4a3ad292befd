//! How a service learns that it should stop.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Exit code after a second signal: what shells report for an interrupted program.
const EXIT_INTERRUPTED: i32 = 130;

/// Cancels `token` at the first SIGTERM or SIGINT and ends the process at the second.
///
/// It never returns: `main` waits for it and for the service, side by side.
pub async fn on_signals(token: CancellationToken) {
    let handlers = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = handlers else {
        error!("cannot listen to signals; the service can only be killed");
        return std::future::pending().await;
    };
    let name = next(&mut terminate, &mut interrupt).await;
    info!(signal = name, "stopping; a second signal exits at once");
    token.cancel();
    let name = next(&mut terminate, &mut interrupt).await;
    warn!(signal = name, "exiting at once");
    std::process::exit(EXIT_INTERRUPTED);
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
