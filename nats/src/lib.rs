//! Access to NATS JetStream: the work queue, the job records, the object stores and the webhooks.
//!
//! - [`connect`]: one connection per role, and the checks of the server; [`supervise`]: its health
//! - [`topology`]: all streams, consumers and buckets, as data; [`provision`]: creates them
//! - [`global_account`]: finds streams that a version without accounts left behind
//! - [`stream_read`]: reads from any replica or from the leader
//! - [`queue`]: publishes jobs; [`pull`]: pulls them; [`delivery`]: one message and its replies
//! - [`acks`], [`ack_checks`]: check that the broker accepts acknowledgements
//! - [`store`]: job records, changed by compare-and-set only here; [`job_record`]: parses them
//! - [`documents`]: inputs too large for a message
//! - [`listing`]: the records of one owner, most recently changed first
//! - [`results`]: histograms too large for a record
//! - [`events`]: live changes of a record
//! - [`lease`]: duties that one process performs at a time; [`sweep`]: lost jobs and orphaned data
//! - [`presence`]: the list of running workers
//! - [`dead_letters`]: the messages of jobs that used up all attempts
//! - [`webhooks`]: the webhook queue, and the delivery state of each webhook
//! - [`spans`]: tracing spans, and the trace context in message headers
//!
//! The other crates deal with jobs. Only this one handles subjects, streams and acknowledgements.

pub mod ack_checks;
pub mod acks;
mod backward_scan;
pub mod connect;
mod connection;
pub mod dead_letters;
pub mod delivery;
pub mod documents;
mod error;
pub mod events;
pub mod global_account;
mod headers;
pub mod job_record;
pub mod lease;
pub mod listing;
mod objects;
pub mod presence;
pub mod provision;
pub mod pull;
pub mod queue;
pub mod results;
pub mod spans;
pub mod store;
pub mod stream_read;
mod subject;
pub mod supervise;
pub mod sweep;
pub mod topology;
pub mod webhooks;

pub use error::Error;
