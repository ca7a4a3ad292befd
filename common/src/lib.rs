//! What both Wordmill services must agree on (job, source, histogram, failure, retry, message),
//! and what both start with (environment, telemetry, shutdown).
//!
//! Nothing here knows NATS or HTTP. The heart is [`job::Job::apply`]: every state a job may take,
//! in one pure function.

pub mod batch;
pub mod clock;
pub mod env;
pub mod explanation;
pub mod failure;
pub mod histogram;
pub mod id;
pub mod job;
pub mod message;
pub mod metrics;
pub mod open_name;
pub mod options;
pub mod panic;
pub mod raw_json;
pub mod readiness_probe;
pub mod retry;
pub mod secret;
pub mod shutdown;
pub mod source;
pub mod telemetry;
pub mod trace_context;
pub mod webhook;
