//! Graceful shutdown on SIGTERM and SIGINT.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Exit code after a second signal: the one that shells use for SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

/// Handlers of SIGTERM and SIGINT. They replace the default action, which terminates the process.
#[derive(Debug)]
pub struct Signals(Option<[Signal; 2]>);

impl Signals {
    /// Installs the handlers. Call it first in a Tokio runtime, so that no signal is missed.
    #[must_use]
    pub fn listen() -> Self {
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => Self(Some([terminate, interrupt])),
            (Err(error), _) | (_, Err(error)) => {
                error!(
                    %error,
                    "cannot install handlers for SIGTERM and SIGINT; the service cannot shut down \
                     gracefully"
                );
                Self(None)
            }
        }
    }

    /// Cancels `token` at the first signal, and exits the process at the second one.
    ///
    /// It never returns, so `main` must run it concurrently with the service.
    pub async fn stop(self, token: CancellationToken) {
        let Some([mut terminate, mut interrupt]) = self.0 else {
            return std::future::pending().await;
        };
        let name = next_signal(&mut terminate, &mut interrupt).await;
        info!(signal = name, "shutting down; a second signal exits immediately");
        token.cancel();
        let name = next_signal(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "exiting immediately");
        std::process::exit(EXIT_INTERRUPTED);
    }
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
