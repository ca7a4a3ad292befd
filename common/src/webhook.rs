//! Webhooks: a receiver is told how a job ended, as Standard Webhooks 1.0 describes it.
//!
//! The job's record says where to; [`Deliveries`] says how that is going and lives elsewhere, because a
//! final record never changes. What is sent follows from the record alone.

mod deliveries;
pub mod notification;
mod schedule;
mod secrets;

use serde::{Deserialize, Serialize};

pub use self::deliveries::{ATTEMPT_TIME_MAX, Answer, Attempt, Deliveries, FORMAT, Status};
pub use self::schedule::{ATTEMPTS_MAX, SCHEDULE, Schedule};
pub use self::secrets::{Invalid, Secrets};

/// Where to tell how a job ended: part of its message and its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// The receiver.
    pub url: String,
}
