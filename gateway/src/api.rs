//! Request handlers, one file for each resource or action.

pub(crate) mod batches;
pub(crate) mod cancel;
pub(crate) mod dead_letters;
pub(crate) mod document_copy;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod listing;
pub(crate) mod older_contract;
pub(crate) mod queue;
pub(crate) mod results;
pub(crate) mod retry;
pub(crate) mod submit;
pub(crate) mod webhooks;
