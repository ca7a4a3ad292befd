//! The domain of Wordmill: job, event, message, options, histogram, failure, retry, webhook.
//!
//! Nothing here knows NATS, HTTP or OpenTelemetry. The heart is [`job::Job::apply`]: every change of
//! state, in one pure function.

pub mod batch;
pub mod clock;
pub mod explanation;
pub mod failure;
pub mod histogram;
pub mod id;
pub mod job;
pub mod message;
pub mod open_name;
pub mod options;
pub mod raw_json;
pub mod retry;
pub mod secret;
pub mod source;
pub mod trace_context;
pub mod webhook;
