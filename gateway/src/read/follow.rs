//! Follows jobs: waits for changes of one record.
//!
//! The broker republishes each change as a plain message on the subject of the record. This
//! needs no consumer and no storage, regardless of the number of waiting clients. Plain messages
//! may be lost. The record is therefore read after the subscription, again at an interval, and
//! after each reconnection. A job that is enqueued after the subscription needs no first read.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use wordmill_common::id::JobKey;
use wordmill_common::job::Job;
use wordmill_nats::events::RecordSubscription;
use wordmill_nats::job_record::{Lookup, RawRecord};
use wordmill_nats::stream_read::ReadFrom;

use crate::App;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::read::find_job;

/// Maximum wait of a request, in seconds.
pub(crate) const WAIT_S_MAX: u64 = 60;
/// Interval at which a followed record is read again, in case a change was lost.
const REREAD_INTERVAL: Duration = Duration::from_secs(5);
/// Delay of the first read if the record was not read after the subscription. In a cluster, the
/// server that republishes a change may not know the subscription yet. After this delay most jobs
/// are final, which saves the read.
const FIRST_READ_AFTER: Duration = Duration::from_millis(500);
/// Request header with the preferences of the client (RFC 7240).
const PREFER: &str = "prefer";

/// Limits the number of clients that follow a job. Clones share the limit.
#[derive(Debug, Clone)]
pub(crate) struct Waiters {
    places: Arc<Semaphore>,
    places_max: usize,
    /// Cancelled at shutdown, which ends all waits.
    stopping: CancellationToken,
}

impl Waiters {
    /// Allows `count` clients to wait, until `stopping` is cancelled.
    pub(crate) fn new(count: u32, stopping: CancellationToken) -> Self {
        let places_max = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places_max)), places_max, stopping }
    }

    /// Returns the number of clients that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// Returns the maximum number of clients that may wait.
    pub(crate) fn waiting_max(&self) -> usize {
        self.places_max
    }

    fn acquire(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let detail = "Too many clients are waiting at this gateway. Try again, or poll without \
                          \"wait\".";
            Problem::new(Code::TooManyWaiting, detail)
        })
    }
}

/// Reason why [`Follower::next`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowEvent {
    /// The record has changed.
    Change,
    /// The record was deleted or has expired.
    Gone,
    /// The service is shutting down.
    Stopping,
}

/// A subscription to the changes of a job. The job need not exist yet.
#[derive(Debug)]
struct Listener {
    app: App,
    key: JobKey,
    events: RecordSubscription,
    /// Number of the broker connection during which no change was missed.
    connection: u64,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    /// Subscribes to the changes of a job.
    ///
    /// # Errors
    /// `too_many_waiting` if [`Waiters`] is exhausted, and `broker_unavailable`.
    async fn open(app: &App, key: &JobKey) -> Result<Self, Problem> {
        let permit = app.waiters.acquire()?;
        let connection = app.broker.connection_number();
        let subscribing =
            tokio::time::timeout(BROKER_DEADLINE, RecordSubscription::subscribe(&app.broker, key));
        let events = subscribing.await.map_err(|_| {
            Problem::new(Code::BrokerUnavailable, "The broker did not answer in time. Try again.")
        })??;
        Ok(Self { app: app.clone(), key: key.clone(), events, connection, _permit: permit })
    }

    /// Follows the job from the snapshot `current`, which was taken after the subscription. The
    /// record is read again after `quiet`.
    fn follow(self, current: RawRecord, quiet: Duration) -> Follower {
        Follower { listener: self, current, reread_at: Instant::now() + quiet }
    }
}

/// A job that a client follows.
#[derive(Debug)]
pub(crate) struct Follower {
    listener: Listener,
    current: RawRecord,
    reread_at: Instant,
}

impl Follower {
    /// Starts to follow a job that must exist.
    ///
    /// # Errors
    /// `too_many_waiting`, and those of [`find_job::require_raw`].
    pub(crate) async fn start(app: &App, key: &JobKey) -> Result<Self, Problem> {
        let listener = Listener::open(app, key).await?;
        // Read after the subscription, so that no change is missed in between.
        let current = find_job::require_raw(app, key).await?.detach();
        Ok(listener.follow(current, REREAD_INTERVAL))
    }

    /// Returns the key of the followed job.
    pub(crate) fn key(&self) -> &JobKey {
        &self.listener.key
    }

    /// Returns the latest known record.
    pub(crate) fn current(&self) -> &RawRecord {
        &self.current
    }

    /// Waits until the record changes. Changes in quick succession are reported as one.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> FollowEvent {
        loop {
            let Listener { app, events, connection, .. } = &mut self.listener;
            let stopping = app.waiters.stopping.clone();
            let event = tokio::select! {
                () = stopping.cancelled() => return FollowEvent::Stopping,
                record = events.next() => self.keep_newest(record),
                connection = app.broker.wait_for_reconnection(*connection) => {
                    // Changes may have been lost while the connection was down.
                    let read = self.reread().await;
                    self.listener.connection = connection;
                    read
                }
                () = tokio::time::sleep_until(self.reread_at) => self.reread().await,
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Waits until `predicate` holds or `end` has passed, and returns the latest record.
    ///
    /// # Errors
    /// `result_expired` if the record is removed in the meantime.
    async fn wait_until(
        mut self,
        end: Instant,
        predicate: impl Fn(&RawRecord) -> bool,
    ) -> Result<RawRecord, Problem> {
        while !predicate(&self.current) {
            match tokio::time::timeout_at(end, self.next()).await {
                Ok(FollowEvent::Change) => {}
                Ok(FollowEvent::Gone) => return Err(Problem::result_expired()),
                Ok(FollowEvent::Stopping) | Err(_) => break,
            }
        }
        Ok(self.current)
    }

    /// Takes a change and all later ones that have already arrived, and keeps the newest record.
    fn keep_newest(&mut self, mut record: Lookup<RawRecord>) -> Option<FollowEvent> {
        let mut event = None;
        loop {
            event = self.keep_if_newer(record).or(event);
            match self.listener.events.next().now_or_never() {
                Some(next) => record = next,
                None => return event,
            }
        }
    }

    async fn reread(&mut self) -> Option<FollowEvent> {
        let Listener { app, key, .. } = &self.listener;
        let reading = app.store.get_raw(key, ReadFrom::AnyReplica);
        let read = tokio::time::timeout(BROKER_DEADLINE, reading).await;
        self.reread_at = Instant::now() + REREAD_INTERVAL;
        match read {
            Ok(Ok(record)) => self.keep_if_newer(record),
            // Keep waiting: the broker may be back before the wait ends.
            Ok(Err(error)) => {
                debug!(job.id = %key.job_id, %error, "cannot read a record; still waiting");
                None
            }
            Err(_) => None,
        }
    }

    /// Keeps the record if it is newer than the current one.
    fn keep_if_newer(&mut self, record: Lookup<RawRecord>) -> Option<FollowEvent> {
        match record {
            Lookup::Job(record) if record.revision > self.current.revision => {
                self.current = record.detach();
                Some(FollowEvent::Change)
            }
            Lookup::Deleted => Some(FollowEvent::Gone),
            // An outdated read from a replica, or a record that does not exist yet or was rolled
            // back.
            Lookup::Job(_) | Lookup::NotFound => None,
        }
    }
}

/// Follows a job that must exist until `predicate` holds or `wait` has passed, and returns the
/// latest record.
///
/// # Errors
/// Those of [`Follower::start`], and `result_expired` if the record is removed in the meantime.
pub(crate) async fn wait_until(
    app: &App,
    key: &JobKey,
    wait: Duration,
    predicate: impl Fn(&RawRecord) -> bool,
) -> Result<RawRecord, Problem> {
    let end = Instant::now() + wait;
    Follower::start(app, key).await?.wait_until(end, predicate).await
}

/// The client's preference to get the response when the job is final: `Prefer: wait=10`.
#[derive(Debug)]
pub(crate) struct PreferWait {
    /// Maximum wait, at most [`WAIT_S_MAX`] seconds.
    pub(crate) wait: Duration,
    listener: Option<Box<Listener>>,
}

impl PreferWait {
    /// Parses the preference, and subscribes to the job before it is accepted. Its record need not
    /// be read afterwards.
    pub(crate) async fn of(app: &App, key: &JobKey, headers: &HeaderMap) -> Option<Self> {
        let wait = parse_prefer_wait(headers)?;
        let listener = match app.broker.is_connected() {
            true => Box::pin(Listener::open(app, key)).await.ok().map(Box::new),
            // While there is no connection, `accept` already waits for one. Waiting here, too,
            // would double the delay.
            false => None,
        };
        Some(Self { wait, listener })
    }

    /// Waits until an accepted job is final or the wait has passed, and returns the latest record.
    ///
    /// # Errors
    /// Those of [`Follower::start`], and `result_expired` if the record is removed in the meantime.
    pub(crate) async fn wait_until_final(self, app: &App, job: &Job) -> Result<RawRecord, Problem> {
        let end = Instant::now() + self.wait;
        let follower = match self.listener {
            Some(listener) => listener.follow(RawRecord::of_new_job(job)?, FIRST_READ_AFTER),
            None => Follower::start(app, &job.key()).await?,
        };
        follower.wait_until(end, |record| record.status.is_final()).await
    }
}

/// Parses `Prefer: wait=10`. An invalid preference is ignored, and a wait above [`WAIT_S_MAX`] is
/// reduced to it.
fn parse_prefer_wait(headers: &HeaderMap) -> Option<Duration> {
    let fields = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = fields.flat_map(|field| field.split(','));
    preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let seconds: u64 = value.trim().trim_matches('"').parse().ok()?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| Duration::from_secs(seconds.min(WAIT_S_MAX)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn prefer_wait_is_found_among_other_preferences_and_bounded() {
        for (values, expected) in [
            (&["wait=10"][..], Some(10)),
            (&["respond-async, wait=10"], Some(10)),
            (&["respond-async", "WAIT = \"7\" ; foo=bar"], Some(7)),
            (&["wait=100000"], Some(60)),
            (&["wait=0"], Some(0)),
            (&["wait=soon, wait=5"], Some(5)),
            (&["wait"], None),
            (&["wait=-1"], None),
            (&["return=minimal"], None),
            (&[], None),
        ] {
            let wait = parse_prefer_wait(&headers("prefer", values));
            assert_eq!(wait, expected.map(Duration::from_secs), "{values:?}");
        }
    }
}
