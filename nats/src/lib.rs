//! Everything Wordmill does with JetStream.
//!
//! - [`connect`]: one connection per role, and what the server must offer; [`supervise`]: its health
//! - [`topology`]: every stream, consumer and bucket, as data; [`provision`] creates them
//! - [`global_account`]: streams that a version without accounts has left behind
//! - [`stream_read`]: whom to ask, a replica or the leader
//! - [`queue`]: jobs go in; [`pull`]: deliveries come out; [`delivery`]: one of them
//! - [`acks`], [`ack_checks`]: whether the broker accepts acknowledgements
//! - [`store`]: the only place that persists a change of a job's record
//! - [`documents`]: inputs too large for a message
//! - [`listing`]: the records of one owner, newest change first
//! - [`results`]: histograms too large for the record
//! - [`events`]: the live changes of a record
//! - [`lease`]: duties that one process at a time has; [`sweep`]: what nobody else cleans up
//! - [`presence`]: which workers there are
//! - [`dead_letters`]: jobs that nobody could finish
//! - [`webhooks`]: who is to be told how a job ended, and how that is doing
//! - [`spans`]: what is recorded of all this, and how traces travel
//!
//! The rest of the workspace speaks of jobs; subjects, streams and acknowledgements stay in here.

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
