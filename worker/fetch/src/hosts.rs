//! Limits the number of concurrent fetches from one host.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Slots of all hosts with running fetches.
#[derive(Debug)]
pub(super) struct HostSlots {
    per_host_max: usize,
    hosts: Mutex<HashMap<String, Weak<Semaphore>>>,
}

/// Right to fetch from a host, released on drop.
#[derive(Debug)]
pub struct HostPermit {
    _permit: OwnedSemaphorePermit,
}

impl HostSlots {
    /// Creates slots for any number of hosts, `per_host_max` for each.
    pub(super) fn new(per_host_max: usize) -> Self {
        Self { per_host_max, hosts: Mutex::default() }
    }

    /// Waits for a free slot, in order of arrival. The caller limits the wait.
    pub(super) async fn acquire(&self, host: &str) -> HostPermit {
        // `example.com.` is the same host with an explicit root.
        let semaphore = self.semaphore(host.trim_end_matches('.'));
        #[expect(clippy::expect_used, reason = "nothing closes these semaphores")]
        let permit = semaphore.acquire_owned().await.expect("the semaphore is open");
        HostPermit { _permit: permit }
    }

    /// Acquires a slot if one is free.
    pub(super) fn try_acquire(&self, host: &str) -> Option<HostPermit> {
        let semaphore = self.semaphore(host.trim_end_matches('.'));
        semaphore.try_acquire_owned().ok().map(|permit| HostPermit { _permit: permit })
    }

    fn semaphore(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = hosts.get(host).and_then(Weak::upgrade) {
            return semaphore;
        }
        // Only fetches that hold or await a slot keep a semaphore alive. Removing the others before
        // each insertion limits the map to the number of running fetches.
        hosts.retain(|_, semaphore| semaphore.strong_count() > 0);
        let semaphore = Arc::new(Semaphore::new(self.per_host_max));
        hosts.insert(host.to_owned(), Arc::downgrade(&semaphore));
        semaphore
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn excess_fetches_wait_and_other_hosts_do_not() {
        let slots = HostSlots::new(2);
        let first = slots.acquire("a.test").await;
        let _second = slots.acquire("a.test").await;
        assert!(slots.acquire("a.test").now_or_never().is_none());
        assert!(slots.acquire("a.test.").now_or_never().is_none());
        assert!(slots.acquire("b.test").now_or_never().is_some());
        drop(first);
        assert!(slots.acquire("a.test").now_or_never().is_some());
    }

    #[tokio::test]
    async fn hosts_without_fetches_are_removed() {
        let slots = HostSlots::new(1);
        let _held_slot = slots.acquire("held.test").await;
        for number in 0..100 {
            slots.acquire(&format!("{number}.test")).await;
        }
        assert!(slots.hosts.lock().unwrap().len() <= 2);
    }
}
