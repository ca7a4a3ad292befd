//! Receives the broker's answers to checked acknowledgements.

use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::Error;
use crate::acks::{ACK_SUBJECT, CheckOutcome, Checks, NO_ANSWER, QueueKind, UnconfirmedAcks};
use crate::connect::Broker;

impl Broker {
    /// Returns the reason why acknowledgements are not confirmed, if the last check failed.
    ///
    /// Returns `None` again after the next confirmed check, on a new connection, or when three ack
    /// waits have passed without another failure.
    #[must_use]
    pub fn unconfirmed_acknowledgements(&self) -> Option<UnconfirmedAcks> {
        self.acks.unconfirmed()
    }
}

/// Receiver of the answers to checks. Acknowledgements are checked once it has been opened.
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
        let subject = format!("{}.>", broker.acks.inbox());
        let answers =
            broker.client.subscribe(subject).await.map_err(|error| {
                Error::unavailable("subscribe to acknowledgement checks", error)
            })?;
        let checks = broker.acks.watch();
        Ok(Self { broker: broker.clone(), answers, checks })
    }

    /// Receives answers for as long as it is polled, and passes each outcome to `count`.
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
                    // The connection was closed; its supervisor reports that.
                    None => std::future::pending().await,
                },
                () = expired => self.expire(&count),
                // A check has begun, so the next deadline may have changed.
                _ = self.checks.changed() => {}
            }
        }
    }

    /// Returns the time at which the next open check fails.
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
            debug!(subject = %answer.subject, "unexpected answer to an acknowledgement check");
            return;
        };
        // An answer to an earlier check. Only the last one counts.
        if self.checks.borrow().of(queue).number != number {
            return;
        }
        // For example 503 (no responders): the consumer is missing or has no leader.
        if let Some(status) = answer.status {
            self.fail(
                queue,
                Some(format!("no consumer receives acknowledgements (status {status})")),
                count,
            );
            return;
        }
        let confirmed = self.broker.acks.change(queue, |check| check.confirm());
        if confirmed.as_ref().is_some_and(|confirmed| confirmed.is_in_time) {
            count(queue, CheckOutcome::Confirmed);
        }
        if confirmed.is_some_and(|confirmed| confirmed.ends_failure) {
            info!(queue = queue.as_str(), "the broker confirms acknowledgements again");
        }
    }

    /// Fails the open checks with an expired deadline.
    fn expire(&self, count: &impl Fn(QueueKind, CheckOutcome)) {
        let now = Instant::now();
        for queue in QueueKind::ALL {
            let deadline = self.checks.borrow().of(queue).deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                // The last error may concern something else.
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
        let connection_number = self.broker.is_connected().then(|| self.broker.connection_number());
        let was_failing = connection_number.is_some_and(|connection_number| {
            self.checks.borrow().of(queue).failure(connection_number, now).is_some()
        });
        let reported = cause.clone().unwrap_or_else(|| NO_ANSWER.to_owned());
        let has_failed =
            self.broker.acks.change(queue, |check| check.fail(connection_number, cause, now));
        if has_failed != Some(true) {
            return;
        }
        count(queue, CheckOutcome::Unconfirmed);
        if !was_failing {
            warn!(
                queue = queue.as_str(),
                cause = reported,
                "the broker does not confirm acknowledgements; finished messages stay in the queue \
                 and are redelivered: check the rights of this role on $JS.ACK"
            );
        }
    }
}
