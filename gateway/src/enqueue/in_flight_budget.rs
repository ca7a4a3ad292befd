//! The memory that submissions share, while their bodies arrive and until the broker has them:
//! neither slow clients nor a slow broker can fill it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wordmill_common::source::Source;
use wordmill_nats::documents::{CHUNK_BYTES, CHUNKS_UNCONFIRMED_MAX};

use crate::http::problem::{Code, Problem};

/// Most kibibytes of bodies that arrive and of jobs on their way to the broker: 2048 small jobs, or
/// 64 texts of 1 MiB, or 51 documents of any size.
const KIB_MAX: u32 = 64 << 10;
/// What a job weighs at least, in kibibytes: its record, its headers, its task.
const JOB_KIB_MIN: u32 = 32;

/// The room that submissions share.
#[derive(Debug, Clone)]
pub(crate) struct InFlightBudget(Arc<Semaphore>);

impl InFlightBudget {
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

    /// Returns the share of a body that arrives, which is empty at first.
    pub(crate) fn share(&self) -> BodyShare {
        BodyShare { budget: self.clone(), permit: None }
    }

    /// Returns how much is taken, in bytes.
    pub(crate) fn used_bytes(&self) -> usize {
        self.bytes().saturating_sub(self.0.available_permits() << 10)
    }

    /// Returns how much there is, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(KIB_MAX).unwrap_or(Semaphore::MAX_PERMITS) << 10
    }

    fn take_kib(&self, kib: u32) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_many_owned(kib).map_err(|_| {
            let detail = "The gateway's memory for submissions is full. Try again.";
            Problem::new(Code::Overloaded, detail)
        })
    }
}

/// The room of a body, for as long as it is held in memory.
#[derive(Debug)]
pub(crate) struct BodyShare {
    budget: InFlightBudget,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyShare {
    /// Takes or frees room, so that the share is that of a body of `bytes`, in whole kibibytes.
    ///
    /// # Errors
    /// `overloaded`; the share is then what it was.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Problem> {
        let kib = bytes.div_ceil(1024);
        let reserved_kib = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if let Some(more) = kib.checked_sub(reserved_kib).filter(|more| *more > 0) {
            let more = self.budget.take_kib(u32::try_from(more).unwrap_or(u32::MAX))?;
            match &mut self.permit {
                Some(permit) => permit.merge(more),
                None => self.permit = Some(more),
            }
        } else if let Some(permit) = &mut self.permit {
            drop(permit.split(reserved_kib.saturating_sub(kib)));
        }
        Ok(())
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

    #[test]
    fn a_share_grows_and_shrinks_with_its_body_and_is_given_back() {
        let budget = InFlightBudget::new();
        let mut share = budget.share();
        for (bytes, kib) in [(1, 1), (1024, 1), (1025, 2), (1 << 20, 1024), (100, 1), (0, 0)] {
            share.resize(bytes).unwrap();
            assert_eq!(budget.used_bytes(), kib << 10, "{bytes}");
        }
        share.resize(budget.bytes()).unwrap();
        assert!(share.resize(budget.bytes() + 1).unwrap_err().has_code(Code::Overloaded));
        assert!(budget.share().resize(1).is_err());
        assert_eq!(budget.used_bytes(), budget.bytes());
        drop(share);
        assert_eq!(budget.used_bytes(), 0);
    }

    fn text(bytes: usize) -> Source {
        Source::Text { text: "a".repeat(bytes) }
    }

    #[test]
    fn the_room_is_bounded_by_count_and_by_bytes_and_given_back() {
        for (size, fit) in [(1, 2048), (32 << 10, 2048), (1 << 20, 64), (2 << 20, 32)] {
            let budget = InFlightBudget::new();
            let mut permits: Vec<_> = (0..fit).map(|_| budget.take(&text(size)).unwrap()).collect();
            assert!(budget.take(&text(1)).is_err(), "{size}");
            permits.pop();
            assert!(budget.take(&text(size)).is_ok(), "{size}");
        }
    }
}
