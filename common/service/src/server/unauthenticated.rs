//! Connections without an authenticated request, the oldest first.
//!
//! Each one costs memory before its client is authenticated, so their number is limited. At the
//! limit, the oldest is closed to make room, and the newest is accepted. A client with a valid key
//! sends its first request soon, while a hostile client keeps its connections open as long as it
//! can.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Minimum time that a connection has for its first request, regardless of the number of others.
/// Until then, the next client waits to be accepted, so that a burst of clients is not mistaken for
/// an attack. A distant client needs two round trips for TLS and its request, and more time on a
/// busy machine.
const FIRST_REQUEST_TIME: Duration = Duration::from_millis(500);
/// Minimum time between two log messages about closed connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// List of all connections without an authenticated request. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct UnauthenticatedConnections(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    count_max: usize,
    state: Mutex<State>,
    /// Wakes the accepting task when a connection leaves the list.
    room_freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Open connections by number, which is the order of arrival.
    open: BTreeMap<u64, OpenConnection>,
    last_number: u64,
    logged_at: Option<Instant>,
}

#[derive(Debug)]
struct OpenConnection {
    since: Instant,
    close_token: CancellationToken,
}

/// Handle of a connection, passed to its requests. Clones share it.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Entry>);

/// Removes the connection from the list when the last handle is dropped.
#[derive(Debug)]
struct Entry {
    number: u64,
    list: UnauthenticatedConnections,
}

impl UnauthenticatedConnections {
    pub(super) fn new(count_max: usize) -> Self {
        let state = Mutex::default();
        let room_freed = Notify::new();
        Self(Arc::new(Registry { count_max, state, room_freed }))
    }

    /// Waits while the list exceeds its limit, and closes the oldest connection after
    /// [`FIRST_REQUEST_TIME`]. Called before each `accept`, so the limit is exceeded by at most one
    /// connection. Cancel-safe.
    pub(super) async fn make_room(&self) {
        while let Some(wait) = self.try_make_room() {
            tokio::select! {
                () = self.0.room_freed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Closes the oldest connection if the list exceeds its limit. Returns the time that this
    /// connection still has, or `None` if there is room.
    pub(super) fn try_make_room(&self) -> Option<Duration> {
        let mut state = self.state();
        if state.open.len() <= self.0.count_max {
            return None;
        }
        let oldest = state.open.first_entry()?;
        let wait = FIRST_REQUEST_TIME.checked_sub(oldest.get().since.elapsed());
        if wait.is_some_and(|wait| !wait.is_zero()) {
            return wait;
        }
        // Its task drops the connection, and the client sees it closed.
        oldest.remove().close_token.cancel();
        if state.logged_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            state.logged_at = Some(Instant::now());
            warn!(
                unauthenticated_max = self.0.count_max,
                "too many open connections; closing the oldest without an authenticated request"
            );
        }
        None
    }

    /// Adds a connection. The returned token is cancelled when the connection must be closed.
    pub(super) fn add(&self) -> (Connection, CancellationToken) {
        let close_token = CancellationToken::new();
        let mut state = self.state();
        state.last_number = state.last_number.wrapping_add(1);
        let number = state.last_number;
        state.open.insert(
            number,
            OpenConnection { since: Instant::now(), close_token: close_token.clone() },
        );
        drop(state);
        (Connection(Arc::new(Entry { number, list: self.clone() })), close_token)
    }

    fn remove(&self, number: u64) {
        if self.state().open.remove(&number).is_some() {
            self.0.room_freed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the list inconsistent.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Marks the connection as authenticated, so that it is not closed to make room.
    pub fn mark_authenticated(&self) {
        self.0.list.remove(self.0.number);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.list.remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_unauthenticated_connection_is_closed_after_its_grace_time() {
        let list = UnauthenticatedConnections::new(1);
        let (first, first_closed) = list.add();
        let second_added_at = Instant::now();
        let (second, second_closed) = list.add();
        first.mark_authenticated();
        list.make_room().await;
        assert!(!second_closed.is_cancelled(), "there is room");
        let (third, third_closed) = list.add();
        list.make_room().await;
        assert!(second_closed.is_cancelled() && !third_closed.is_cancelled());
        assert!(second_added_at.elapsed() >= FIRST_REQUEST_TIME);
        let (fourth, fourth_closed) = list.add();
        drop(third);
        list.make_room().await;
        drop((first, second, fourth));
        assert!(!first_closed.is_cancelled() && !third_closed.is_cancelled());
        assert!(!fourth_closed.is_cancelled());
        assert!(list.state().open.is_empty());
    }

    #[tokio::test]
    async fn an_authenticated_connection_frees_its_place_immediately() {
        let list = UnauthenticatedConnections::new(0);
        let (connection, closed) = list.add();
        let authenticate = async {
            tokio::task::yield_now().await;
            connection.mark_authenticated();
        };
        tokio::join!(list.make_room(), authenticate);
        assert!(!closed.is_cancelled());
    }
}
