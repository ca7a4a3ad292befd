//! Intake: parses and validates submissions, from the bytes of a request to the message of a job.

pub(crate) mod idempotency_key;
pub(crate) mod json_body;
pub(crate) mod media_type;
pub(crate) mod multipart;
pub(crate) mod new_job;
pub(crate) mod pieces;
pub(crate) mod query;
pub mod upload;
