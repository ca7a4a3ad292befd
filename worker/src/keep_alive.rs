//! Holds on to a delivery while its job advances, and lets go when it does not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::job::{Progress, Stage};
use wordmill_nats::delivery::Delivery;

/// How often the server is told within its acknowledgement wait that the job advances: two of the
/// three may get lost.
const SIGNS_PER_ACK_WAIT: u32 = 3;
/// Shortest time between two signs of life, whatever the wait is.
const KEEP_ALIVE_MIN: Duration = Duration::from_millis(100);
/// Longest time without any progress, except while a host is waited for: that has limits of its
/// own.
const STALL_MAX: Duration = Duration::from_secs(60);
/// No size is known.
const UNKNOWN: u64 = u64::MAX;

/// How far an attempt has come, told by the thread that counts.
#[derive(Debug)]
pub(crate) struct Meter {
    stage: Stage,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    waits_for_host: AtomicBool,
}

impl Meter {
    /// Returns a meter at nothing.
    pub(crate) fn new(stage: Stage) -> Self {
        Self {
            stage,
            done_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(UNKNOWN),
            waits_for_host: AtomicBool::new(false),
        }
    }

    /// Waits for something that a host must send.
    pub(crate) async fn wait_for_host<T>(&self, future: impl Future<Output = T>) -> T {
        self.waits_for_host.store(true, Ordering::Relaxed);
        let output = future.await;
        self.waits_for_host.store(false, Ordering::Relaxed);
        output
    }

    /// Notes how many bytes have been counted.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.done_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Notes how many bytes there are in all.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns how far it is.
    pub(crate) fn read(&self) -> Progress {
        let total = self.total_bytes.load(Ordering::Relaxed);
        Progress {
            stage: self.stage.into(),
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: (total != UNKNOWN).then_some(total),
        }
    }
}

/// Keeps `delivery` alive until its job stands still or `deadline` is over, and returns why it was
/// let go. Cancel-safe: dropped when the work ends first.
pub(crate) async fn hold(delivery: &Delivery, meter: &Meter, deadline: Duration) -> Failure {
    // As the consumer is set, not as the topology says: somebody may have changed it.
    let keep_alive = (delivery.ack_wait() / SIGNS_PER_ACK_WAIT).max(KEEP_ALIVE_MIN);
    let end = Instant::now() + deadline;
    let mut last = meter.read();
    let mut last_change = Instant::now();
    loop {
        let tick = (Instant::now() + keep_alive).min(end).min(last_change + STALL_MAX);
        tokio::time::sleep_until(tick).await;
        let (now, progress) = (Instant::now(), meter.read());
        if progress != last || meter.waits_for_host.load(Ordering::Relaxed) {
            (last, last_change) = (progress, now);
        }
        if now >= end {
            let detail = format!("The attempt took longer than {} s.", deadline.as_secs());
            return Failure::new(FailureCode::DeadlineExceeded, detail);
        }
        if now >= last_change + STALL_MAX {
            let detail = format!("Nothing advanced for {} s.", STALL_MAX.as_secs());
            return Failure::new(FailureCode::DeadlineExceeded, detail);
        }
        if let Err(error) = delivery.keep_alive().await {
            debug!(%error, "cannot keep a delivery alive; the queue may give it to another worker");
        }
    }
}
