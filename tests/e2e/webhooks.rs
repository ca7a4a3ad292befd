//! Webhooks: requests that report a final job to a URL of the client.

mod batch_tls_cluster;
pub(crate) mod delivery;
mod faults;
