//! The last check of a queue: when the next one is due, and whether it has failed.

use std::time::Duration;

use tokio::time::Instant;

use crate::connection::REQUEST_TIMEOUT;

/// Minimum time between two checks of one queue on one connection. The cost is one answer per
/// second, independent of the number of jobs.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Number of ack waits for which a failed check remains in effect, unless another check fails: 3 of
/// 30 s are 90 s. If the fault lasts, the message is redelivered after one ack wait, and its
/// acknowledgement is checked again.
const FAILURE_ACK_WAITS: u32 = 3;

/// The last check of one queue.
#[derive(Debug, Default)]
pub(crate) struct Check {
    /// Number of the last check; part of the subject of its answer.
    pub(crate) number: u64,
    /// Connection and time of the last check; `None` before the first one.
    sent: Option<(u64, Instant)>,
    /// Whether the check still waits for its answer.
    is_open: bool,
    /// Ack wait of the message of the last check.
    ack_wait: Duration,
    failure: Option<FailedCheck>,
}

/// A failed check.
#[derive(Debug)]
pub(crate) struct FailedCheck {
    /// Number of the connection. Rights belong to a connection, so the failure does not apply to
    /// another one, whose first acknowledgement is checked anyway.
    connection_number: u64,
    /// Time at which the failure expires.
    until: Instant,
    /// Cause that the broker reported, if any.
    pub(crate) cause: Option<String>,
}

impl Check {
    /// Returns whether an acknowledgement that is sent now should be checked. At most one check is
    /// open. A check that was sent on an earlier connection is abandoned.
    pub(crate) fn is_due(&self, connection_number: u64, now: Instant) -> bool {
        match self.sent {
            Some((sent_on, sent_at)) if sent_on == connection_number => {
                !self.is_open && now.duration_since(sent_at) >= CHECK_INTERVAL
            }
            Some(_) | None => true,
        }
    }

    pub(crate) fn begin(&mut self, connection_number: u64, ack_wait: Duration, now: Instant) {
        self.number = self.number.wrapping_add(1);
        self.sent = Some((connection_number, now));
        self.is_open = true;
        self.ack_wait = ack_wait;
    }

    /// Returns the time at which the open check fails.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let (_, sent_at) = self.sent.filter(|_| self.is_open)?;
        Some(sent_at + REQUEST_TIMEOUT)
    }

    /// Records an answer to the last check. A late answer counts, too: its acknowledgement has
    /// arrived.
    pub(crate) fn confirm(&mut self) -> Confirmation {
        let confirmation =
            Confirmation { is_in_time: self.is_open, ends_failure: self.failure.is_some() };
        self.is_open = false;
        self.failure = None;
        confirmation
    }

    /// Ends the open check without a confirmation. Returns whether that is a failure: a check on a
    /// connection that was lost meanwhile proves nothing. `connection_number` is the number of the
    /// current connection, if there is one.
    pub(crate) fn fail(
        &mut self,
        connection_number: Option<u64>,
        cause: Option<String>,
        now: Instant,
    ) -> bool {
        let was_open = std::mem::take(&mut self.is_open);
        let sent_on = self.sent.filter(|_| was_open).map(|(sent_on, _)| sent_on);
        let Some(connection_number) =
            connection_number.filter(|connection_number| Some(*connection_number) == sent_on)
        else {
            return false;
        };
        let until = now + self.ack_wait.saturating_mul(FAILURE_ACK_WAITS);
        self.failure = Some(FailedCheck { connection_number, until, cause });
        true
    }

    /// Returns the last failure if it still applies to the connection `connection_number`.
    pub(crate) fn failure(&self, connection_number: u64, now: Instant) -> Option<&FailedCheck> {
        self.failure
            .as_ref()
            .filter(|failure| failure.connection_number == connection_number && now < failure.until)
    }
}

/// Result of [`Check::confirm`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Confirmation {
    /// Whether the check was still open. Otherwise it has already been recorded as failed.
    pub(crate) is_in_time: bool,
    /// Whether the confirmation clears a recorded failure, of this check or an earlier one.
    pub(crate) ends_failure: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(30);

    /// Returns a check that was sent on connection 1, and the time.
    fn begin_check() -> (Check, Instant) {
        let mut check = Check::default();
        let now = Instant::now();
        assert!(check.is_due(1, now));
        check.begin(1, ACK_WAIT, now);
        (check, now)
    }

    #[test]
    fn at_most_one_check_is_open_and_the_next_follows_after_the_interval() {
        let (mut check, now) = begin_check();
        assert!(!check.is_due(1, now + 10 * CHECK_INTERVAL), "one is open");
        check.confirm();
        assert!(!check.is_due(1, now + CHECK_INTERVAL / 2));
        assert!(check.is_due(1, now + CHECK_INTERVAL));
    }

    #[test]
    fn the_first_acknowledgement_on_a_new_connection_is_checked_immediately() {
        let (check, now) = begin_check();
        assert!(check.is_due(2, now));
    }

    #[test]
    fn a_failure_lasts_three_ack_waits_on_its_connection() {
        let (mut check, now) = begin_check();
        assert_eq!(check.deadline(), Some(now + REQUEST_TIMEOUT));
        assert!(check.fail(Some(1), None, now));
        assert_eq!(check.deadline(), None);
        assert!(check.failure(1, now + 2 * ACK_WAIT).is_some());
        assert!(check.failure(1, now + 3 * ACK_WAIT).is_none());
        assert!(check.failure(2, now).is_none(), "another connection may have other rights");
    }

    #[test]
    fn a_check_on_a_connection_that_was_lost_proves_nothing() {
        for connection_number in [None, Some(2)] {
            let (mut check, now) = begin_check();
            assert!(!check.fail(connection_number, None, now));
            assert!(check.failure(1, now).is_none());
        }
    }

    #[test]
    fn a_check_fails_once() {
        let (mut check, now) = begin_check();
        assert!(check.fail(Some(1), None, now));
        assert!(!check.fail(Some(1), None, now));
    }

    #[test]
    fn a_late_answer_ends_the_failure_and_is_not_counted_twice() {
        let (mut check, now) = begin_check();
        assert!(check.fail(Some(1), None, now));
        assert_eq!(check.confirm(), Confirmation { is_in_time: false, ends_failure: true });
        assert!(check.failure(1, now).is_none());
    }
}
