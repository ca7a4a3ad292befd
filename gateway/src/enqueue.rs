//! Enqueueing: from the message of a new job to an accepted job.

pub(crate) mod backpressure;
pub(crate) mod idempotent;
pub(crate) mod in_flight_budget;
pub(crate) mod publish;
