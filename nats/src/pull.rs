//! Pulls deliveries from the consumer of a lane or of the webhooks.
//!
//! A worker opens one [`Pull`] per consumer. Each has one subscription and at most one open
//! request, for exactly the number of messages that the worker has room for. The subscription
//! outlives the requests: request number `n` has the reply subject `<inbox>.<n>`. Deliveries are
//! accepted for any request, but status messages only for the open one.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::{StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::time::Instant;
use tracing::debug;

use crate::Error;
use crate::connect::{Broker, REQUEST_TIMEOUT};
use crate::delivery::{Delivery, PullSource};
use crate::stream_read::consumer_info;
use crate::subject;
use crate::topology::JOB_STATE_STREAM;

/// Lifetime of a request that waits while the source is empty.
pub const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Lifetime of a request to a busy source. Messages that arrive within this time need no further
/// request.
const PULL_LINGER: Duration = Duration::from_millis(10);
/// Interval of the server's heartbeats for a waiting request.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);
/// Maximum time without a message until a waiting request is considered lost, for example because
/// another server became the leader: two heartbeats and a margin.
const PULL_SILENCE_MAX: Duration = Duration::from_secs(11);
/// Maximum silence for a lingering request, which the server answers after [`PULL_LINGER`] at the
/// latest.
const LINGER_SILENCE_MAX: Duration = Duration::from_secs(2);

/// Number of messages after which a subscription ends. Larger than the number that may still be in
/// flight, which is one delivery and one heartbeat for an idle lane.
const END_ANSWERS_MAX: u64 = 4;
/// Request number of the messages that end a subscription. Real requests count from 1.
const END_REQUEST_NUMBER: u64 = 0;

/// Outcome of [`Pull::next`].
#[derive(Debug)]
pub enum PullEvent {
    /// A delivery.
    Delivery(Box<Delivery>),
    /// Heartbeat: the open request is still pending on the server, without a message for it.
    Heartbeat,
    /// The open request was answered in full or has expired. Send the next one.
    Done,
}

/// The deliveries of one source. At most one request is open at a time.
#[derive(Debug)]
pub struct Pull {
    broker: Broker,
    source: PullSource,
    /// Ack wait of the consumer, read from the broker when the pull was opened.
    ack_wait: Duration,
    subscriber: Subscriber,
    inbox: String,
    /// Number of the open request, `n` in its reply subject `<inbox>.<n>`.
    request_number: u64,
    /// Number of deliveries that can still arrive for the open request, including late ones.
    open_messages: usize,
    /// Whether the open request waits while the source is empty ([`WhenEmpty::Wait`]).
    is_waiting: bool,
    /// Deliveries for an earlier, abandoned request that arrived before the open one was sent.
    late_deliveries: VecDeque<Delivery>,
    /// Number of messages received on this subscription, including status messages.
    received: u64,
    /// Time of the last message from the server, or of the request if that is later.
    last_message_at: Instant,
    /// Number of the connection on which the subscription was made.
    subscribed_on: u64,
    /// Number of the connection on which the open request was sent. The server drops requests with
    /// their connection.
    requested_on: u64,
}

/// Payload of a pull request. Durations are in nanoseconds, as the JetStream API requires.
#[derive(Debug, Serialize)]
struct PullRequest {
    batch: usize,
    expires: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_heartbeat: Option<u128>,
}

/// Lifetime of a request while the source is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    /// For [`PULL_EXPIRES`], with heartbeats.
    Wait,
    /// For 10 ms, without heartbeats.
    Linger,
}

impl Pull {
    /// Subscribes to the deliveries of a source. Requests none yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the consumer does not exist or the broker does not answer.
    pub async fn open(broker: &Broker, source: PullSource) -> Result<Self, Error> {
        let consumer: PullConsumer = broker
            .jetstream
            .get_consumer_from_stream(source.consumer(), source.queue().stream())
            .await
            .map_err(|error| Error::unavailable("read the configuration of a consumer", error))?;
        let ack_wait = consumer.cached_info().config.ack_wait;
        // Read before subscribing: if the connection changes in between, this number is outdated,
        // and the next request subscribes again. Reading it afterwards could miss a reconnect.
        let subscribed_on = broker.connection_number();
        let (inbox, subscriber) = subscribe(broker).await?;
        Ok(Self {
            broker: broker.clone(),
            source,
            ack_wait,
            subscriber,
            inbox,
            subscribed_on,
            request_number: 0,
            open_messages: 0,
            is_waiting: false,
            late_deliveries: VecDeque::new(),
            received: 0,
            last_message_at: Instant::now(),
            requested_on: subscribed_on,
        })
    }

    /// Requests up to `batch` messages, and abandons a request that is still open. Deliveries that
    /// have already arrived for an earlier request are included in `batch`: only the rest is
    /// requested.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the request could not be sent.
    pub async fn send_request(&mut self, batch: usize, when_empty: WhenEmpty) -> Result<(), Error> {
        const OPERATION: &str = "request deliveries";
        let is_waiting = when_empty == WhenEmpty::Wait;
        if self.subscribed_on != self.broker.connection_number() {
            self.resubscribe().await?;
        }
        // First, because these deliveries reduce the number of messages to request.
        self.take_arrived(batch);
        (self.open_messages, self.is_waiting) = (self.late_deliveries.len().min(batch), is_waiting);
        self.last_message_at = Instant::now();
        let missing = batch - self.open_messages;
        if missing == 0 {
            return Ok(());
        }
        let request = PullRequest {
            batch: missing,
            expires: if is_waiting { PULL_EXPIRES } else { PULL_LINGER }.as_nanos(),
            idle_heartbeat: is_waiting.then(|| PULL_HEARTBEAT.as_nanos()),
        };
        let payload =
            serde_json::to_vec(&request).map_err(|error| Error::unavailable(OPERATION, error))?;
        // Read before publishing: after a reconnect in between, `next` reports the request as lost.
        // Reading it afterwards would make `next` wait for an answer that never arrives.
        self.requested_on = self.broker.connection_number();
        self.request_number = self.request_number.wrapping_add(1);
        let reply = format!("{}.{}", self.inbox, self.request_number);
        let subject = subject::pull_request(self.source.queue().stream(), self.source.consumer());
        let sent = self.broker.client.publish_with_reply(subject, reply, payload.into()).await;
        sent.map_err(|error| Error::unavailable(OPERATION, error))?;
        self.open_messages = batch;
        Ok(())
    }

    /// Replaces a subscription that was made on an earlier connection.
    ///
    /// [`Pull::end_subscription`] specifies after how many messages the subscription ends. The
    /// client counts all of them, but the server only those since the reconnect. So it would keep
    /// the subscription after the client has dropped it. A job delivered then would reach an inbox
    /// without a reader, and be redelivered only after its ack wait.
    async fn resubscribe(&mut self) -> Result<(), Error> {
        // Deliveries that have arrived on the old subscription would be lost with it.
        self.take_arrived(usize::MAX);
        self.subscribed_on = self.broker.connection_number();
        (self.inbox, self.subscriber) = subscribe(&self.broker).await?;
        self.received = 0;
        Ok(())
    }

    /// Moves deliveries that have arrived to `late_deliveries`, until it contains `count_max`. Does
    /// not wait. Drops status messages, which only concern earlier requests.
    fn take_arrived(&mut self, count_max: usize) {
        while self.late_deliveries.len() < count_max
            && let Some(Some(message)) = self.subscriber.next().now_or_never()
        {
            self.received += 1;
            if message.status.is_none() {
                let delivery = self.build_delivery(message);
                self.late_deliveries.push_back(delivery);
            }
        }
    }

    /// Returns the number of messages that the consumer has not delivered to any worker yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn pending(&self) -> Result<u64, Error> {
        Ok(consumer_info(&self.broker, self.source.queue().stream(), self.source.consumer())
            .await?
            .num_pending)
    }

    /// Waits for the next event of the open request. Returns [`PullEvent::Done`] if no request is
    /// open. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the connection has changed, or the server has lost or refused the
    /// request.
    pub async fn next(&mut self) -> Result<PullEvent, Error> {
        const OPERATION: &str = "wait for deliveries";
        while self.open_messages > 0 {
            if let Some(delivery) = self.late_deliveries.pop_front() {
                self.open_messages -= 1;
                return Ok(PullEvent::Delivery(Box::new(delivery)));
            }
            let silence_max = if self.is_waiting { PULL_SILENCE_MAX } else { LINGER_SILENCE_MAX };
            let deadline = self.last_message_at + silence_max;
            let message = tokio::select! {
                // A message that has arrived is returned even if the connection has changed or the
                // deadline has passed.
                biased;
                message = self.subscriber.next() => message,
                _ = self.broker.wait_for_reconnection(self.requested_on) => {
                    self.open_messages = 0;
                    return Err(Error::unavailable(OPERATION, "the connection has changed"));
                }
                () = tokio::time::sleep_until(deadline) => {
                    self.open_messages = 0;
                    return Err(Error::unavailable(OPERATION, "the server did not answer in time"));
                }
            };
            let Some(message) = message else {
                return Err(Error::unavailable(OPERATION, "the subscription ended"));
            };
            self.last_message_at = Instant::now();
            self.received += 1;
            match message.status {
                None => {
                    // This delivery may belong to an abandoned request. Then one more message than
                    // `open_messages` counts arrives for the open request. The next request takes
                    // it from the subscription.
                    self.open_messages = self.open_messages.saturating_sub(1);
                    return Ok(PullEvent::Delivery(Box::new(self.build_delivery(message))));
                }
                Some(StatusCode::IDLE_HEARTBEAT) => return Ok(PullEvent::Heartbeat),
                // A status of an abandoned request, for example its expiry, does not concern the
                // open one.
                Some(_) if !self.is_current(&message.subject) => {}
                // 408: the request has expired on the server.
                Some(StatusCode::TIMEOUT) => self.open_messages = 0,
                // For example 409: the consumer was deleted, or its leader changed.
                Some(status) => {
                    self.open_messages = 0;
                    let text = message.description.unwrap_or_default();
                    return Err(Error::unavailable(OPERATION, format!("{status} {text}")));
                }
            }
        }
        Ok(PullEvent::Done)
    }

    /// Stops pulling, and returns the deliveries that were still in flight.
    pub async fn close(mut self) -> Vec<Delivery> {
        let mut late = Vec::from(std::mem::take(&mut self.late_deliveries));
        self.open_messages = self.open_messages.saturating_sub(late.len());
        // Bounds the wait for a broker that does not answer.
        let limit = Instant::now() + REQUEST_TIMEOUT;
        // A lingering request expires within milliseconds, so its last deliveries are awaited.
        while !self.is_waiting && self.open_messages > 0 {
            match tokio::time::timeout_at(limit, self.next()).await {
                Ok(Ok(PullEvent::Delivery(delivery))) => late.push(*delivery),
                Ok(Ok(PullEvent::Heartbeat)) => {}
                Ok(Ok(PullEvent::Done) | Err(_)) | Err(_) => break,
            }
        }
        if let Err(error) = self.end_subscription().await {
            debug!(%error, "cannot end the subscription to deliveries");
        }
        let end_subject = format!("{}.{END_REQUEST_NUMBER}", self.inbox);
        // Ends when the client has received the number of messages that `end_subscription`
        // specified.
        while let Ok(Some(message)) = tokio::time::timeout_at(limit, self.subscriber.next()).await {
            if message.status.is_none() && *message.subject != *end_subject {
                late.push(self.build_delivery(message));
            }
        }
        late
    }

    /// Ends the subscription after [`END_ANSWERS_MAX`] further messages, and requests that many.
    ///
    /// If a subscription is drained or ended immediately, the client library drops it before the
    /// server has processed the request. A job in flight at that time would be lost, and
    /// redelivered only after its ack wait.
    async fn end_subscription(&mut self) -> Result<(), Error> {
        const OPERATION: &str = "end a subscription";
        let ended = self.subscriber.unsubscribe_after(self.received + END_ANSWERS_MAX).await;
        ended.map_err(|error| Error::unavailable(OPERATION, error))?;
        for _ in 0..END_ANSWERS_MAX {
            // An empty request is answered, too, and any answer counts.
            let subject = format!("$JS.API.DIRECT.GET.{JOB_STATE_STREAM}");
            let reply = format!("{}.{END_REQUEST_NUMBER}", self.inbox);
            let sent = self.broker.client.publish_with_reply(subject, reply, Bytes::new()).await;
            sent.map_err(|error| Error::unavailable(OPERATION, error))?;
        }
        Ok(())
    }

    /// Returns whether a status message answers the open request, by the last token of its subject.
    fn is_current(&self, subject: &str) -> bool {
        subject.rsplit('.').next() == Some(self.request_number.to_string().as_str())
    }

    fn build_delivery(&self, message: async_nats::Message) -> Delivery {
        let context = self.broker.jetstream.clone();
        let message = jetstream::Message { message, context };
        let acks = self.broker.acks.clone();
        Delivery { message, source: self.source, ack_wait: self.ack_wait, acks }
    }
}

/// Subscribes to a new inbox. Returns the inbox and the subscriber.
async fn subscribe(broker: &Broker) -> Result<(String, Subscriber), Error> {
    let inbox = broker.client.new_inbox();
    let subscribing = broker.client.subscribe(format!("{inbox}.*")).await;
    let subscriber =
        subscribing.map_err(|error| Error::unavailable("subscribe to deliveries", error))?;
    Ok((inbox, subscriber))
}
