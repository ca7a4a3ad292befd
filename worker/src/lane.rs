//! Pulls one lane: asks for exactly as many jobs as there is room for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use wordmill_common::id::Lane;
use wordmill_nats::connect::Health;
use wordmill_nats::pull::{Delivery, Feed, Pull, Pulled, WhenEmpty};

use crate::pulse::Pulse;
use crate::slots::{Demand, Slot, Slots};
use crate::{Worker, attempt};

/// Most jobs that are asked for at once.
const BATCH_MAX: usize = 32;
/// Wait after the broker refused or forgot a request.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a lane may have room and get nothing before it looks whether something waits. If so,
/// the pull is at fault, and made anew. Also the least time between two looks.
const QUIET_MAX: Duration = Duration::from_secs(15);

/// What the lanes of a worker share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) slots: Slots,
    pub(crate) attempts: TaskTracker,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) stop: CancellationToken,
}

/// Pulls until told to stop, then hands back what was on its way.
pub(crate) async fn serve(worker: &Worker, lane: Lane, shared: Shared) {
    let Some(pull) = open(worker, lane, &shared).await else {
        return;
    };
    let mut serving = Serving { worker, lane, shared, pull, quiet_since: Instant::now() };
    let mut was_busy = false;
    while let Some(room) = serving.room(was_busy).await {
        was_busy = serving.fill(room, was_busy).await;
    }
    hand_back(lane, serving.pull.close().await).await;
}

/// Opens the pull once the broker is ready. `None` means stop.
async fn open(worker: &Worker, lane: Lane, shared: &Shared) -> Option<Pull> {
    let mut health = shared.health.clone();
    let stop = &shared.stop;
    loop {
        let ready = health.wait_for(|health| *health == Health::Ready);
        unless_stopped(stop, ready).await?.ok()?;
        match Pull::open(&worker.broker, Feed::Jobs(lane)).await {
            Ok(pull) => return Some(pull),
            Err(error) => warn!(%lane, %error, "cannot pull; trying again"),
        }
        unless_stopped(stop, tokio::time::sleep(PAUSE)).await?;
    }
}

/// A lane that is being pulled.
struct Serving<'a> {
    worker: &'a Worker,
    lane: Lane,
    shared: Shared,
    pull: Pull,
    /// Since when it has had room and got nothing, or looked for the last time.
    quiet_since: Instant,
}

impl Serving<'_> {
    /// Takes one slot, and if the lane is busy as many more as it may have. `None` means stop.
    async fn room(&mut self, is_busy: bool) -> Option<Vec<Slot>> {
        if is_busy {
            // Whatever is about to end makes room, too, and one request for several jobs costs the broker
            // little more than one for a single job.
            tokio::task::yield_now().await;
        }
        let demand = if is_busy { Demand::Busy(BATCH_MAX) } else { Demand::Idle };
        let mut taking = std::pin::pin!(self.shared.slots.take(self.lane, demand));
        // Only a lane that has to wait is full.
        if let Some(room) = futures_util::FutureExt::now_or_never(taking.as_mut()) {
            return (!self.shared.stop.is_cancelled()).then_some(room);
        }
        self.shared.pulse.is_full(self.lane);
        let room = unless_stopped(&self.shared.stop, taking).await?;
        self.quiet_since = Instant::now();
        Some(room)
    }

    /// Asks once for what there is room for, and starts what comes. Returns whether anything did.
    async fn fill(&mut self, mut room: Vec<Slot>, was_busy: bool) -> bool {
        // A lane that has just brought something is asked for as much as fits, and at once; an
        // idle one holds a single slot and waits.
        let when_empty = if was_busy { WhenEmpty::Return } else { WhenEmpty::Wait };
        self.shared.pulse.asks(self.lane);
        if let Err(error) = self.pull.ask(room.len(), when_empty).await {
            self.pause(&error).await;
            return false;
        }
        let mut is_busy = false;
        while let Some(pulled) = unless_stopped(&self.shared.stop, self.pull.next()).await {
            if pulled.is_ok() {
                self.shared.pulse.heard(self.lane);
            }
            match pulled {
                Ok(Pulled::Delivery(delivery)) => {
                    is_busy = true;
                    self.quiet_since = Instant::now();
                    self.start(*delivery, room.pop());
                }
                Ok(Pulled::Heartbeat) => {
                    if self.rebuild_if_stuck().await {
                        break;
                    }
                }
                Ok(Pulled::Done) => break,
                Err(error) => {
                    self.rebuild_if_stuck().await;
                    self.pause(&error).await;
                    break;
                }
            }
        }
        is_busy
    }

    fn start(&self, delivery: Delivery, slot: Option<Slot>) {
        let worker = self.worker.clone();
        let busy = worker.metrics.busy(self.lane);
        self.shared.attempts.spawn(async move {
            attempt::run(&worker, &delivery).await;
            drop((busy, slot));
        });
    }

    /// Makes the pull anew if it has been quiet for long although something waits. Returns whether
    /// it did.
    async fn rebuild_if_stuck(&mut self) -> bool {
        let quiet = self.quiet_since.elapsed();
        if quiet < QUIET_MAX {
            return false;
        }
        self.quiet_since = Instant::now();
        let pending = match self.pull.pending().await {
            Ok(0) => return false,
            Ok(pending) => pending,
            Err(error) => {
                debug!(lane = %self.lane, %error, "cannot look whether something waits");
                return false;
            }
        };
        let quiet_ms = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        warn!(lane = %self.lane, pending, quiet_ms, "jobs wait and none comes; pulling anew");
        match Pull::open(&self.worker.broker, Feed::Jobs(self.lane)).await {
            Ok(pull) => {
                let old = std::mem::replace(&mut self.pull, pull);
                hand_back(self.lane, old.close().await).await;
                true
            }
            Err(error) => {
                warn!(lane = %self.lane, %error, "cannot pull anew");
                false
            }
        }
    }

    async fn pause(&self, error: &wordmill_nats::Error) {
        debug!(lane = %self.lane, %error, "pulling again");
        unless_stopped(&self.shared.stop, tokio::time::sleep(PAUSE)).await;
    }
}

pub(crate) async fn unless_stopped<T>(
    stop: &CancellationToken,
    future: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        output = future => Some(output),
    }
}

/// Gives back what had not started.
async fn hand_back(lane: Lane, late: Vec<Delivery>) {
    for delivery in late {
        if let Err(error) = delivery.give_back(None).await {
            debug!(%lane, %error, "a delivery that had not started comes again later");
        }
    }
}
