//! Keeps a delivery alive while its job advances, and ends the attempt when it stalls.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::job::{Progress, Stage};
use wordmill_nats::delivery::Delivery;

/// Keep-alives per ack wait. One may be lost without a redelivery. If two are lost, the third
/// arrives only when the ack wait ends.
const KEEP_ALIVES_PER_ACK_WAIT: u32 = 3;
/// Minimum interval between two keep-alives, however short the ack wait is.
const KEEP_ALIVE_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Maximum time without progress. Excludes waits for a host, which have their own timeouts.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Stored instead of the total while it is unknown.
const UNKNOWN_TOTAL: u64 = u64::MAX;

/// Progress of an attempt, updated by the counting thread.
#[derive(Debug)]
pub(crate) struct ProgressMeter {
    stage: Stage,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    is_waiting_for_host: AtomicBool,
}

impl ProgressMeter {
    /// Creates a meter without progress.
    pub(crate) fn new(stage: Stage) -> Self {
        Self {
            stage,
            done_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(UNKNOWN_TOTAL),
            is_waiting_for_host: AtomicBool::new(false),
        }
    }

    /// Waits for `future`, which depends on a remote host. Meanwhile the attempt is not considered
    /// stalled.
    pub(crate) async fn wait_for_host<T>(&self, future: impl Future<Output = T>) -> T {
        self.is_waiting_for_host.store(true, Ordering::Relaxed);
        let output = future.await;
        self.is_waiting_for_host.store(false, Ordering::Relaxed);
        output
    }

    /// Sets the number of bytes that have been counted. Any change shows that the attempt advances.
    pub(crate) fn set_done(&self, bytes: u64) {
        self.done_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets the size of the source in bytes.
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

/// Keeps `delivery` alive until its job makes no progress for [`STALL_MAX`] or `deadline` has
/// passed, and returns the failure. Cancel-safe: the caller drops the future when the work ends
/// first.
pub(crate) async fn keep_alive_until_stalled(
    delivery: &Delivery,
    meter: &ProgressMeter,
    deadline: Duration,
) -> Failure {
    // Use the ack wait of the consumer: an operator may have changed it from that of the topology.
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
            let detail = format!("The attempt made no progress for {} s.", STALL_MAX.as_secs());
            return Failure::new(FailureCode::DeadlineExceeded, detail);
        }
        if let Err(error) = delivery.keep_alive().await {
            debug!(%error, "cannot send a keep-alive; the broker may redeliver the job");
        }
    }
}
