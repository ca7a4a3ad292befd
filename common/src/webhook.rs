//! Webhooks: notifications of a final job, in the format of Standard Webhooks 1.0.
//!
//! The record of the job contains the URL of the receiver. The state of the delivery
//! ([`Deliveries`]) is stored separately, because a final record never changes. The body depends on
//! the final record only.

mod deliveries;
pub mod notification;
mod schedule;
mod secrets;

use serde::{Deserialize, Serialize};

pub use self::deliveries::{ATTEMPT_TIME_MAX, Attempt, Deliveries, FORMAT, Status, WebhookOutcome};
pub use self::schedule::{ATTEMPTS_MAX, SCHEDULE, Schedule};
pub use self::secrets::{InvalidSecrets, Secrets};

/// Receiver of the notification about a final job: part of the message and of the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Absolute `http` or `https` URL of the receiver, set by the client.
    pub url: String,
}
