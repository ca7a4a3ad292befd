//! Authentication of requests, rate limits and quotas.

pub mod api_keys;
pub(crate) mod caller;
pub(crate) mod limits;
