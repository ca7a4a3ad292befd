//! Loop that pulls messages from one lane or from the queue of webhooks.
//!
//! The loop reserves slots first and then requests exactly that number of messages, so that each
//! message starts when it arrives. A message that waited in the worker for a slot would use up its
//! ack wait while another worker may be idle.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use wordmill_nats::Error;
use wordmill_nats::connect::Broker;
use wordmill_nats::delivery::{Delivery, PullSource};
use wordmill_nats::pull::{Pull, PullEvent, WhenEmpty};
use wordmill_nats::supervise::Health;

/// Delay before a failed request or subscription is retried.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Time without a delivery, while slots are free, after which the loop checks for pending messages.
/// Also the minimum time between two such checks.
const PENDING_CHECK_AFTER: Duration = Duration::from_secs(15);

/// State shared by the pull loops of a worker.
#[derive(Clone)]
pub(crate) struct PullContext {
    /// Tracks the tasks that process deliveries.
    pub(crate) tasks: TaskTracker,
    pub(crate) health: watch::Receiver<Health>,
    /// Cancelled when the worker must stop pulling.
    pub(crate) stop: CancellationToken,
}

/// Source-specific part of a pull loop: the slots, and the processing of deliveries.
///
/// The default methods suit a source that starts each delivery when it arrives, and that does not
/// affect readiness.
pub(crate) trait DeliveryHandler {
    /// Right to process one delivery, released on drop.
    type Slot;

    /// Returns the source of the deliveries.
    fn source(&self) -> PullSource;

    /// Waits for a free slot, then reserves all slots that the next request may use. Cancel-safe.
    fn reserve_slots(&self) -> impl Future<Output = Vec<Self::Slot>>;

    /// Accepts a delivery: starts it immediately, or collects it until
    /// [`DeliveryHandler::start_received`] is called.
    ///
    /// `slot` is never `None`, because a request returns at most as many messages as it has slots.
    fn receive(&mut self, delivery: Delivery, slot: Option<Self::Slot>);

    /// Starts the deliveries that [`DeliveryHandler::receive`] has collected.
    fn start_received(&mut self) {}

    /// Called at the end of a request for `requested` messages, of which `received` have arrived.
    fn on_request_end(&mut self, _requested: usize, _received: usize) {}

    /// Returns whether the previous request returned messages. If so, more are expected soon.
    fn is_busy(&self) -> bool {
        false
    }

    /// Called when all slots are in use and nothing is requested.
    fn on_slots_in_use(&self) {}

    /// Called before a request is sent.
    fn on_request(&self) {}

    /// Called for each answer of the broker: a message, a heartbeat, or the end of a request.
    fn on_answer(&self) {}
}

/// Pulls until the worker stops, then returns to the queue the deliveries that have not started.
pub(crate) async fn run(broker: &Broker, context: &PullContext, handler: impl DeliveryHandler) {
    let source = handler.source();
    let Some(pull) = open(broker, source, context).await else {
        return;
    };
    let quiet_since = Instant::now();
    let stop = &context.stop;
    let mut pull_loop = PullLoop { broker, source, stop, handler, pull, quiet_since };
    while let Some(slots) = pull_loop.wait_for_slots().await {
        let requested = slots.len();
        let received = pull_loop.request(slots).await;
        pull_loop.handler.on_request_end(requested, received);
    }
    return_to_queue(source, pull_loop.pull.close().await).await;
}

/// Subscribes to a source as soon as the broker is ready. Returns `None` if the worker stops first.
async fn open(broker: &Broker, source: PullSource, context: &PullContext) -> Option<Pull> {
    let mut health = context.health.clone();
    let stop = &context.stop;
    loop {
        let ready = health.wait_for(|health| *health == Health::Ready);
        unless_stopped(stop, ready).await?.ok()?;
        match Pull::open(broker, source).await {
            Ok(pull) => return Some(pull),
            Err(error) => {
                let queue = queue_name(source);
                warn!(queue, lane = lane_name(source), %error, "cannot subscribe; retrying");
            }
        }
        unless_stopped(stop, tokio::time::sleep(RETRY_DELAY)).await?;
    }
}

/// Pull loop of one source.
struct PullLoop<'a, H> {
    broker: &'a Broker,
    source: PullSource,
    stop: &'a CancellationToken,
    handler: H,
    pull: Pull,
    /// Time of the last delivery, of the last check for pending messages, or of the end of the last
    /// wait for slots, whichever is latest.
    quiet_since: Instant,
}

impl<H: DeliveryHandler> PullLoop<'_, H> {
    /// Reserves slots for the next request. Returns `None` if the worker stops first.
    async fn wait_for_slots(&mut self) -> Option<Vec<H::Slot>> {
        if self.handler.is_busy() {
            // Let tasks that are about to end release their slots first: a request for several
            // messages costs the broker little more than a request for one.
            tokio::task::yield_now().await;
        }
        let mut reservation = pin!(self.handler.reserve_slots());
        // Report the source as full only if it has to wait for a slot. Under load, each request
        // would otherwise restart the measurement of silence, and readiness would not detect a
        // broker that stopped answering.
        if let Some(slots) = reservation.as_mut().now_or_never() {
            return (!self.stop.is_cancelled()).then_some(slots);
        }
        self.handler.on_slots_in_use();
        let slots = unless_stopped(self.stop, reservation).await?;
        // No request was open during the wait, so a lack of deliveries is normal.
        self.quiet_since = Instant::now();
        Some(slots)
    }

    /// Requests one message per slot, and passes deliveries to the handler until the request ends.
    /// Returns the number of deliveries. Unused slots are released.
    async fn request(&mut self, mut slots: Vec<H::Slot>) -> usize {
        let is_busy = self.handler.is_busy();
        // Only one request is open at a time. A busy source does not wait long for the rest of it,
        // because slots that become free meanwhile cannot be requested.
        let when_empty = if is_busy { WhenEmpty::Linger } else { WhenEmpty::Wait };
        self.handler.on_request();
        if let Err(error) = self.pull.send_request(slots.len(), when_empty).await {
            self.delay_after(&error).await;
            return 0;
        }
        let mut received = 0;
        while let Some(event) = self.next_event().await {
            if event.is_ok() {
                self.handler.on_answer();
            }
            if !matches!(event, Ok(PullEvent::Delivery(_))) {
                // The code below may wait or return, so start the received deliveries first.
                self.handler.start_received();
            }
            match event {
                Ok(PullEvent::Delivery(delivery)) => {
                    received += 1;
                    self.quiet_since = Instant::now();
                    self.handler.receive(*delivery, slots.pop());
                }
                Ok(PullEvent::Heartbeat) => {
                    // The answers to this request do not reach the new subscription.
                    if self.resubscribe_if_stuck().await {
                        break;
                    }
                }
                Ok(PullEvent::Done) => break,
                Err(error) => {
                    // A subscription survives most errors, for example a change of the leader. It
                    // is replaced only if it stays silent.
                    self.resubscribe_if_stuck().await;
                    self.delay_after(&error).await;
                    break;
                }
            }
        }
        received
    }

    /// Waits for the next event of the open request. Returns `None` if the worker stops first.
    async fn next_event(&mut self) -> Option<Result<PullEvent, Error>> {
        // Deliveries that arrive together are started together. The loop starts them before it
        // waits for another one, so that none is delayed.
        if let Some(event) = self.pull.next().now_or_never() {
            return Some(event);
        }
        self.handler.start_received();
        unless_stopped(self.stop, self.pull.next()).await
    }

    /// Replaces the subscription if nothing was delivered for [`PENDING_CHECK_AFTER`] although
    /// messages are pending. Returns whether it was replaced.
    ///
    /// Heartbeats prove only that the server has the request. A server that has lost the consumer's
    /// state may still send heartbeats, but deliver nothing.
    async fn resubscribe_if_stuck(&mut self) -> bool {
        let queue = queue_name(self.source);
        let lane = lane_name(self.source);
        let quiet = self.quiet_since.elapsed();
        if quiet < PENDING_CHECK_AFTER {
            return false;
        }
        self.quiet_since = Instant::now();
        let pending = match self.pull.pending().await {
            Ok(0) => return false,
            Ok(pending) => pending,
            Err(error) => {
                debug!(queue, lane, %error, "cannot check for pending messages");
                return false;
            }
        };
        let quiet_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        warn!(
            queue,
            lane, pending, quiet_ms, "no deliveries although {queue} are pending; resubscribing"
        );
        match Pull::open(self.broker, self.source).await {
            Ok(pull) => {
                // Open the new subscription before closing the old one, and return the last
                // deliveries of the old one to the queue. Then no message has to wait for its ack
                // wait.
                let old = std::mem::replace(&mut self.pull, pull);
                return_to_queue(self.source, old.close().await).await;
                true
            }
            Err(error) => {
                warn!(queue, lane, %error, "cannot resubscribe; keeping the old subscription");
                false
            }
        }
    }

    async fn delay_after(&self, error: &Error) {
        let queue = queue_name(self.source);
        debug!(queue, lane = lane_name(self.source), %error, "pull request failed; retrying");
        unless_stopped(self.stop, tokio::time::sleep(RETRY_DELAY)).await;
    }
}

/// Returns to the queue the deliveries that have not started.
async fn return_to_queue(source: PullSource, deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        if let Err(error) = delivery.return_to_queue(None).await {
            let queue = queue_name(source);
            let lane = lane_name(source);
            debug!(queue, lane, %error, "cannot return a delivery; the broker redelivers it");
        }
    }
}

/// Returns the output of `future`, or `None` if the worker stops first.
async fn unless_stopped<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // A stopping worker must not accept another message, even if one has already arrived.
        biased;
        () = stop.cancelled() => None,
        output = future => Some(output),
    }
}

fn queue_name(source: PullSource) -> &'static str {
    match source {
        PullSource::Jobs(_) => "jobs",
        PullSource::Webhooks => "webhooks",
    }
}

fn lane_name(source: PullSource) -> Option<&'static str> {
    match source {
        PullSource::Jobs(lane) => Some(lane.as_str()),
        PullSource::Webhooks => None,
    }
}
