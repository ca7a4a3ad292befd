//! Checks whether the broker accepts acknowledgements.
//!
//! Acknowledgements are fire-and-forget. If the broker refuses one, because the role lacks the
//! right for its subject, or never receives it, the only trace is a redelivery. So a few
//! acknowledgements request an answer: the first one after each (re)connect, and then at most one
//! per second and queue. No delivery waits for the answer; [`crate::ack_checks`] receives it.
//! nats-server answers every acknowledgement that it processes, including a repeated one.

mod check;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, AckKind};
use tokio::sync::watch;
use tokio::time::Instant;

use self::check::Check;
use crate::connection::Connection;
use crate::topology::{JOBS, WEBHOOKS};

/// Prefix of every acknowledgement subject. If the broker refuses one, its error contains the
/// subject.
pub(crate) const ACK_SUBJECT: &str = "$JS.ACK.";
/// Cause of a failed check if the broker sent no error.
pub(crate) const NO_ANSWER: &str = "no answer";

/// A queue with messages to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// The jobs of both lanes.
    Jobs,
    /// The webhooks to deliver.
    Webhooks,
}

impl QueueKind {
    /// All queues.
    pub const ALL: [Self; 2] = [Self::Jobs, Self::Webhooks];

    /// Returns the name for logs, metrics and answer subjects.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Webhooks => "webhooks",
        }
    }

    /// Returns the name of its stream.
    pub(crate) fn stream(self) -> &'static str {
        match self {
            Self::Jobs => JOBS,
            Self::Webhooks => WEBHOOKS,
        }
    }
}

/// Outcome of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The broker answered: it has processed the acknowledgement.
    Confirmed,
    /// The broker reported that nothing received the acknowledgement, or sent no answer in time.
    Unconfirmed,
}

impl CheckOutcome {
    /// All outcomes.
    pub const ALL: [Self; 2] = [Self::Confirmed, Self::Unconfirmed];

    /// Returns the name for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unconfirmed => "unconfirmed",
        }
    }
}

/// A failed check: acknowledgements of this queue are refused or lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnconfirmedAcks {
    queue: QueueKind,
    /// Cause that the broker reported, if any.
    cause: Option<String>,
}

impl fmt::Display for UnconfirmedAcks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.queue.stream();
        let cause = self.cause.as_deref().unwrap_or(NO_ANSWER);
        write!(
            f,
            "the broker does not confirm acknowledgements of {stream}, so finished messages are \
             redelivered: {cause}; see WordmillAcknowledgementsUnconfirmed in \
             docs/operations.md"
        )
    }
}

/// Sends replies to deliveries and selects the acknowledgements that are checked. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct AckMonitor(Arc<MonitorState>);

#[derive(Debug)]
struct MonitorState {
    client: Client,
    connection: watch::Receiver<Connection>,
    /// Answers arrive on `<inbox>.<queue>.<number of the check>`.
    inbox: String,
    checks: watch::Sender<Checks>,
}

/// State of the last check of each queue.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// Whether [`crate::ack_checks`] receives the answers. Until then nothing is checked.
    is_watched: bool,
    jobs: Check,
    webhooks: Check,
}

impl Checks {
    pub(crate) fn of(&self, queue: QueueKind) -> &Check {
        match queue {
            QueueKind::Jobs => &self.jobs,
            QueueKind::Webhooks => &self.webhooks,
        }
    }

    fn of_mut(&mut self, queue: QueueKind) -> &mut Check {
        match queue {
            QueueKind::Jobs => &mut self.jobs,
            QueueKind::Webhooks => &mut self.webhooks,
        }
    }
}

impl AckMonitor {
    pub(crate) fn new(client: Client, connection: watch::Receiver<Connection>) -> Self {
        let inbox = client.new_inbox();
        let checks = watch::Sender::new(Checks::default());
        Self(Arc::new(MonitorState { client, connection, inbox, checks }))
    }

    /// Sends the reply to a delivery. An acknowledgement requests an answer if a check is due.
    ///
    /// `ack_wait` is the time after which the message is redelivered if the acknowledgement fails.
    pub(crate) async fn send(
        &self,
        message: &jetstream::Message,
        kind: AckKind,
        queue: QueueKind,
        ack_wait: Duration,
    ) -> Result<(), async_nats::Error> {
        let is_final = matches!(kind, AckKind::Ack);
        let answers = if is_final { self.begin(queue, ack_wait) } else { None };
        let (Some(subject), Some(answers)) = (message.reply.clone(), answers) else {
            return message.ack_with(kind).await;
        };
        Ok(self.0.client.publish_with_reply(subject, answers, kind.into()).await?)
    }

    /// Begins a check if one is due, and returns the reply subject for its answer.
    fn begin(&self, queue: QueueKind, ack_wait: Duration) -> Option<String> {
        let connection_number = self.connection_number();
        let now = Instant::now();
        let is_due =
            |checks: &Checks| checks.is_watched && checks.of(queue).is_due(connection_number, now);
        // Nearly all acknowledgements return here, after a shared lock only.
        if !is_due(&self.0.checks.borrow()) {
            return None;
        }
        let mut number = None;
        self.0.checks.send_if_modified(|checks| {
            // Test again under the exclusive lock: another task may have begun the check meanwhile.
            if !is_due(checks) {
                return false;
            }
            let check = checks.of_mut(queue);
            check.begin(connection_number, ack_wait, now);
            number = Some(check.number);
            true
        });
        number.map(|number| format!("{}.{}.{number}", self.0.inbox, queue.as_str()))
    }

    fn connection_number(&self) -> u64 {
        self.0.connection.borrow().number
    }

    /// Returns the prefix of the subjects of all answers.
    pub(crate) fn inbox(&self) -> &str {
        &self.0.inbox
    }

    /// Enables the checks, and returns a receiver of their state.
    pub(crate) fn watch(&self) -> watch::Receiver<Checks> {
        self.0.checks.send_modify(|checks| checks.is_watched = true);
        self.0.checks.subscribe()
    }

    /// Changes the state of a check without notifying receivers. Only [`crate::ack_checks`] calls
    /// it.
    pub(crate) fn change<T>(
        &self,
        queue: QueueKind,
        change: impl FnOnce(&mut Check) -> T,
    ) -> Option<T> {
        let mut result = None;
        self.0.checks.send_if_modified(|checks| {
            result = Some(change(checks.of_mut(queue)));
            false
        });
        result
    }

    /// Returns the current failure, if any; a failure of the job queue takes precedence.
    pub(crate) fn unconfirmed(&self) -> Option<UnconfirmedAcks> {
        let connection_number = self.connection_number();
        let now = Instant::now();
        let checks = self.0.checks.borrow();
        QueueKind::ALL.into_iter().find_map(|queue| {
            let failure = checks.of(queue).failure(connection_number, now)?;
            Some(UnconfirmedAcks { queue, cause: failure.cause.clone() })
        })
    }
}
