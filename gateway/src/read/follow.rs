//! Waiting for a job: one record followed, for whoever asked to be told of its changes.
//!
//! A change comes as a plain message on the record's own subject: the broker filters, keeps nothing
//! and needs no consumer, however many wait. Such a message may be lost, so the subscription comes
//! first, then the record is read, unless the job is put in only then; and it is read again from time to
//! time and after every reconnection.

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

/// Longest wait that a request may ask for, in seconds.
pub(crate) const WAIT_S_MAX: u64 = 60;
/// How often a record is read again although nothing was heard.
const REREAD_INTERVAL: Duration = Duration::from_secs(5);
/// When a record is read for the first time that was not read after the subscription. In a cluster the server
/// that tells of a change may not know of the subscription yet; most jobs have ended by then.
const FIRST_READ_AFTER: Duration = Duration::from_millis(500);
/// Header with what the client would like.
const PREFER: &str = "prefer";

/// Places for those who wait. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Waiters {
    places: Arc<Semaphore>,
    places_max: usize,
    /// Cancelled when the service stops: nobody waits any longer.
    stopping: CancellationToken,
}

impl Waiters {
    /// Returns `count` places, for as long as the service is not `stopping`.
    pub(crate) fn new(count: u32, stopping: CancellationToken) -> Self {
        let places_max = usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(places_max)), places_max, stopping }
    }

    /// Returns how many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits())
    }

    /// Returns how many may.
    pub(crate) fn waiting_max(&self) -> usize {
        self.places_max
    }

    fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let detail = "Too many clients wait for jobs at this gateway. Come back, or poll \
                          without waiting.";
            Problem::new(Code::TooManyWaiting, detail)
        })
    }
}

/// What the end of a wait was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FollowEvent {
    /// The record is another one now.
    Change,
    /// The record is gone.
    Gone,
    /// The service stops.
    Stopping,
}

/// Hears of a job's changes from the moment that it is opened; the job need not be there yet.
#[derive(Debug)]
struct Listener {
    app: App,
    key: JobKey,
    events: RecordSubscription,
    /// The connection on which the subscription was last known to have missed nothing.
    connection: u64,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// `too_many_waiting` and `broker_unavailable`.
    async fn open(app: &App, key: &JobKey) -> Result<Self, Problem> {
        let permit = app.waiters.take()?;
        let connection = app.broker.connection_number();
        let subscribing =
            tokio::time::timeout(BROKER_DEADLINE, RecordSubscription::subscribe(&app.broker, key));
        let events = subscribing.await.map_err(|_| {
            Problem::new(Code::BrokerUnavailable, "The store does not answer. Try again.")
        })??;
        Ok(Self { app: app.clone(), key: key.clone(), events, connection, _permit: permit })
    }

    /// Follows the job from how it was at some time since the listener was opened, and reads its record after
    /// `quiet`.
    fn follow(self, current: RawRecord, quiet: Duration) -> Follower {
        Follower { listener: self, current, reread_at: Instant::now() + quiet }
    }
}

/// One job that somebody waits for.
#[derive(Debug)]
pub(crate) struct Follower {
    listener: Listener,
    current: RawRecord,
    reread_at: Instant,
}

impl Follower {
    /// Begins to follow a job that has to exist.
    ///
    /// # Errors
    /// `too_many_waiting`, and those of [`find_job::require_raw`].
    pub(crate) async fn start(app: &App, key: &JobKey) -> Result<Self, Problem> {
        let listener = Listener::open(app, key).await?;
        let current = find_job::require_raw(app, key).await?.detach();
        Ok(listener.follow(current, REREAD_INTERVAL))
    }

    /// Returns the job that is followed.
    pub(crate) fn key(&self) -> &JobKey {
        &self.listener.key
    }

    /// Returns the record as it is known.
    pub(crate) fn current(&self) -> &RawRecord {
        &self.current
    }

    /// Waits until the record changes. Changes that came in quick succession are one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> FollowEvent {
        loop {
            let Listener { app, events, connection, .. } = &mut self.listener;
            let stopping = app.waiters.stopping.clone();
            let event = tokio::select! {
                () = stopping.cancelled() => return FollowEvent::Stopping,
                record = events.next() => self.newest(record),
                connection = app.broker.wait_for_reconnection(*connection) => {
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

    /// Waits until the job is as it is wanted, and returns it as it is then, or at the `end`.
    ///
    /// # Errors
    /// `result_expired`.
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

    /// Takes a change, and those that came after it.
    fn newest(&mut self, mut record: Lookup<RawRecord>) -> Option<FollowEvent> {
        let mut event = None;
        loop {
            event = self.take(record).or(event);
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
            Ok(Ok(record)) => self.take(record),
            // Whoever waits goes on waiting: the broker may be back in time.
            Ok(Err(error)) => {
                debug!(job.id = %key.job_id, %error, "a followed record cannot be read");
                None
            }
            Err(_) => None,
        }
    }

    /// Keeps a record that is newer than the one that is known.
    fn take(&mut self, record: Lookup<RawRecord>) -> Option<FollowEvent> {
        match record {
            Lookup::Job(record) if record.revision > self.current.revision => {
                self.current = record.detach();
                Some(FollowEvent::Change)
            }
            Lookup::Deleted => Some(FollowEvent::Gone),
            // A replica that is behind; or a record that is not written yet, or was taken back.
            Lookup::Job(_) | Lookup::NotFound => None,
        }
    }
}

/// Waits until a job that exists is as it is wanted, and returns it as it is then, or at the end.
///
/// # Errors
/// Those of [`Follower::start`], and `result_expired`.
pub(crate) async fn wait_until(
    app: &App,
    key: &JobKey,
    wait: Duration,
    predicate: impl Fn(&RawRecord) -> bool,
) -> Result<RawRecord, Problem> {
    let end = Instant::now() + wait;
    Follower::start(app, key).await?.wait_until(end, predicate).await
}

/// A client's preference to be answered when its job has ended: `Prefer: wait=10`.
#[derive(Debug)]
pub(crate) struct PreferWait {
    /// For how long it would wait.
    pub(crate) wait: Duration,
    listener: Option<Box<Listener>>,
}

impl PreferWait {
    /// Reads the preference, and begins to listen to the job before it is accepted. So nothing has to be
    /// read of it afterwards.
    pub(crate) async fn of(app: &App, key: &JobKey, headers: &HeaderMap) -> Option<Self> {
        let wait = parse_prefer_wait(headers)?;
        let listener = match app.broker.is_connected() {
            true => Box::pin(Listener::open(app, key)).await.ok().map(Box::new),
            // The one who accepts the job waits for a connection, once.
            false => None,
        };
        Some(Self { wait, listener })
    }

    /// Waits until a job that was accepted has ended, and returns it as it is then, or at the end of the wait.
    ///
    /// # Errors
    /// Those of [`Follower::start`], and `result_expired`.
    pub(crate) async fn wait_for_end(self, app: &App, job: &Job) -> Result<RawRecord, Problem> {
        let end = Instant::now() + self.wait;
        let follower = match self.listener {
            Some(listener) => listener.follow(RawRecord::of_new_job(job)?, FIRST_READ_AFTER),
            None => Follower::start(app, &job.key()).await?,
        };
        follower.wait_until(end, |record| record.status.is_final()).await
    }
}

/// Returns how long a client would like to wait for its job: `Prefer: wait=10`. What cannot be
/// understood is no preference, and more than the most counts as the most.
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
    fn the_preference_to_wait_is_found_among_others_and_bounded() {
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
