//! The sweeper: fails lost jobs, removes orphaned messages, results and documents, and warns about
//! old unfinished jobs.
//!
//! Every gateway with the sweeper's credentials runs it, and a lease selects one of them at a time.
//! Two concurrent sweepers would do no harm: records change by compare-and-set, and messages and
//! objects are removed only if no unfinished job needs them. The lease saves work. A sweeper that
//! loses it stops its sweep immediately.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use wordmill_common::clock::age;
use wordmill_common::id::JobKey;
use wordmill_common::job::Status;
use wordmill_nats::Error;
use wordmill_nats::connect::Broker;
use wordmill_nats::job_record::VersionedJob;
use wordmill_nats::lease::{HeldLease, Lease, LeaseResult};
use wordmill_nats::supervise::Health;
use wordmill_nats::sweep::{ObjectStore, Orphan, Sweep, UnfinishedJob};
use wordmill_nats::topology::{
    DEAD_JOBS, DOCUMENTS_STREAM, JOB_STATE_STREAM, JOBS, LEASES_STREAM, RESULTS_STREAM, Topology,
    WEBHOOKS,
};

use crate::config::Config;
use crate::metrics::{self, Metrics};
use crate::queue_status::QueueStatus;

/// Name of the lease.
const LEASE_NAME: &str = "sweeper";
/// Maximum number of records that one sweep reads, one request after the other.
const RECORDS_PER_SWEEP: usize = 5_000;
/// Maximum number of objects that one sweep checks in each bucket.
const OBJECTS_PER_SWEEP: usize = 500;
/// Maximum number of jobs without a message that are kept for the next sweep.
const SUSPECTS_MAX: usize = 1_000;
/// Time that is added to the upload timeout before chunks are treated as orphaned. A slow client
/// may need nearly the whole timeout for a single chunk.
const CHUNK_MARGIN: Duration = Duration::from_secs(15);
/// Delay after a request for the lease that the broker did not answer.
const LEASE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Runs the sweeper until `shutdown` is cancelled, if it has credentials. If it fails, the gateway
/// continues without it.
pub(crate) async fn run(
    config: &Config,
    shutdown: &CancellationToken,
    queue_status: &QueueStatus,
    metrics: &Metrics,
) {
    let Some(settings) = &config.sweeper.broker else {
        warn!("sweeper disabled: WORDMILL_NATS_SWEEPER_PASSWORD is not set");
        return;
    };
    let ended = async {
        let broker = Broker::start(settings, "wordmill-gateway sweeper").await?;
        let needed = Topology::new(&config.topology).part(&[
            JOBS,
            JOB_STATE_STREAM,
            LEASES_STREAM,
            RESULTS_STREAM,
            DOCUMENTS_STREAM,
            DEAD_JOBS,
            WEBHOOKS,
        ]);
        let waiting = Health::not_connected_yet();
        let (sender, health) = watch::channel(waiting);
        tokio::select! {
            lost = broker.supervise(&needed, &sender) => lost?,
            served = serve(config, &broker, health, shutdown, (queue_status, metrics)) => served?,
        }
        broker.finish().await;
        Ok::<(), crate::Error>(())
    };
    if let Err(error) = ended.await {
        error!(%error, "sweeper failed; the gateway continues without it");
    }
}

/// Acquires the lease and sweeps while it is held, repeatedly, until `shutdown` is cancelled.
async fn serve(
    config: &Config,
    broker: &Broker,
    mut health: watch::Receiver<Health>,
    shutdown: &CancellationToken,
    (queue_status, metrics): (&QueueStatus, &Metrics),
) -> Result<(), Error> {
    let lease = Lease::open(broker, LEASE_NAME);
    let mut sweeper = Sweeper::new(config, broker, queue_status, metrics);
    loop {
        let request = async {
            // Cannot fail: the sender lives as long as this future.
            let _ = health.wait_for(|health| *health == Health::Ready).await;
            lease.acquire().await
        };
        let pause = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            answer = request => match answer {
                Ok(LeaseResult::Granted(held)) => {
                    info!("sweeper lease acquired");
                    let sweeping = sweep_with_lease(&lease, held, &mut sweeper, shutdown);
                    let last = Box::pin(sweeping).await;
                    queue_status.record_sweep_end();
                    let Some(last) = last else {
                        warn!("sweeper lease lost");
                        continue;
                    };
                    if let Err(error) = lease.release(last).await {
                        debug!(%error, "cannot release the sweeper lease; it will expire");
                    }
                    info!("sweeper lease released");
                    return Ok(());
                }
                Ok(LeaseResult::HeldByOther(pause)) => pause,
                Err(error) => {
                    debug!(%error, "cannot request the sweeper lease");
                    LEASE_RETRY_DELAY
                }
            },
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Sweeps and renews the lease concurrently. Returns the lease at shutdown, and `None` if it was
/// lost.
async fn sweep_with_lease(
    lease: &Lease,
    held_lease: HeldLease,
    sweeper: &mut Sweeper,
    shutdown: &CancellationToken,
) -> Option<HeldLease> {
    let (until, valid) = watch::channel(held_lease.until);
    let mut held_lease = held_lease;
    let renewing = async {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Some(held_lease),
                () = tokio::time::sleep(held_lease.renewal_delay()) => {}
            }
            match lease.renew(held_lease).await {
                Ok(Some(renewed)) => held_lease = renewed,
                Ok(None) => return None,
                // The lease is still valid: the sweep continues, and the next renewal may succeed.
                Err(error) if Instant::now() < held_lease.until => {
                    debug!(%error, "cannot renew the sweeper lease; retrying");
                }
                Err(_) => return None,
            }
            until.send_replace(held_lease.until);
        }
    };
    tokio::select! {
        // Poll this first, so that a lost lease stops the sweep before its next step.
        biased;
        ended = renewing => ended,
        () = sweeper.sweep_periodically(&valid) => None,
    }
}

/// State that the sweeper keeps between sweeps.
struct Sweeper {
    queue_status: QueueStatus,
    metrics: Metrics,
    sweep: Sweep,
    interval: Duration,
    grace: Duration,
    alarm_age: Duration,
    /// Sequence from which the scan of records continues. After the last record it restarts at 1.
    next_record: u64,
    /// Sequence from which the scan of objects continues, by bucket.
    next_objects: HashMap<ObjectStore, u64>,
    /// Minimum age of the chunks of an unfinished object before they are removed. It is longer than
    /// an upload may take.
    chunk_grace: Duration,
    /// Jobs that had no message at the last check, with the revision of their record.
    suspects: HashMap<JobKey, u64>,
    /// The oldest unfinished job that the scan of records has found.
    oldest: Option<UnfinishedJob>,
}

impl Sweeper {
    fn new(
        config: &Config,
        broker: &Broker,
        queue_status: &QueueStatus,
        metrics: &Metrics,
    ) -> Self {
        Self {
            queue_status: queue_status.clone(),
            metrics: metrics.clone(),
            sweep: Sweep::open(broker, config.topology.result_ttl),
            interval: config.sweeper.interval,
            grace: config.sweeper.grace,
            alarm_age: config.sweeper.alarm_age,
            next_record: 1,
            next_objects: HashMap::new(),
            chunk_grace: config.sweeper.grace.max(config.uploads.total_timeout + CHUNK_MARGIN),
            suspects: HashMap::new(),
            oldest: None,
        }
    }

    /// Sweeps once per interval, while the lease is `valid`.
    async fn sweep_periodically(&mut self, valid: &watch::Receiver<Instant>) {
        loop {
            if let Err(error) = self.sweep(valid).await {
                warn!(%error, "sweep failed; continuing at the next interval");
            }
            if Instant::now() >= *valid.borrow() {
                return;
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    async fn sweep(&mut self, valid: &watch::Receiver<Instant>) -> Result<(), Error> {
        let now = self.sweep.now().await?;
        self.end_suspects(valid).await?;
        self.scan_records(now, valid).await?;
        for store in ObjectStore::ALL {
            self.scan_objects(store, now, valid).await?;
            self.remove_orphans(store, now, valid).await?;
        }
        self.raise_alarm(now).await
    }

    /// Fails the jobs that had no message in the previous sweep and still have none. One check is
    /// not enough: a new leader of the stream may temporarily lack messages.
    async fn end_suspects(&mut self, valid: &watch::Receiver<Instant>) -> Result<(), Error> {
        // The rest is dropped if the lease ends. The next scan finds these jobs again.
        for (key, revision) in std::mem::take(&mut self.suspects) {
            if Instant::now() >= *valid.borrow() {
                return Ok(());
            }
            if let Some(job) = self.sweep.end_lost(&key, revision).await? {
                self.metrics.record_lost_job(&job);
                warn!(job.id = %key.job_id, "failed a lost job: it has no message in the queue");
            }
        }
        Ok(())
    }

    async fn scan_records(
        &mut self,
        now: Timestamp,
        valid: &watch::Receiver<Instant>,
    ) -> Result<(), Error> {
        for _ in 0..RECORDS_PER_SWEEP {
            if Instant::now() >= *valid.borrow() {
                return Ok(());
            }
            let Some(position) = self.sweep.next_record(self.next_record).await? else {
                self.next_record = 1;
                return Ok(());
            };
            self.next_record = position.sequence.saturating_add(1);
            if let Some(stored) = position.record {
                self.inspect_job(*stored, age(position.written_at, now)).await?;
            }
        }
        Ok(())
    }

    async fn inspect_job(&mut self, stored: VersionedJob, age: Duration) -> Result<(), Error> {
        let key = stored.job.key();
        let job = stored.job;
        // The record of a cancelled job is final, but its message waits for a worker.
        if job.status == Status::Cancelled {
            if self.sweep.remove_cancelled(&key, job.lane).await? {
                self.metrics.record_sweep_action(metrics::SweepAction::CancelledMessage);
                info!(job.id = %key.job_id, "removed the message of a cancelled job");
            }
            return Ok(());
        }
        if self.oldest.as_ref().is_none_or(|oldest| job.created_at < oldest.since) {
            self.oldest = Some(UnfinishedJob { key: key.clone(), since: job.created_at });
        }
        // Jobs beyond the limit are skipped. A later scan finds them when these suspects are final.
        let is_old = age > self.grace && self.suspects.len() < SUSPECTS_MAX;
        if is_old && self.sweep.has_no_message(&key).await? {
            debug!(job.id = %key.job_id, "job has no message; checking again in the next sweep");
            self.suspects.insert(key, stored.revision);
        }
        Ok(())
    }

    async fn scan_objects(
        &mut self,
        store: ObjectStore,
        now: Timestamp,
        valid: &watch::Receiver<Instant>,
    ) -> Result<(), Error> {
        for _ in 0..OBJECTS_PER_SWEEP {
            if Instant::now() >= *valid.borrow() {
                return Ok(());
            }
            let from = self.next_objects.get(&store).copied().unwrap_or(1);
            let Some(object) = self.sweep.next_object(store, from).await? else {
                self.next_objects.remove(&store);
                return Ok(());
            };
            self.next_objects.insert(store, object.sequence.saturating_add(1));
            if age(object.written_at, now) > self.grace
                && self.sweep.remove_unreferenced(store, &object).await?
            {
                self.metrics.record_sweep_action(match store {
                    ObjectStore::Documents => metrics::SweepAction::UnreferencedDocument,
                    ObjectStore::Results => metrics::SweepAction::UnreferencedResult,
                });
                let store = store.name();
                let stream_sequence = object.sequence;
                info!(store, stream_sequence, "removed an unreferenced object");
            }
        }
        Ok(())
    }

    /// Removes the chunks of objects that were never finished, for example because the writer
    /// crashed.
    async fn remove_orphans(
        &mut self,
        store: ObjectStore,
        now: Timestamp,
        valid: &watch::Receiver<Instant>,
    ) -> Result<(), Error> {
        let orphans: Vec<Orphan> = self.sweep.find_orphans(store, OBJECTS_PER_SWEEP).await?;
        for orphan in orphans {
            if Instant::now() >= *valid.borrow() {
                return Ok(());
            }
            if self.sweep.remove_orphan(store, &orphan, now, self.chunk_grace).await? {
                self.metrics.record_sweep_action(metrics::SweepAction::UnfinishedObject);
                info!(store = store.name(), "removed the chunks of an unfinished object");
            }
        }
        Ok(())
    }

    /// Reports the age of the oldest unfinished job, and warns if it exceeds `alarm_age`. The scan
    /// covers records and the queue covers messages; the oldest job may be in only one of them.
    async fn raise_alarm(&mut self, now: Timestamp) -> Result<(), Error> {
        if let Some(oldest) = &self.oldest
            && !self.sweep.is_unfinished(&oldest.key).await?
        {
            self.oldest = None;
        }
        let mut oldest = self.oldest.clone();
        if let Some(first) = self.sweep.oldest_message().await?
            && oldest.as_ref().is_none_or(|oldest| first.since < oldest.since)
            && self.sweep.is_unfinished(&first.key).await?
        {
            oldest = Some(first);
        }
        self.queue_status.record_sweep(oldest.as_ref().map(|oldest| age(oldest.since, now)));
        if let Some(UnfinishedJob { key, since }) = oldest {
            let age = age(since, now);
            if age > self.alarm_age {
                warn!(
                    job.id = %key.job_id,
                    age_s = age.as_secs(),
                    "oldest unfinished job exceeds WORDMILL_ALARM_AGE"
                );
            }
        }
        Ok(())
    }
}
