//! How a job's webhook is doing: every attempt, and what comes next.
//!
//! The deliverer persists each change by compare-and-set before it goes on, so that two messages about
//! one job, or two workers, never make two attempts of one.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::{ATTEMPTS_MAX, Schedule};
use crate::failure::{Failure, FailureCode};
use crate::id::RunNonce;
use crate::open_name::OpenName;

/// Version of the format. Readers refuse what is newer.
pub const FORMAT: u32 = 1;
/// Longest time that one attempt may be given.
pub const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(60);
/// How much later than that, at the latest, its end is written down. After that it counts as lost.
const ATTEMPT_WRITE_MARGIN: Duration = Duration::from_secs(5);

/// What has become of the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WebhookStatus")]
pub enum Status {
    /// It is still to be delivered.
    Waiting,
    /// The receiver accepted it.
    Delivered,
    /// It was given up.
    Failed,
    /// The receiver answered 410: it wants to hear nothing more of this.
    Disabled,
}

/// One try at delivering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// What the receiver answered, if it did.
    pub status_code: Option<u16>,
    /// Why there was no answer. While the attempt is under way there is neither.
    pub failure: Option<Failure>,
}

/// The state of a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deliveries {
    /// Version of this format.
    pub format: u32,
    /// Which sending this is about: 0 the first time, a larger number whenever it is sent again.
    pub round: u64,
    /// What has become of it.
    pub status: OpenName<Status>,
    /// Every try, in order.
    pub attempts: Vec<Attempt>,
    /// When the next one is due; while one is under way, when it counts as lost.
    pub next_attempt_at: Option<Timestamp>,
    /// Whose attempt is under way.
    pub under_way: Option<RunNonce>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The receiver answered.
    Status {
        /// With this status.
        code: u16,
        /// It asked to be left alone for so long.
        retry_after: Option<Duration>,
    },
    /// It did not.
    Failure(Failure),
}

impl Deliveries {
    /// Returns the state of a webhook that has not been tried.
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

    /// Opens an attempt that may take `limit`. One that is still open was lost with its worker, and counts: if it was the last
    /// one, the webhook has failed and there is no other.
    pub fn begin_attempt(&mut self, run: RunNonce, now: Timestamp, limit: Duration) {
        if self.under_way.take().is_some()
            && let Some(lost) = self.attempts.last_mut()
        {
            lost.failure = Some(Failure::worker_crashed());
        }
        if self.attempts.len() >= ATTEMPTS_MAX {
            self.end(Status::Failed);
            return;
        }
        let number = u32::try_from(self.attempts.len() + 1).unwrap_or(u32::MAX);
        self.attempts.push(Attempt { number, at: now, status_code: None, failure: None });
        self.next_attempt_at = now.checked_add(limit + ATTEMPT_WRITE_MARGIN).ok();
        self.under_way = Some(run);
    }

    /// Closes the attempt of `run` with what came of it, and plans the next one. Returns whether it
    /// was open.
    pub fn end_attempt(
        &mut self,
        run: RunNonce,
        answer: &Answer,
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
        match answer {
            Answer::Status { code, retry_after } => {
                attempt.status_code = Some(*code);
                requested_delay = *retry_after;
                match code {
                    200..=299 => return self.end(Status::Delivered),
                    410 => return self.end(Status::Disabled),
                    _ => {}
                }
            }
            Answer::Failure(failure) => {
                // What the guard refuses today it refuses tomorrow.
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

    /// Takes the attempt of `run` back, as if it had never begun. Returns whether it was open.
    pub fn hand_back(&mut self, run: RunNonce) -> bool {
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
    const SCHEDULE: Schedule = Schedule { longest: Duration::from_secs(86_400) };

    fn status(code: u16) -> Answer {
        Answer::Status { code, retry_after: None }
    }

    fn tried(answer: &Answer) -> Deliveries {
        let mut state = Deliveries::new(0);
        let run = RunNonce::random();
        state.begin_attempt(run, NOW, LIMIT);
        assert!(state.end_attempt(run, answer, SCHEDULE, NOW));
        state
    }

    #[test]
    fn answers_decide_the_next_step() {
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
            let state = tried(&status(code));
            assert_eq!(state.status, expected, "{code}");
            assert_eq!(state.next_attempt_at.is_some(), expected == Status::Waiting, "{code}");
            assert_eq!(state.attempts[0].status_code, Some(code));
        }
        let failed = |code| tried(&Answer::Failure(Failure::new(code, "It failed."))).status;
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
            // Every other worker dies.
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
    fn only_the_attempt_that_is_under_way_ends() {
        let mut state = Deliveries::new(0);
        let run = RunNonce::random();
        state.begin_attempt(run, NOW, LIMIT);
        let other = RunNonce::random();
        assert!(!state.end_attempt(other, &status(200), SCHEDULE, NOW) && !state.hand_back(other));
        assert!(state.hand_back(run));
        assert_eq!(state, Deliveries::new(0));
        assert!(!state.end_attempt(run, &status(200), SCHEDULE, NOW));
    }

    #[test]
    fn the_stored_format_is_fixed() {
        let mut state = tried(&status(503));
        let run = "\"00000000-0000-4000-8000-000000000000\"";
        state.begin_attempt(serde_json::from_str(run).unwrap(), NOW, LIMIT);
        // The first wait is spread at random.
        let json = serde_json::to_string_pretty(&state).unwrap();
        assert_eq!(json, include_str!("../golden/webhook_state.json").trim_end());
        assert_eq!(serde_json::from_str::<Deliveries>(&json).unwrap(), state);
    }
}
