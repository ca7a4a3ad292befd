//! Watches the connection for as long as a service runs, and reports whether the service is ready.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::connect::{Broker, ConnectError};
use crate::provision;
use crate::topology::Topology;

/// Interval between two checks for missing streams and consumers.
const VERIFY_INTERVAL: Duration = Duration::from_secs(1);

/// Health of the connection, and of the streams and consumers that the service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Connected, and everything that the service needs exists.
    Ready,
    /// Not ready, with the reason. The service keeps trying.
    Waiting(String),
}

impl Health {
    /// Returns the health of a service that has not been connected since its start.
    #[must_use]
    pub fn not_connected_yet() -> Self {
        Self::Waiting("no connection to the broker yet".to_owned())
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => f.write_str("ready"),
            Self::Waiting(reason) => f.write_str(reason),
        }
    }
}

impl Broker {
    /// Watches the connection for as long as the service runs: checks the server and `needed` after
    /// every (re)connect, and publishes the result to `health`.
    ///
    /// # Errors
    /// Only errors that waiting cannot resolve: see [`ConnectError`].
    pub async fn supervise(
        &self,
        needed: &Topology,
        health: &watch::Sender<Health>,
    ) -> Result<(), ConnectError> {
        let mut events = self.events.clone();
        loop {
            let event = events.borrow_and_update().clone();
            if !self.is_connected() {
                let lost =
                    |reason| Health::Waiting(format!("no connection to the broker: {reason}"));
                set_health(health, event.last_error.map_or_else(Health::not_connected_yet, lost));
                self.wait_for_change(&mut events).await?;
                continue;
            }
            self.check_server().await?;
            match provision::verify(self, needed).await {
                Ok(()) => {
                    set_health(health, Health::Ready);
                    self.wait_for_change(&mut events).await?;
                }
                Err(missing) => {
                    set_health(health, Health::Waiting(missing.to_string()));
                    tokio::select! {
                        changed = self.wait_for_change(&mut events) => changed?,
                        () = tokio::time::sleep(VERIFY_INTERVAL) => {}
                    }
                }
            }
        }
    }
}

/// Sets the health, and logs it once per change.
fn set_health(health: &watch::Sender<Health>, now: Health) {
    let changed = health.send_if_modified(|last| {
        let differs = *last != now;
        last.clone_from(&now);
        differs
    });
    match now {
        Health::Ready if changed => info!("broker ready"),
        Health::Waiting(reason) if changed => warn!(reason, "waiting for the broker"),
        Health::Ready | Health::Waiting(_) => {}
    }
}
