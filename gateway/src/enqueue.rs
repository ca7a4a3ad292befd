//! From the message of a job to an accepted job.

pub(crate) mod gauge;
pub(crate) mod keyed;
pub(crate) mod publish;
pub(crate) mod room;
