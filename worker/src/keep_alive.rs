//! Keeps a delivery alive while its job advances, and stops when it does not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::job::{Progress, Stage};
use wordmill_nats::delivery::Delivery;

/// Keep-alives per ack wait: two of the three may get lost.
const KEEP_ALIVES_PER_ACK_WAIT: u32 = 3;
/// Shortest time between two keep-alives, for any ack wait.
const KEEP_ALIVE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest time without progress. Waits for a host do not count, as they have limits of their own.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Stored in place of the total if it is unknown.
const UNKNOWN_TOTAL: u64 = u64::MAX;

/// The progress of an attempt, set by the thread that counts.
#[derive(Debug)]
pub(crate) struct ProgressMeter {
    stage: Stage,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    is_waiting_for_host: AtomicBool,
}

impl ProgressMeter {
    /// Returns a meter without progress.
    pub(crate) fn new(stage: Stage) -> Self {
        Self {
            stage,
            done_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(UNKNOWN_TOTAL),
            is_waiting_for_host: AtomicBool::new(false),
        }
    }

    /// Waits for `future`, which needs an answer from a host. Meanwhile the attempt does not stall.
    pub(crate) async fn wait_for_host<T>(&self, future: impl Future<Output = T>) -> T {
        self.is_waiting_for_host.store(true, Ordering::Relaxed);
        let output = future.await;
        self.is_waiting_for_host.store(false, Ordering::Relaxed);
        output
    }

    /// Sets the number of bytes that have been counted.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.done_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets the number of bytes of the source.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns the current progress.
    pub(crate) fn read(&self) -> Progress {
        let total = self.total_bytes.load(Ordering::Relaxed);
        Progress {
            stage: self.stage.into(),
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: (total != UNKNOWN_TOTAL).then_some(total),
        }
    }
}

/// Keeps `delivery` alive until its job stalls or `deadline` has passed, and returns the failure.
/// Cancel-safe: dropped when the work ends first.
pub(crate) async fn keep_alive_until_stalled(
    delivery: &Delivery,
    meter: &ProgressMeter,
    deadline: Duration,
) -> Failure {
    // The ack wait of the consumer may differ from that of the topology: an operator can change it.
    let interval = (delivery.ack_wait() / KEEP_ALIVES_PER_ACK_WAIT).max(KEEP_ALIVE_INTERVAL_MIN);
    let end = Instant::now() + deadline;
    let mut last_progress = meter.read();
    let mut last_change = Instant::now();
    loop {
        let tick = (Instant::now() + interval).min(end).min(last_change + STALL_MAX);
        tokio::time::sleep_until(tick).await;
        let now = Instant::now();
        let progress = meter.read();
        if progress != last_progress || meter.is_waiting_for_host.load(Ordering::Relaxed) {
            last_progress = progress;
            last_change = now;
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
