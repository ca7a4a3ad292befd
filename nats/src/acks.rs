//! Checks whether the broker accepts acknowledgements.
//!
//! An acknowledgement is fire and forget: if the broker refuses it, because the role lacks the
//! right for its subject, or never receives it, the only trace is a message that is delivered
//! again. So a few acknowledgements ask for an answer: the first one after each (re)connection, and
//! then at most one per second and queue. No delivery waits for the answer; [`AckCheckReceiver`]
//! does, beside them. nats-server answers every acknowledgement that it processes, also a repeated
//! one.

mod check;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, AckKind};
use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use self::check::Check;
use crate::Error;
use crate::connect::{Broker, Connection};
use crate::topology::{JOBS, WEBHOOKS};

/// The beginning of every acknowledgement subject. The broker's error for a refused one names it.
const ACK_SUBJECT: &str = "$JS.ACK.";
/// The cause of a failed check if the broker sent no error.
const NO_ANSWER: &str = "no answer";

/// A queue whose messages are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueKind {
    /// The jobs of both lanes.
    Jobs,
    /// The orders to deliver webhooks.
    Webhooks,
}

impl QueueKind {
    /// All queues.
    pub const ALL: [Self; 2] = [Self::Jobs, Self::Webhooks];

    /// Returns the name.
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

/// How a check ended.
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

    /// Returns the name.
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
pub struct Unconfirmed {
    queue: QueueKind,
    /// The cause that the broker reported, if any.
    cause: Option<String>,
}

impl fmt::Display for Unconfirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = self.queue.stream();
        let cause = self.cause.as_deref().unwrap_or(NO_ANSWER);
        write!(
            f,
            "the broker does not confirm acknowledgements of {stream}, whose finished messages \
             are delivered again: {cause}; see WordmillAcknowledgementsUnconfirmed in \
             docs/operations.md"
        )
    }
}

/// Sends replies to deliveries and selects the acknowledgements that are checked. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct AckMonitor(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: Client,
    connection: watch::Receiver<Connection>,
    /// Answers come to `<inbox>.<queue>.<number of the check>`.
    inbox: String,
    checks: watch::Sender<Checks>,
}

/// The last check of each queue.
#[derive(Debug, Default)]
struct Checks {
    /// Whether [`AckCheckReceiver`] receives answers. Until then nothing is checked.
    is_watched: bool,
    jobs: Check,
    webhooks: Check,
}

impl Checks {
    fn of(&self, queue: QueueKind) -> &Check {
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
        Self(Arc::new(Shared { client, connection, inbox, checks }))
    }

    /// Sends the reply to a delivery. An acknowledgement asks for an answer if a check is due.
    ///
    /// `ack_wait` is the time after which the message is delivered again if that fails.
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
        let (connects, now) = (self.connects(), Instant::now());
        let is_due = |checks: &Checks| checks.is_watched && checks.of(queue).is_due(connects, now);
        // Nearly all acknowledgements end here, without a lock that excludes others.
        if !is_due(&self.0.checks.borrow()) {
            return None;
        }
        let mut number = None;
        self.0.checks.send_if_modified(|checks| {
            if !is_due(checks) {
                return false;
            }
            let check = checks.of_mut(queue);
            check.begin(connects, ack_wait, now);
            number = Some(check.number);
            true
        });
        number.map(|number| format!("{}.{}.{number}", self.0.inbox, queue.as_str()))
    }

    fn connects(&self) -> u64 {
        self.0.connection.borrow().connects
    }

    /// Changes the state of a check, without a notification: only [`AckCheckReceiver`] calls it.
    fn change<T>(&self, queue: QueueKind, change: impl FnOnce(&mut Check) -> T) -> Option<T> {
        let mut result = None;
        self.0.checks.send_if_modified(|checks| {
            result = Some(change(checks.of_mut(queue)));
            false
        });
        result
    }

    /// Returns the failed check that counts at present, that of jobs first.
    fn unconfirmed(&self) -> Option<Unconfirmed> {
        let (connects, now) = (self.connects(), Instant::now());
        let checks = self.0.checks.borrow();
        QueueKind::ALL.into_iter().find_map(|queue| {
            let failure = checks.of(queue).failure(connects, now)?;
            Some(Unconfirmed { queue, cause: failure.cause.clone() })
        })
    }
}

impl Broker {
    /// Returns the reason why acknowledgements are not confirmed, if the last check failed.
    ///
    /// The answer is `None` again after the next confirmed check, on another connection, and when
    /// three acknowledgement waits have passed without another failure.
    #[must_use]
    pub fn unconfirmed_acknowledgements(&self) -> Option<Unconfirmed> {
        self.acks.unconfirmed()
    }
}

/// Receives the answers to checks. Acknowledgements are checked from its opening on.
#[derive(Debug)]
pub struct AckCheckReceiver {
    broker: Broker,
    answers: Subscriber,
    checks: watch::Receiver<Checks>,
}

impl AckCheckReceiver {
    /// Subscribes to the answers.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn open(broker: &Broker) -> Result<Self, Error> {
        let monitor = &broker.acks.0;
        let answers =
            broker.client.subscribe(format!("{}.>", monitor.inbox)).await.map_err(|error| {
                Error::unavailable("subscribe to acknowledgement checks", error)
            })?;
        monitor.checks.send_modify(|checks| checks.is_watched = true);
        let checks = monitor.checks.subscribe();
        Ok(Self { broker: broker.clone(), answers, checks })
    }

    /// Waits for answers for as long as it is polled, and passes each outcome to `count`.
    pub async fn watch(mut self, count: impl Fn(QueueKind, CheckOutcome)) {
        loop {
            let deadline = self.deadline();
            let expired = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = self.answers.next() => match answer {
                    Some(answer) => self.receive(&answer, &count),
                    // The connection was closed, which its supervisor reports.
                    None => std::future::pending().await,
                },
                () = expired => self.expire(&count),
                _ = self.checks.changed() => {}
            }
        }
    }

    /// Returns when the next open check fails.
    fn deadline(&mut self) -> Option<Instant> {
        let checks = self.checks.borrow_and_update();
        QueueKind::ALL.into_iter().filter_map(|queue| checks.of(queue).deadline()).min()
    }

    fn receive(&self, answer: &Message, count: &impl Fn(QueueKind, CheckOutcome)) {
        let mut words = answer.subject.rsplit('.');
        let number = words.next().and_then(|word| word.parse::<u64>().ok());
        let name = words.next();
        let queue = QueueKind::ALL.into_iter().find(|queue| Some(queue.as_str()) == name);
        let Some((queue, number)) = queue.zip(number) else {
            debug!(subject = %answer.subject, "an unknown answer to an acknowledgement");
            return;
        };
        // An answer to an earlier check: the later one decides.
        if self.checks.borrow().of(queue).number != number {
            return;
        }
        // "No responders": the consumer is missing, or its leader is away.
        if let Some(status) = answer.status {
            self.fail(
                queue,
                Some(format!("no consumer receives acknowledgements (status {status})")),
                count,
            );
            return;
        }
        let confirmed = self.broker.acks.change(queue, Check::confirm);
        if confirmed.as_ref().is_some_and(|confirmed| confirmed.is_in_time) {
            count(queue, CheckOutcome::Confirmed);
        }
        if confirmed.is_some_and(|confirmed| confirmed.ends_failure) {
            info!(queue = queue.as_str(), "the broker confirms acknowledgements again");
        }
    }

    /// Fails the checks whose deadline has passed.
    fn expire(&self, count: &impl Fn(QueueKind, CheckOutcome)) {
        let now = Instant::now();
        for queue in QueueKind::ALL {
            let deadline = self.checks.borrow().of(queue).deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                // The last error may be about something else.
                let name = format!(".{}.", queue.stream());
                let is_ours = |error: &String| error.contains(ACK_SUBJECT) && error.contains(&name);
                self.fail(queue, self.broker.last_error().filter(is_ours), count);
            }
        }
    }

    fn fail(
        &self,
        queue: QueueKind,
        cause: Option<String>,
        count: &impl Fn(QueueKind, CheckOutcome),
    ) {
        let now = Instant::now();
        let connects = self.broker.is_connected().then(|| self.broker.connects());
        let was_failing = connects.is_some_and(|connects| {
            self.checks.borrow().of(queue).failure(connects, now).is_some()
        });
        let reported = cause.clone().unwrap_or_else(|| NO_ANSWER.to_owned());
        let has_failed = self.broker.acks.change(queue, |check| check.fail(connects, cause, now));
        if has_failed != Some(true) {
            return;
        }
        count(queue, CheckOutcome::Unconfirmed);
        if !was_failing {
            warn!(
                queue = queue.as_str(),
                cause = reported,
                "the broker does not confirm acknowledgements: finished messages stay in the queue \
                 and are delivered again; check the rights of this role on $JS.ACK"
            );
        }
    }
}
