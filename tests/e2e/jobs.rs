//! Jobs of the v1 API on a healthy broker: from a submission to its results.

mod address_guard;
mod attempts;
mod cancel;
mod counting;
mod dead_letters;
pub(crate) mod document_retention;
mod documents;
mod endings;
mod event_stream;
mod explain;
mod idempotency;
mod keep_alive;
mod listing;
mod long_poll;
mod record_retention;
mod result_formats;
mod retry;
mod samples;
mod warnings;
