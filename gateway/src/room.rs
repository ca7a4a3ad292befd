//! How much may be on its way to the broker at once: a slow broker must not fill our memory.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wordmill_common::source::Source;
use wordmill_nats::documents::{CHUNK_BYTES, CHUNKS_UNCONFIRMED_MAX};

use crate::problem::{Code, Problem};

/// Most kibibytes of jobs on their way to the broker: 2048 small ones, or 64 texts of 1 MiB, or 51
/// documents of any size.
const KIB_MAX: u32 = 64 << 10;
/// What a job weighs at least, in kibibytes: its record, its headers, its task.
const JOB_KIB_MIN: u32 = 32;

/// The room that submissions share.
#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    /// Returns an empty room.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(usize::try_from(KIB_MAX).unwrap_or(Semaphore::MAX_PERMITS))))
    }

    /// Takes the room that a job with this source needs, until the permit is dropped.
    ///
    /// # Errors
    /// `overloaded`: waiting for room would need some, too.
    pub(crate) fn take(&self, source: &Source) -> Result<OwnedSemaphorePermit, Problem> {
        self.take_kib(weight(source))
    }

    /// Takes the room that a document needs on its way into the store, whatever its size.
    ///
    /// # Errors
    /// `overloaded`.
    pub(crate) fn take_upload(&self) -> Result<OwnedSemaphorePermit, Problem> {
        // Those that are unconfirmed, the one that is filled, and one that arrives.
        let bytes = CHUNK_BYTES.saturating_mul(CHUNKS_UNCONFIRMED_MAX.saturating_add(2));
        self.take_kib(u32::try_from(bytes >> 10).unwrap_or(KIB_MAX))
    }

    /// Returns how much is taken, in bytes.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.bytes().saturating_sub(self.0.available_permits() << 10)
    }

    /// Returns how much there is, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(KIB_MAX).unwrap_or(Semaphore::MAX_PERMITS) << 10
    }

    fn take_kib(&self, kib: u32) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_many_owned(kib).map_err(|_| {
            let detail = "Too many submissions wait for the queue's answer. Nothing was queued.";
            Problem::new(Code::Overloaded, detail)
        })
    }
}

fn weight(source: &Source) -> u32 {
    u32::try_from(source.inline_bytes().div_ceil(1024))
        .unwrap_or(KIB_MAX)
        .clamp(JOB_KIB_MIN, KIB_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Source {
        Source::Text { text: "a".repeat(bytes) }
    }

    #[test]
    fn the_room_is_bounded_by_count_and_by_bytes_and_given_back() {
        for (size, fit) in [(1, 2048), (32 << 10, 2048), (1 << 20, 64), (2 << 20, 32)] {
            let room = Room::new();
            let mut taken: Vec<_> = (0..fit).map(|_| room.take(&text(size)).unwrap()).collect();
            assert!(room.take(&text(1)).is_err(), "{size}");
            taken.pop();
            assert!(room.take(&text(size)).is_ok(), "{size}");
        }
    }
}
