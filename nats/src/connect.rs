//! Connections to the broker, one per role, and the checks of the server.

mod tls;

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, ServerInfo, jetstream};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, warn};
use wordmill_common::secret::Secret;
use wordmill_service::env::Env;

pub use self::tls::Tls;
pub use crate::connection::REQUEST_TIMEOUT;

use crate::acks::AckMonitor;
use crate::connection::Connection;
use crate::topology::JOB_STATE_STREAM;

/// Interval between two checks for the server's description.
const INFO_INTERVAL: Duration = Duration::from_millis(5);
/// Interval at which the client pings the server.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of messages that a subscription buffers. Further messages are dropped.
/// Subscribers tolerate that: events are read again, and a worker requests fewer deliveries at a
/// time.
const SUBSCRIPTION_MESSAGES_MAX: usize = 256;
/// Maximum delay between two attempts to connect.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(1);
/// Minimum version of the server. It supports TTLs of delete markers, and reliable batches.
pub const SERVER_VERSION_MIN: (u32, u32) = (2, 12);

/// Role of a process. Determines its rights and the prefix of its reply subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Publishes jobs, and reads records.
    Gateway,
    /// Pulls deliveries, and writes results.
    Worker,
    /// Ends lost jobs, and removes orphaned data.
    Sweeper,
    /// Creates streams and buckets.
    Admin,
}

impl Role {
    /// Returns the name, which is also the default user name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Sweeper => "sweeper",
            Self::Admin => "admin",
        }
    }
}

/// Address of the broker, and the credentials of one role.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `WORDMILL_NATS_URL`: one or more servers, comma-separated.
    pub url: String,
    /// `WORDMILL_NATS_USER`: the default is the role's name.
    pub user: String,
    /// `WORDMILL_NATS_PASSWORD`: the password of the user.
    pub password: Secret,
    /// Certificates for TLS.
    pub tls: Tls,
    /// Role of the process.
    pub role: Role,
}

impl Settings {
    /// Reads the settings.
    pub fn read(env: &mut Env, role: Role) -> Self {
        let url = env.read("WORDMILL_NATS_URL", "nats://127.0.0.1:4222".to_owned(), |text| {
            let all_parse =
                text.split(',').all(|url| url.parse::<async_nats::ServerAddr>().is_ok());
            if all_parse {
                Ok(text.to_owned())
            } else {
                Err("must be a NATS URL such as nats://127.0.0.1:4222".to_owned())
            }
        });
        let user = env.text("WORDMILL_NATS_USER", role.as_str());
        let password = env.secret("WORDMILL_NATS_PASSWORD");
        Self { url, user, password, tls: Tls::read(env), role }
    }

    /// Reads the sweeper's credentials for the process of these settings; returns `None` without a
    /// password. The other settings are the same.
    #[must_use]
    pub fn read_sweeper(&self, env: &mut Env) -> Option<Self> {
        let role = Role::Sweeper;
        let user = env.text("WORDMILL_NATS_SWEEPER_USER", role.as_str());
        let password = env.secret("WORDMILL_NATS_SWEEPER_PASSWORD");
        let is_given = !password.expose().is_empty();
        is_given.then(|| Self { user, password, role, ..self.clone() })
    }
}

/// Reason why a connection cannot be made or kept.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings are invalid.
    #[error("cannot connect to {url}: {reason}")]
    Settings {
        /// Configured address.
        url: String,
        /// Reason why the settings are invalid.
        reason: String,
    },
    /// The server is older than [`SERVER_VERSION_MIN`].
    #[error(
        "nats-server {version} is too old: Wordmill needs {}.{} or newer",
        SERVER_VERSION_MIN.0,
        SERVER_VERSION_MIN.1
    )]
    TooOld {
        /// Version of the server.
        version: String,
    },
    /// JetStream is not enabled on the server.
    #[error(
        "nats-server at {url} runs without JetStream: start it with nats/server.conf or --jetstream"
    )]
    NoJetStream {
        /// Configured address.
        url: String,
    },
    /// The client has closed the connection for good.
    #[error("the connection to the broker was closed: {reason}")]
    Closed {
        /// Last error that the client reported.
        reason: String,
    },
}

/// A connection to the broker. Clones share it.
#[derive(Debug, Clone)]
pub struct Broker {
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) acks: AckMonitor,
    pub(crate) events: watch::Receiver<Connection>,
    url: String,
}

impl Broker {
    /// Starts to connect in the background, and keeps trying: an unreachable broker is not an
    /// error.
    ///
    /// # Errors
    /// [`ConnectError::Settings`] if the address is invalid, or a certificate cannot be used.
    pub async fn start(settings: &Settings, name: &str) -> Result<Self, ConnectError> {
        let (sender, events) = watch::channel(Connection::default());
        let role = settings.role.as_str();
        let error_hint = settings.tls.error_hint(&settings.url);
        let options = ConnectOptions::new()
            .name(name)
            .user_and_password(settings.user.clone(), settings.password.expose().to_owned())
            .custom_inbox_prefix(format!("_INBOX_{role}"))
            .retry_on_initial_connect()
            .ping_interval(PING_INTERVAL)
            .request_timeout(Some(REQUEST_TIMEOUT))
            .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
            .reconnect_delay_callback(|attempt| {
                let ms = 50_u64.saturating_mul(u64::try_from(attempt).unwrap_or(u64::MAX));
                Duration::from_millis(ms).min(RECONNECT_DELAY_MAX)
            })
            .event_callback(move |event| {
                record_event(&sender, event, error_hint);
                std::future::ready(())
            });
        let invalid = |reason| ConnectError::Settings { url: settings.url.clone(), reason };
        let options = settings.tls.apply(options).map_err(invalid)?;
        let servers: Vec<&str> = settings.url.split(',').collect();
        let client = options.connect(servers).await.map_err(|error| invalid(error.to_string()))?;
        let jetstream =
            jetstream::ContextBuilder::new().timeout(REQUEST_TIMEOUT).build(client.clone());
        let acks = AckMonitor::new(client.clone(), events.clone());
        Ok(Self { client, jetstream, acks, events, url: settings.url.clone() })
    }

    /// Returns whether the client is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits until the number of the connection is not `number`, and returns the new number.
    pub async fn wait_for_reconnection(&self, number: u64) -> u64 {
        let mut events = self.events.clone();
        let other = events.wait_for(|connection| connection.number != number).await;
        match other.map(|connection| connection.number) {
            Ok(number) => number,
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns the number of the current or last connection, from 1; 0 before the first one.
    #[must_use]
    pub fn connection_number(&self) -> u64 {
        self.events.borrow().number
    }

    /// Returns the last error on this connection, if any.
    #[must_use]
    pub fn last_error(&self) -> Option<String> {
        self.events.borrow().last_error.clone()
    }

    /// Waits until the client is connected.
    ///
    /// # Errors
    /// [`ConnectError::Closed`] if the client has closed the connection for good.
    pub async fn wait_for_connection(&self) -> Result<(), ConnectError> {
        let mut events = self.events.clone();
        while !self.is_connected() {
            self.wait_for_change(&mut events).await?;
        }
        Ok(())
    }

    /// Checks the server's version and JetStream. Passes if the server's description does not
    /// arrive within [`REQUEST_TIMEOUT`].
    ///
    /// # Errors
    /// [`ConnectError::TooOld`] and [`ConnectError::NoJetStream`].
    pub async fn check_server(&self) -> Result<(), ConnectError> {
        let Some(info) = self.server_info().await else { return Ok(()) };
        if !is_new_enough(&info.version) {
            return Err(ConnectError::TooOld { version: info.version });
        }
        if !info.jetstream {
            return Err(ConnectError::NoJetStream { url: self.url.clone() });
        }
        Ok(())
    }

    /// Returns the server's description; `None` if it does not arrive within [`REQUEST_TIMEOUT`].
    ///
    /// The client reports its first connection shortly before it stores the description.
    async fn server_info(&self) -> Option<ServerInfo> {
        let end = Instant::now() + REQUEST_TIMEOUT;
        loop {
            match self.client.try_server_info() {
                None if Instant::now() < end => tokio::time::sleep(INFO_INTERVAL).await,
                info => return info,
            }
        }
    }

    /// Waits until the server has read everything that was sent, then drains the connection.
    ///
    /// The last acknowledgements are fire-and-forget. Only the answer to a later request on the
    /// same connection proves that the server has read them.
    pub async fn finish(&self) {
        // Any answer suffices, because the server processes a connection's messages in order.
        let subject = format!("$JS.API.DIRECT.GET.{JOB_STATE_STREAM}");
        let barrier = self.client.request(subject, "{\"seq\":1}".into());
        if tokio::time::timeout(REQUEST_TIMEOUT, barrier).await.is_err() {
            warn!(
                "the broker did not confirm the last acknowledgements; their messages may be \
                 redelivered"
            );
        }
        if let Err(error) = self.client.drain().await {
            warn!(%error, "cannot drain the connection to the broker");
        }
    }

    /// Waits for the next change of the connection.
    ///
    /// # Errors
    /// [`ConnectError::Closed`].
    pub(crate) async fn wait_for_change(
        &self,
        events: &mut watch::Receiver<Connection>,
    ) -> Result<(), ConnectError> {
        let alive = events.changed().await.is_ok();
        let last = events.borrow().clone();
        if alive && !last.is_closed {
            return Ok(());
        }
        let reason = last.last_error.unwrap_or_else(|| "no reason was given".to_owned());
        Err(ConnectError::Closed { reason })
    }
}

/// Records an event of the client.
fn record_event(connection: &watch::Sender<Connection>, event: Event, error_hint: &str) {
    connection.send_modify(|connection| {
        match event {
            Event::Connected => {
                connection.number = connection.number.wrapping_add(1);
                connection.last_error = None;
            }
            Event::Closed => connection.is_closed = true,
            // A denied request times out for its sender. Only this event contains the reason.
            Event::ServerError(reason) => {
                error!(%reason, "the broker reported an error");
                connection.last_error = Some(reason.to_string());
            }
            Event::ClientError(reason) => {
                connection.last_error = Some(format!("{reason}{error_hint}"));
            }
            Event::SlowConsumer(subscription) => {
                warn!(subscription, "dropped messages of a subscription whose buffer is full");
            }
            Event::Disconnected | Event::LameDuckMode | Event::Draining => {}
        }
    });
}

fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version >= SERVER_VERSION_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for good in ["2.12.0", "2.15.1", "2.100.0", "3.0.0", "2.12.0-RC.1"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["2.9.25", "2.11.9", "1.4.1", "", "dev"] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }
}
