//! Batches: many jobs in one request.

mod members;
mod merge;
mod refusals;
