//! Black-box tests of the running system.

mod auth;
mod batches;
mod broker_faults;
mod cli;
mod contract;
mod http;
mod jobs;
mod lifecycle;
mod observability;
mod queue;
mod webhooks;
