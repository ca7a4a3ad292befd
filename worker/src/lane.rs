//! Pulls one lane: asks for exactly as many jobs as there is room for.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};
use wordmill_common::id::Lane;
use wordmill_nats::connect::Health;
use wordmill_nats::pull::{LanePull, Pulled, WhenEmpty};

use crate::slots::{Slot, Slots};
use crate::{Worker, attempt};

/// Most jobs that are asked for at once.
const BATCH_MAX: usize = 32;
/// Wait after the broker refused or forgot a request.
const PAUSE: Duration = Duration::from_millis(500);

/// Pulls until `stop`, then hands back what was on its way.
pub(crate) async fn serve(
    worker: &Worker,
    lane: Lane,
    slots: &Slots,
    attempts: &TaskTracker,
    mut health: watch::Receiver<Health>,
    stop: &CancellationToken,
) {
    let mut pull = loop {
        let ready = tokio::select! {
            ready = health.wait_for(|health| *health == Health::Ready) => ready.is_ok(),
            () = stop.cancelled() => return,
        };
        match LanePull::open(&worker.broker, lane).await {
            Ok(pull) if ready => break pull,
            Ok(_) => return,
            Err(error) => warn!(%lane, %error, "cannot pull; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    };
    let mut was_busy = false;
    while let Some(mut room) = room(slots, lane, was_busy, stop).await {
        // A lane that has just brought something is asked for as much as fits, and at once; an
        // idle one holds a single slot and waits.
        let when_empty = if was_busy { WhenEmpty::Return } else { WhenEmpty::Wait };
        was_busy = false;
        if let Err(error) = pull.ask(room.len(), when_empty).await {
            pause(lane, &error, stop).await;
            continue;
        }
        while let Some(pulled) = unless_stopped(stop, pull.next()).await {
            match pulled {
                Ok(Pulled::Delivery(delivery)) => {
                    was_busy = true;
                    let worker = worker.clone();
                    let slot = room.pop();
                    attempts.spawn(async move {
                        attempt::run(&worker, &delivery).await;
                        drop(slot);
                    });
                }
                Ok(Pulled::Done) => break,
                Err(error) => {
                    pause(lane, &error, stop).await;
                    break;
                }
            }
        }
    }
    hand_back(lane, pull).await;
}

/// Takes one slot, and if the lane is busy as many more as are free. `None` means stop.
async fn room(
    slots: &Slots,
    lane: Lane,
    is_busy: bool,
    stop: &CancellationToken,
) -> Option<Vec<Slot>> {
    let mut room = vec![unless_stopped(stop, slots.take(lane)).await??];
    while is_busy && room.len() < BATCH_MAX {
        match slots.try_take(lane) {
            Some(slot) => room.push(slot),
            None => break,
        }
    }
    Some(room)
}

async fn unless_stopped<T>(stop: &CancellationToken, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        output = future => Some(output),
    }
}

async fn pause(lane: Lane, error: &wordmill_nats::Error, stop: &CancellationToken) {
    debug!(%lane, %error, "pulling again");
    unless_stopped(stop, tokio::time::sleep(PAUSE)).await;
}

async fn hand_back(lane: Lane, pull: LanePull) {
    for delivery in pull.close().await {
        if let Err(error) = delivery.give_back(None).await {
            debug!(%lane, %error, "a delivery that had not started comes again later");
        }
    }
}
