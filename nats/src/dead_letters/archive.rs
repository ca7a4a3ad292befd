//! Reads dead letters by direct gets, without a consumer, and removes them one by one.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use async_nats::HeaderValue;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream as JetStream};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use wordmill_common::id::{JobId, JobKey, Lane, Owner};
use wordmill_common::message::ParsedMessage;
use wordmill_common::trace_context::{TraceContext, TraceId};

use super::{ATTEMPTS_HEADER, FAILURE_CODE_HEADER, FAILURE_DETAIL_HEADER};
use crate::Error;
use crate::connect::Broker;
use crate::spans;
use crate::stream_read::{ReadFrom, last_message, not_found_as_none, open_stream};
use crate::subject::{self, UNREADABLE};
use crate::topology::{DEAD_JOBS, DEAD_JOBS_PREFIX};

/// Maximum number of requests for one page.
const REQUESTS_MAX: u32 = 400;
/// A page ends when its messages exceed this size, in bytes. A dead letter contains the text of its
/// job.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Maximum size of the messages of one window, in bytes. A single message may be larger.
const WINDOW_BYTES_MAX: usize = 8 << 20;
/// Number of sequence numbers in a window. The scan reads the newest window first.
const WINDOW_SEQUENCES: u64 = 64;

/// Id of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetterId {
    /// Dead letter of a job, identified by the id of the job.
    Job(JobId),
    /// Dead letter of a message that is not a job, identified by the sequence number of the message
    /// in the work queue. Displayed as `unreadable-<n>`.
    Unreadable(u64),
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job_id) => job_id.fmt(f),
            Self::Unreadable(sequence) => write!(f, "{UNREADABLE}-{sequence}"),
        }
    }
}

/// The text is not the id of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a dead letter must be a job id or unreadable-<n>")]
pub struct InvalidDeadLetterId;

impl FromStr for DeadLetterId {
    type Err = InvalidDeadLetterId;

    fn from_str(text: &str) -> Result<Self, InvalidDeadLetterId> {
        let number = text.strip_prefix(UNREADABLE).and_then(|rest| rest.strip_prefix('-'));
        match number {
            Some(number) => number.parse().map(Self::Unreadable).map_err(|_| InvalidDeadLetterId),
            None => text.parse().map(Self::Job).map_err(|_| InvalidDeadLetterId),
        }
    }
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Id of the dead letter.
    pub id: DeadLetterId,
    /// Lane of the job.
    pub lane: Lane,
    /// Sequence number of the dead letter in its stream.
    pub sequence: u64,
    /// Time at which the dead letter was stored.
    pub dead_at: Timestamp,
    /// Code of the failure, for example `fetch_timeout`.
    pub code: String,
    /// Description of the failure.
    pub detail: String,
    /// Number of attempts; `None` for a message that is not a job.
    pub attempts: Option<u32>,
    /// Trace of the job, if known.
    pub trace_id: Option<TraceId>,
    /// Trace context in the headers of the dead letter.
    pub trace_context: Option<TraceContext>,
    /// Size of the message, in bytes.
    pub size_bytes: usize,
    /// Message of the job; `None` if it is not a job, or has a newer format.
    pub message: Option<ParsedMessage>,
}

/// Filter of a list of dead letters.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only dead letters with this failure code.
    pub code: Option<String>,
    /// Only dead letters of this lane.
    pub lane: Option<Lane>,
}

/// Counters of the stream that show whether dead letters were added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeMarker {
    /// Number of dead letters.
    pub count: u64,
    first: u64,
    last: u64,
}

/// One page of dead letters, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetterPage {
    /// The dead letters.
    pub letters: Vec<DeadLetter>,
    /// The next page continues below this sequence number. `None` if this is the last page.
    pub next: Option<u64>,
}

/// The dead letters of all owners.
#[derive(Debug, Clone)]
pub struct Archive {
    stream: JetStream<()>,
}

impl Archive {
    /// Opens the stream. Sends no request.
    pub fn open(broker: &Broker) -> Self {
        Self { stream: open_stream(broker, DEAD_JOBS) }
    }

    /// Returns up to `limit` dead letters of `owner` below the sequence number `before`, newest
    /// first.
    ///
    /// The work per page is bounded, so a page may have fewer entries, or none, even if another
    /// page follows. [`Owner::public`] also gets unreadable messages, because their owner is
    /// unknown.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(
        &self,
        owner: &Owner,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<DeadLetterPage, Error> {
        const OPERATION: &str = "list the dead letters";
        let info = self.stream.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let oldest = info.state.first_sequence.max(1);
        let newest = info.state.last_sequence;
        let mut scan = DeadLetterScan {
            archive: self,
            subjects: subjects_of(owner, filter.lane),
            requests: 0,
        };
        // All dead letters from `top` on have been read.
        let mut top = before.map_or(newest + 1, |before| before.min(newest + 1));
        let mut letters = Vec::new();
        let mut bytes = 0_usize;
        while top > oldest && letters.len() < limit && scan.requests < REQUESTS_MAX {
            let Some((bottom, window)) = scan.next_window(oldest, top).await? else {
                top = oldest;
                break;
            };
            top = bottom;
            for message in window.iter().rev() {
                let accepted =
                    parse_letter(message).filter(|letter| filter.accepts(owner, letter, message));
                if let Some(letter) = accepted {
                    if letters.len() == limit || bytes > PAGE_BYTES_MAX {
                        // The rest of the window belongs to the next page.
                        top = message.sequence + 1;
                        break;
                    }
                    bytes = bytes.saturating_add(letter.size_bytes);
                    letters.push(letter);
                }
            }
            if bytes > PAGE_BYTES_MAX {
                break;
            }
        }
        Ok(DeadLetterPage { letters, next: (top > oldest).then_some(top) })
    }

    /// Returns a marker that changes with each dead letter that is added or removed. Costs one
    /// small request.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn change_marker(&self) -> Result<ChangeMarker, Error> {
        const OPERATION: &str = "read the state of the dead letters";
        let info = self.stream.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let state = info.state;
        Ok(ChangeMarker {
            count: state.messages,
            first: state.first_sequence,
            last: state.last_sequence,
        })
    }

    /// Counts the dead letters of a lane, of all owners. The broker lists the subject of each one,
    /// so call this only after [`change_marker`](Self::change_marker) has changed.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn count(&self, lane: Lane) -> Result<u64, Error> {
        const OPERATION: &str = "count the dead letters";
        let subjects = format!("{DEAD_JOBS_PREFIX}.{lane}.>");
        let listed = self.stream.info_with_subjects(subjects).await;
        let listed = listed.map_err(|error| Error::unavailable(OPERATION, error))?;
        let add = |sum: u64, (_, count): (String, usize)| {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            std::future::ready(Ok(sum.saturating_add(count)))
        };
        let sum = listed.try_fold(0, add).await;
        sum.map_err(|error| Error::unavailable(OPERATION, error))
    }

    /// Returns one dead letter of `owner`; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn find(&self, owner: &Owner, id: DeadLetterId) -> Result<Option<DeadLetter>, Error> {
        for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
            for lane in Lane::ALL {
                let subject = match id {
                    DeadLetterId::Job(job_id) => {
                        subject::dead_letter(lane, &JobKey { owner: owner.clone(), job_id })
                    }
                    DeadLetterId::Unreadable(_) if *owner != Owner::public() => return Ok(None),
                    DeadLetterId::Unreadable(sequence) => subject::dead_unreadable(lane, sequence),
                };
                if let Some(message) = last_message(&self.stream, &subject, read_from).await? {
                    return Ok(parse_letter(&message));
                }
            }
        }
        Ok(None)
    }

    /// Removes a dead letter if it still exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn remove(&self, letter: &DeadLetter) -> Result<(), Error> {
        match self.stream.delete_message(letter.sequence).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // Another request may have removed it first.
                let id = letter.sequence;
                match self.stream.get_raw_message(id).await {
                    Err(reason) if reason.kind() == LastRawMessageErrorKind::NoMessageFound => {
                        Ok(())
                    }
                    Ok(_) | Err(_) => Err(Error::unavailable("remove a dead letter", error)),
                }
            }
        }
    }
}

impl Filter {
    fn accepts(&self, owner: &Owner, letter: &DeadLetter, message: &StreamMessage) -> bool {
        let is_owned = match letter.id {
            DeadLetterId::Job(_) => message.subject.split('.').nth(2) == Some(owner.as_str()),
            DeadLetterId::Unreadable(_) => *owner == Owner::public(),
        };
        is_owned
            && self.code.as_ref().is_none_or(|code| *code == letter.code)
            && self.lane.is_none_or(|lane| lane == letter.lane)
    }
}

/// Scan for the dead letters of one page. Counts its requests.
struct DeadLetterScan<'a> {
    archive: &'a Archive,
    subjects: String,
    requests: u32,
}

impl DeadLetterScan<'_> {
    /// Returns the newest window below `top` that contains dead letters, with its lower end; `None`
    /// if there are no more. The size doubles while windows are empty, and is halved when a large
    /// window contains dead letters.
    async fn next_window(
        &mut self,
        oldest: u64,
        top: u64,
    ) -> Result<Option<(u64, VecDeque<StreamMessage>)>, Error> {
        let mut top = top;
        let mut size = WINDOW_SEQUENCES;
        while top > oldest {
            let bottom = top.saturating_sub(size).max(oldest);
            let first =
                self.find_letter_from(bottom).await?.filter(|message| message.sequence < top);
            match first {
                // No requests are left: the next page continues here.
                None if self.requests >= REQUESTS_MAX => {
                    return Ok(Some((bottom, VecDeque::new())));
                }
                None => {
                    top = bottom;
                    size = size.saturating_mul(2);
                }
                // The window contains dead letters, but may contain many. Search its upper end for
                // the newest ones.
                Some(_) if top - bottom > WINDOW_SEQUENCES => {
                    size = (size / 2).max(WINDOW_SEQUENCES);
                }
                Some(first) => return self.read_window(bottom, top, first).await.map(Some),
            }
        }
        Ok(None)
    }

    /// Reads a window from its first dead letter on, with at most [`WINDOW_SEQUENCES`] further
    /// requests. If its messages exceed [`WINDOW_BYTES_MAX`], the oldest ones are left to the next
    /// window.
    async fn read_window(
        &mut self,
        bottom: u64,
        top: u64,
        first: StreamMessage,
    ) -> Result<(u64, VecDeque<StreamMessage>), Error> {
        let mut bottom = bottom;
        let mut after = first.sequence;
        let mut bytes = first.payload.len();
        let mut window = VecDeque::from([first]);
        while after + 1 < top {
            match self.find_letter_from(after + 1).await?.filter(|message| message.sequence < top) {
                Some(message) => {
                    after = message.sequence;
                    bytes = bytes.saturating_add(message.payload.len());
                    window.push_back(message);
                }
                None => break,
            }
            while bytes > WINDOW_BYTES_MAX && window.len() > 1 {
                let Some(left) = window.pop_front() else { break };
                bytes = bytes.saturating_sub(left.payload.len());
                bottom = left.sequence + 1;
            }
        }
        Ok((bottom, window))
    }

    /// Returns the first dead letter at or after the sequence number `from`.
    async fn find_letter_from(&mut self, from: u64) -> Result<Option<StreamMessage>, Error> {
        self.requests += 1;
        let stream = &self.archive.stream;
        not_found_as_none(
            stream.direct_get_next_for_subject(self.subjects.as_str(), Some(from)).await,
        )
    }
}

/// Returns the subjects of an owner's dead letters, as a filter.
fn subjects_of(owner: &Owner, lane: Option<Lane>) -> String {
    let lane = lane.map_or("*", Lane::as_str);
    // Unreadable messages have the token `unreadable` instead of an owner, so dead letters of all
    // owners are read here, and `Filter::accepts` drops those of other owners.
    let owner = if *owner == Owner::public() { "*" } else { owner.as_str() };
    format!("{DEAD_JOBS_PREFIX}.{lane}.{owner}.*")
}

/// Parses a message of the stream; `None` if Wordmill did not write it.
fn parse_letter(message: &StreamMessage) -> Option<DeadLetter> {
    let mut tokens = message.subject.split('.').skip(1);
    let lane = tokens.next()?;
    let owner = tokens.next()?;
    let name = tokens.next()?;
    let parsed = ParsedMessage::parse(&message.payload).ok();
    let id = match name.parse() {
        Ok(job_id) => DeadLetterId::Job(job_id),
        Err(_) if owner == UNREADABLE => DeadLetterId::Unreadable(name.parse().ok()?),
        Err(_) => return None,
    };
    let header = |name| message.headers.get(name).map(HeaderValue::as_str);
    let trace_context = spans::extract(&message.headers);
    let millisecond = i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).ok()?;
    let code = header(FAILURE_CODE_HEADER).unwrap_or("internal").to_owned();
    let is_unreadable = matches!(id, DeadLetterId::Unreadable(_));
    Some(DeadLetter {
        id,
        lane: lane.parse().ok()?,
        sequence: message.sequence,
        dead_at: Timestamp::from_millisecond(millisecond).ok()?,
        code,
        detail: header(FAILURE_DETAIL_HEADER).unwrap_or_default().to_owned(),
        attempts: header(ATTEMPTS_HEADER).and_then(|text| text.parse().ok()),
        trace_id: parsed
            .as_ref()
            .map(ParsedMessage::trace_id)
            .or_else(|| trace_context.as_ref().map(TraceContext::trace_id)),
        trace_context,
        size_bytes: message.payload.len(),
        message: parsed.filter(|_| !is_unreadable),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letter_ids_are_job_ids_or_sequences() {
        for name in ["0198f0c2-0000-7000-8000-000000000000", "unreadable-17"] {
            assert_eq!(name.parse::<DeadLetterId>().unwrap().to_string(), name);
        }
        for bad in ["", "17", "unreadable", "unreadable-", "unreadable-x", "unreadable-1.2", "*"] {
            assert_eq!(bad.parse::<DeadLetterId>(), Err(InvalidDeadLetterId), "{bad}");
        }
    }

    #[test]
    fn an_owner_sees_only_its_own_dead_letters() {
        let team = Owner::try_from("team".to_owned()).unwrap();
        assert_eq!(subjects_of(&team, None), "dead.*.team.*");
        assert_eq!(subjects_of(&team, Some(Lane::Bulk)), "dead.bulk.team.*");
        assert_eq!(subjects_of(&Owner::public(), None), "dead.*.*.*");
    }
}
