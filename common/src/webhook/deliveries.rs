//! State of a webhook: all attempts to deliver it, and the time of the next one.
//!
//! The worker persists each change by compare-and-set before it acts on it. So an attempt is made
//! only once, even if two messages about one job exist or two workers receive the same message.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::{ATTEMPTS_MAX, Schedule};
use crate::failure::{Failure, FailureCode};
use crate::id::RunNonce;
use crate::open_name::OpenName;

/// Version of the format. Readers refuse a higher one.
pub const FORMAT: u32 = 1;
/// Maximum duration of one attempt that the settings allow.
pub const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(60);
/// Time after the limit of an attempt within which its outcome must be stored. After that, the
/// attempt is treated as lost.
const ATTEMPT_WRITE_MARGIN: Duration = Duration::from_secs(5);

/// Delivery status of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WebhookStatus")]
pub enum Status {
    /// The webhook is not delivered yet.
    Waiting,
    /// The receiver accepted the webhook.
    Delivered,
    /// Delivery failed for good: no attempt is left, or the URL is blocked.
    Failed,
    /// The receiver responded with 410 (Gone), so delivery stopped.
    Disabled,
}

/// One attempt to deliver a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Number of the attempt in its round, from 1.
    pub number: u32,
    /// Time at which the attempt started.
    pub at: Timestamp,
    /// HTTP status of the receiver's response; absent if there was none.
    pub status_code: Option<u16>,
    /// Reason why there was no response. While the attempt runs, this and `status_code` are absent.
    pub failure: Option<Failure>,
}

/// State of the delivery of a webhook, stored as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// Version of this format, [`FORMAT`].
    pub format: u32,
    /// Round of the delivery: 0 for the first one. A request to send the webhook again starts a
    /// round with a higher number and without attempts.
    pub round: u64,
    /// Delivery status in this round: `waiting` until an attempt decides it or no attempt is left.
    pub status: OpenName<Status>,
    /// All attempts of the round, the oldest first; at most [`ATTEMPTS_MAX`].
    pub attempts: Vec<Attempt>,
    /// Time of the next attempt. While an attempt runs: time after which it is treated as lost.
    /// Absent when no attempt follows.
    pub next_attempt_at: Option<Timestamp>,
    /// Nonce of the running attempt; absent between attempts. Only its worker may end the attempt.
    pub under_way: Option<RunNonce>,
}

/// Outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookOutcome {
    /// The receiver sent a response.
    Status {
        /// HTTP status of the response.
        code: u16,
        /// Minimum delay that the receiver requested by `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// There was no response.
    Failure(Failure),
}

impl Deliveries {
    /// Creates the state of a webhook without attempts.
    #[must_use]
    pub fn new(round: u64) -> Self {
        Self {
            format: FORMAT,
            round,
            status: Status::Waiting.into(),
            attempts: Vec::new(),
            next_attempt_at: None,
            under_way: None,
        }
    }

    /// Starts an attempt that may take up to `limit`. If the previous attempt is still open, its
    /// worker was lost, and that attempt is recorded as failed. If it was the last attempt, the
    /// webhook has failed, and no attempt starts.
    pub fn begin_attempt(&mut self, run: RunNonce, now: Timestamp, limit: Duration) {
        if self.under_way.take().is_some()
            && let Some(lost) = self.attempts.last_mut()
        {
            lost.failure = Some(Failure::worker_crashed());
        }
        // Lost attempts count, so that the number of attempts is bounded even if workers crash.
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.end(Status::Failed);
            return;
        }
        let number = u32::try_from(self.attempts.len() + 1).unwrap_or(u32::MAX);
        self.attempts.push(Attempt { number, at: now, status_code: None, failure: None });
        self.next_attempt_at = now.checked_add(limit + ATTEMPT_WRITE_MARGIN).ok();
        self.under_way = Some(run);
    }

    /// Ends the attempt of `run` with its outcome, and schedules the next one. Returns `false` if
    /// no attempt of `run` is open.
    pub fn end_attempt(
        &mut self,
        run: RunNonce,
        outcome: &WebhookOutcome,
        schedule: Schedule,
        now: Timestamp,
    ) -> bool {
        let Some(attempt) = self.attempts.last_mut().filter(|_| self.under_way == Some(run)) else {
            return false;
        };
        let number = attempt.number;
        let mut requested_delay = None;
        let mut may_retry = true;
        self.under_way = None;
        match outcome {
            WebhookOutcome::Status { code, retry_after } => {
                attempt.status_code = Some(*code);
                requested_delay = *retry_after;
                match code {
                    200..=299 => return self.end(Status::Delivered),
                    410 => return self.end(Status::Disabled),
                    // Any other status is retried, including redirects, which are not followed.
                    _ => {}
                }
            }
            WebhookOutcome::Failure(failure) => {
                // The guard has refused the address, and would refuse it again.
                may_retry = failure.code != FailureCode::UrlBlocked;
                attempt.failure = Some(failure.clone());
            }
        }
        match schedule.delay(number, run.jitter(), requested_delay).filter(|_| may_retry) {
            Some(delay) => {
                self.next_attempt_at = Some(now.checked_add(delay).unwrap_or(now));
                true
            }
            None => self.end(Status::Failed),
        }
    }

    /// Removes the attempt of `run`, as if it had not started. Returns `false` if no attempt of
    /// `run` is open.
    pub fn roll_back_attempt(&mut self, run: RunNonce) -> bool {
        let is_open = self.under_way == Some(run);
        if is_open {
            self.under_way = None;
            self.attempts.pop();
            self.next_attempt_at = None;
        }
        is_open
    }

    fn end(&mut self, status: Status) -> bool {
        self.status = status.into();
        self.next_attempt_at = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const SCHEDULE: Schedule = Schedule { delay_max: Duration::from_secs(86_400) };

    fn status(code: u16) -> WebhookOutcome {
        WebhookOutcome::Status { code, retry_after: None }
    }

    fn state_after_attempt(outcome: &WebhookOutcome) -> Deliveries {
        let mut state = Deliveries::new(0);
        let run = RunNonce::random();
        state.begin_attempt(run, NOW, LIMIT);
        assert!(state.end_attempt(run, outcome, SCHEDULE, NOW));
        state
    }

    #[test]
    fn the_response_decides_the_next_step() {
        for (code, expected) in [
            (200, Status::Delivered),
            (204, Status::Delivered),
            (299, Status::Delivered),
            (302, Status::Waiting),
            (404, Status::Waiting),
            (410, Status::Disabled),
            (429, Status::Waiting),
            (500, Status::Waiting),
        ] {
            let state = state_after_attempt(&status(code));
            assert_eq!(state.status, expected, "{code}");
            assert_eq!(state.next_attempt_at.is_some(), expected == Status::Waiting, "{code}");
            assert_eq!(state.attempts[0].status_code, Some(code));
        }
        let failed = |code| {
            state_after_attempt(&WebhookOutcome::Failure(Failure::new(code, "It failed."))).status
        };
        assert_eq!(failed(FailureCode::FetchTls), Status::Waiting);
        assert_eq!(failed(FailureCode::FetchConnect), Status::Waiting);
        assert_eq!(failed(FailureCode::UrlBlocked), Status::Failed);
    }

    #[test]
    fn attempts_are_bounded_for_every_outcome() {
        let mut state = Deliveries::new(0);
        for number in 1..=ATTEMPTS_MAX {
            let run = RunNonce::random();
            state.begin_attempt(run, NOW, LIMIT);
            assert_eq!(state.attempts.len(), number);
            // Every other worker stops without ending its attempt.
            if number % 2 == 0 {
                assert!(state.end_attempt(run, &status(500), SCHEDULE, NOW));
            }
        }
        assert_eq!(
            (state.status.known(), state.attempts.len()),
            (Some(Status::Failed), ATTEMPTS_MAX)
        );
        let lost = state.attempts[0].failure.as_ref().map(|failure| failure.code.clone());
        assert_eq!(lost, Some(FailureCode::WorkerCrashed.into()));

        let mut state = Deliveries::new(0);
        (0..=ATTEMPTS_MAX).for_each(|_| state.begin_attempt(RunNonce::random(), NOW, LIMIT));
        assert_eq!(
            (state.status.known(), state.attempts.len()),
            (Some(Status::Failed), ATTEMPTS_MAX)
        );
        assert_eq!(state.under_way, None);
    }

    #[test]
    fn only_the_running_attempt_can_be_ended() {
        let mut state = Deliveries::new(0);
        let run = RunNonce::random();
        state.begin_attempt(run, NOW, LIMIT);
        let other = RunNonce::random();
        assert!(
            !state.end_attempt(other, &status(200), SCHEDULE, NOW)
                && !state.roll_back_attempt(other)
        );
        assert!(state.roll_back_attempt(run));
        assert_eq!(state, Deliveries::new(0));
        assert!(!state.end_attempt(run, &status(200), SCHEDULE, NOW));
    }

    #[test]
    fn the_stored_format_is_fixed() {
        let mut state = state_after_attempt(&status(503));
        let run = "\"00000000-0000-4000-8000-000000000000\"";
        state.begin_attempt(serde_json::from_str(run).unwrap(), NOW, LIMIT);
        // The first delay has random jitter, but the second attempt has replaced its time.
        let json = serde_json::to_string_pretty(&state).unwrap();
        assert_eq!(json, include_str!("../golden/webhook_state.json").trim_end());
        assert_eq!(serde_json::from_str::<Deliveries>(&json).unwrap(), state);
    }
}
