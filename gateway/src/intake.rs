//! From the bytes of a request to the message of a job.

pub(crate) mod body;
pub(crate) mod form;
pub(crate) mod idempotency_key;
pub(crate) mod media;
pub(crate) mod new_job;
pub(crate) mod pieces;
pub(crate) mod query;
pub mod upload;
