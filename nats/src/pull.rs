//! Pulls deliveries: one subscription for each lane and one for webhooks, and requests for exactly
//! as many messages as the worker has room for.

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
use crate::stream_read::consumer;
use crate::subject;
use crate::topology::JOB_STATE_STREAM;

/// How long one request for messages stays open at the server.
pub const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How long a request of a busy lane stays open: what comes within that time needs no request of its own.
const PULL_LINGER: Duration = Duration::from_millis(10);
/// How often the server says that an open request is still known to it.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);
/// After which silence an open request counts as forgotten, because another server leads for example.
const PULL_SILENCE_MAX: Duration = Duration::from_secs(11);
/// The same for a request that is over in a moment, and is answered then.
const LINGER_SILENCE_MAX: Duration = Duration::from_secs(2);

/// How many answers of the server end a subscription: more than may be on their way when it ends,
/// which is a job that was waited for, and a heartbeat.
const END_ANSWERS_MAX: u64 = 4;
/// To which "request" these come.
const END_REQUEST: u64 = 0;

/// What came out of waiting for a message.
#[derive(Debug)]
pub enum PullEvent {
    /// A message.
    Delivery(Box<Delivery>),
    /// The server knows the open request, and has nothing for it.
    Heartbeat,
    /// The open request was answered in full or is over: ask again.
    Done,
}

/// The deliveries of one source. At most one request is open at a time.
#[derive(Debug)]
pub struct Pull {
    broker: Broker,
    source: PullSource,
    /// How long the server waits for a sign of life, as its consumer is set at present.
    ack_wait: Duration,
    subscriber: Subscriber,
    inbox: String,
    /// Which request is open: its answers come to `<inbox>.<request>`.
    request: u64,
    /// How many messages the open request may still bring.
    open_messages: usize,
    /// Whether it stays open while the lane is empty.
    is_waiting: bool,
    /// What of it came before it was made, for an earlier request that had been given up.
    late_deliveries: VecDeque<Delivery>,
    /// How many messages there were, of whatever kind.
    received: u64,
    /// When the server was last heard of.
    last_message_at: Instant,
    /// The connection on which the subscription was made.
    subscribed_on: u64,
    /// The connection on which the request was made: a server knows nothing of earlier ones.
    requested_on: u64,
}

/// What is asked of the server; durations in nanoseconds, as its API wants them.
#[derive(Debug, Serialize)]
struct Request {
    batch: usize,
    expires: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_heartbeat: Option<u128>,
}

/// For how long a lane that is empty is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenEmpty {
    /// The request stays open for [`PULL_EXPIRES`].
    Wait,
    /// The request stays open for a moment only.
    Linger,
}

impl Pull {
    /// Subscribes to the deliveries of a source; asks for none yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn open(broker: &Broker, source: PullSource) -> Result<Self, Error> {
        let consumer: PullConsumer = broker
            .jetstream
            .get_consumer_from_stream(source.consumer(), source.queue().stream())
            .await
            .map_err(|error| Error::unavailable("look at a consumer", error))?;
        let ack_wait = consumer.cached_info().config.ack_wait;
        // Read first: a reconnect while subscribing makes the subscription count as an old one.
        let subscribed_on = broker.connection_number();
        let (inbox, subscriber) = subscribe(broker).await?;
        Ok(Self {
            broker: broker.clone(),
            source,
            ack_wait,
            subscriber,
            inbox,
            subscribed_on,
            request: 0,
            open_messages: 0,
            is_waiting: false,
            late_deliveries: VecDeque::new(),
            received: 0,
            last_message_at: Instant::now(),
            requested_on: subscribed_on,
        })
    }

    /// Asks for up to `batch` messages. A request that is still open is forgotten; what has come for it since,
    /// or for an earlier one, is part of the answer, and that much less is asked for.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn request(&mut self, batch: usize, when_empty: WhenEmpty) -> Result<(), Error> {
        const OPERATION: &str = "ask for deliveries";
        let waits = when_empty == WhenEmpty::Wait;
        if self.subscribed_on != self.broker.connection_number() {
            self.resubscribe().await?;
        }
        self.take_arrived(batch);
        (self.open_messages, self.is_waiting) = (self.late_deliveries.len().min(batch), waits);
        self.last_message_at = Instant::now();
        let missing = batch - self.open_messages;
        if missing == 0 {
            return Ok(());
        }
        let request = Request {
            batch: missing,
            expires: if waits { PULL_EXPIRES } else { PULL_LINGER }.as_nanos(),
            idle_heartbeat: waits.then(|| PULL_HEARTBEAT.as_nanos()),
        };
        let payload =
            serde_json::to_vec(&request).map_err(|error| Error::unavailable(OPERATION, error))?;
        self.requested_on = self.broker.connection_number();
        self.request = self.request.wrapping_add(1);
        let reply = format!("{}.{}", self.inbox, self.request);
        let subject = subject::pull_request(self.source.queue().stream(), self.source.consumer());
        let sent = self.broker.client.publish_with_reply(subject, reply, payload.into()).await;
        sent.map_err(|error| Error::unavailable(OPERATION, error))?;
        self.open_messages = batch;
        Ok(())
    }

    /// Replaces a subscription that was made on an earlier connection.
    ///
    /// [`Pull::end_subscription`] names the number of messages after which a subscription ends. The
    /// client counts them from the beginning, the server from the reconnect on: it would keep the
    /// subscription, and deliver jobs to an inbox that nothing reads until their ack wait is over.
    async fn resubscribe(&mut self) -> Result<(), Error> {
        self.take_arrived(usize::MAX);
        self.subscribed_on = self.broker.connection_number();
        (self.inbox, self.subscriber) = subscribe(&self.broker).await?;
        self.received = 0;
        Ok(())
    }

    /// Takes up to `most` deliveries that are here already.
    fn take_arrived(&mut self, most: usize) {
        while self.late_deliveries.len() < most
            && let Some(Some(message)) = self.subscriber.next().now_or_never()
        {
            self.received += 1;
            if message.status.is_none() {
                let delivery = self.delivery(message);
                self.late_deliveries.push_back(delivery);
            }
        }
    }

    /// Returns how many messages nobody has been given yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn pending(&self) -> Result<u64, Error> {
        Ok(consumer(&self.broker, self.source.queue().stream(), self.source.consumer())
            .await?
            .num_pending)
    }

    /// Waits for the next message of the open request. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the server forgot the request or refuses it.
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
                biased;
                message = self.subscriber.next() => message,
                _ = self.broker.wait_for_reconnection(self.requested_on) => {
                    self.open_messages = 0;
                    return Err(Error::unavailable(OPERATION, "the connection is a new one"));
                }
                () = tokio::time::sleep_until(deadline) => {
                    self.open_messages = 0;
                    return Err(Error::unavailable(OPERATION, "the server forgot the request"));
                }
            };
            let Some(message) = message else {
                return Err(Error::unavailable(OPERATION, "the subscription ended"));
            };
            self.last_message_at = Instant::now();
            self.received += 1;
            match message.status {
                None => {
                    self.open_messages = self.open_messages.saturating_sub(1);
                    return Ok(PullEvent::Delivery(Box::new(self.delivery(message))));
                }
                Some(StatusCode::IDLE_HEARTBEAT) => return Ok(PullEvent::Heartbeat),
                // What an earlier request says is of no interest.
                Some(_) if !self.is_current(&message.subject) => {}
                Some(StatusCode::TIMEOUT) => self.open_messages = 0,
                Some(status) => {
                    self.open_messages = 0;
                    let text = message.description.unwrap_or_default();
                    return Err(Error::unavailable(OPERATION, format!("{status} {text}")));
                }
            }
        }
        Ok(PullEvent::Done)
    }

    /// Stops: takes no more messages, and returns those that were on their way.
    pub async fn close(mut self) -> Vec<Delivery> {
        let mut late = Vec::from(std::mem::take(&mut self.late_deliveries));
        self.open_messages = self.open_messages.saturating_sub(late.len());
        // For a server that is away.
        let limit = Instant::now() + REQUEST_TIMEOUT;
        // A request that does not wait is over in a moment.
        while !self.is_waiting && self.open_messages > 0 {
            match tokio::time::timeout_at(limit, self.next()).await {
                Ok(Ok(PullEvent::Delivery(delivery))) => late.push(*delivery),
                Ok(Ok(PullEvent::Heartbeat)) => {}
                Ok(Ok(PullEvent::Done) | Err(_)) | Err(_) => break,
            }
        }
        if let Err(error) = self.end_subscription().await {
            debug!(%error, "could not end the subscription to deliveries");
        }
        let farewell = format!("{}.{END_REQUEST}", self.inbox);
        while let Ok(Some(message)) = tokio::time::timeout_at(limit, self.subscriber.next()).await {
            if message.status.is_none() && *message.subject != *farewell {
                late.push(self.delivery(message));
            }
        }
        late
    }

    /// Lets the subscription end after a few more messages, and causes that many.
    ///
    /// The client library forgets a subscription that is drained, or ended at once, before the server
    /// knows of it: a job that is on its way then would be dropped, and come again only after the
    /// acknowledgement wait.
    async fn end_subscription(&mut self) -> Result<(), Error> {
        const OPERATION: &str = "end a subscription";
        let ended = self.subscriber.unsubscribe_after(self.received + END_ANSWERS_MAX).await;
        ended.map_err(|error| Error::unavailable(OPERATION, error))?;
        for _ in 0..END_ANSWERS_MAX {
            // Whatever is said to an empty request.
            let subject = format!("$JS.API.DIRECT.GET.{JOB_STATE_STREAM}");
            let reply = format!("{}.{END_REQUEST}", self.inbox);
            let sent = self.broker.client.publish_with_reply(subject, reply, Bytes::new()).await;
            sent.map_err(|error| Error::unavailable(OPERATION, error))?;
        }
        Ok(())
    }

    fn is_current(&self, subject: &str) -> bool {
        subject.rsplit('.').next() == Some(self.request.to_string().as_str())
    }

    fn delivery(&self, message: async_nats::Message) -> Delivery {
        let context = self.broker.jetstream.clone();
        let message = jetstream::Message { message, context };
        let acks = self.broker.acks.clone();
        Delivery { message, source: self.source, ack_wait: self.ack_wait, acks }
    }
}

/// Subscribes to a new inbox, and returns both.
async fn subscribe(broker: &Broker) -> Result<(String, Subscriber), Error> {
    let inbox = broker.client.new_inbox();
    let subscribing = broker.client.subscribe(format!("{inbox}.*")).await;
    let subscriber =
        subscribing.map_err(|error| Error::unavailable("subscribe to deliveries", error))?;
    Ok((inbox, subscriber))
}
