//! Memory budget of submissions, from the arrival of their bodies until the broker has confirmed
//! them. It bounds the memory that slow clients or a slow broker can occupy.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wordmill_common::source::Source;
use wordmill_nats::documents::{CHUNK_BYTES, CHUNKS_UNCONFIRMED_MAX};

use crate::http::problem::{Code, Problem};

/// Total of the budget in KiB. It suffices for 2048 small jobs, or 64 texts of 1 MiB, or 51
/// documents of any size at the same time.
const KIB_MAX: u32 = 64 << 10;
/// Minimum size of a job in the budget, in KiB, for its record, its headers and its task.
const JOB_KIB_MIN: u32 = 32;

/// Memory budget that all submissions share. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct InFlightBudget(Arc<Semaphore>);

impl InFlightBudget {
    /// Creates an unused budget.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(usize::try_from(KIB_MAX).unwrap_or(Semaphore::MAX_PERMITS))))
    }

    /// Reserves memory for a job with this source until the permit is dropped.
    ///
    /// # Errors
    /// `overloaded` if the budget is used up. The request is not queued instead, because a waiting
    /// request needs memory, too.
    pub(crate) fn reserve(&self, source: &Source) -> Result<OwnedSemaphorePermit, Problem> {
        self.reserve_kib(size_kib(source))
    }

    /// Reserves memory for the upload of a document, which does not depend on the size of the
    /// document.
    ///
    /// # Errors
    /// `overloaded` if the budget is used up.
    pub(crate) fn reserve_upload(&self) -> Result<OwnedSemaphorePermit, Problem> {
        // The unconfirmed chunks, the chunk that is being filled, and one that arrives.
        let bytes = CHUNK_BYTES.saturating_mul(CHUNKS_UNCONFIRMED_MAX.saturating_add(2));
        self.reserve_kib(u32::try_from(bytes >> 10).unwrap_or(KIB_MAX))
    }

    /// Creates an empty reservation for a body that is arriving.
    pub(crate) fn reserve_body(&self) -> BodyReservation {
        BodyReservation { budget: self.clone(), permit: None }
    }

    /// Returns the reserved memory, in bytes.
    pub(crate) fn used_bytes(&self) -> usize {
        self.bytes().saturating_sub(self.0.available_permits() << 10)
    }

    /// Returns the total of the budget, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(KIB_MAX).unwrap_or(Semaphore::MAX_PERMITS) << 10
    }

    fn reserve_kib(&self, kib: u32) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_many_owned(kib).map_err(|_| {
            let detail = "The gateway's memory for submissions is full. Try again later.";
            Problem::new(Code::Overloaded, detail)
        })
    }
}

/// Reservation for a body that is held in memory. Released when dropped.
#[derive(Debug)]
pub(crate) struct BodyReservation {
    budget: InFlightBudget,
    permit: Option<OwnedSemaphorePermit>,
}

impl BodyReservation {
    /// Grows or shrinks the reservation to a body of `bytes`, in whole KiB.
    ///
    /// # Errors
    /// `overloaded` if the budget is used up. The reservation is then unchanged.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Problem> {
        let kib = bytes.div_ceil(1024);
        let reserved_kib = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        // Only the difference is reserved or released, so that a growing body never holds its
        // memory twice.
        if let Some(more) = kib.checked_sub(reserved_kib).filter(|more| *more > 0) {
            let more = self.budget.reserve_kib(u32::try_from(more).unwrap_or(u32::MAX))?;
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

fn size_kib(source: &Source) -> u32 {
    u32::try_from(source.inline_bytes().div_ceil(1024))
        .unwrap_or(KIB_MAX)
        .clamp(JOB_KIB_MIN, KIB_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_follows_the_size_of_its_body_and_is_released() {
        let budget = InFlightBudget::new();
        let mut reservation = budget.reserve_body();
        for (bytes, kib) in [(1, 1), (1024, 1), (1025, 2), (1 << 20, 1024), (100, 1), (0, 0)] {
            reservation.resize(bytes).unwrap();
            assert_eq!(budget.used_bytes(), kib << 10, "{bytes}");
        }
        reservation.resize(budget.bytes()).unwrap();
        assert!(reservation.resize(budget.bytes() + 1).unwrap_err().has_code(Code::Overloaded));
        assert!(budget.reserve_body().resize(1).is_err());
        assert_eq!(budget.used_bytes(), budget.bytes());
        drop(reservation);
        assert_eq!(budget.used_bytes(), 0);
    }

    fn text(bytes: usize) -> Source {
        Source::Text { text: "a".repeat(bytes) }
    }

    #[test]
    fn the_budget_is_bounded_and_released() {
        for (size, fit) in [(1, 2048), (32 << 10, 2048), (1 << 20, 64), (2 << 20, 32)] {
            let budget = InFlightBudget::new();
            let mut permits: Vec<_> =
                (0..fit).map(|_| budget.reserve(&text(size)).unwrap()).collect();
            assert!(budget.reserve(&text(1)).is_err(), "{size}");
            permits.pop();
            assert!(budget.reserve(&text(size)).is_ok(), "{size}");
        }
    }
}
