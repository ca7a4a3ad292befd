//! Domain types of Wordmill: jobs, events, messages, options, histograms, failures, warnings,
//! retries and webhooks.
//!
//! This crate does not depend on NATS, HTTP or OpenTelemetry. Start reading at [`job::Job::apply`],
//! a pure function that makes every change of a job's state.

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
pub mod warning;
pub mod webhook;
