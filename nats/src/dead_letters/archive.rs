//! Dead letters as those see them who look into them: read by direct gets, without a consumer, and
//! removed one by one.

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
use wordmill_common::trace_context::{TraceId, TraceParent};

use super::{ATTEMPTS_HEADER, FAILURE_CODE_HEADER, FAILURE_DETAIL_HEADER};
use crate::Error;
use crate::connect::Broker;
use crate::spans;
use crate::stream_read::{ReadFrom, last, not_found_as_none, open};
use crate::subject::{self, UNREADABLE};
use crate::topology::{DEAD_JOBS, DEAD_JOBS_PREFIX};

/// Most questions to the broker for one page.
const REQUESTS_MAX: u32 = 400;
/// Size of the messages of one page at which reading stops, in bytes. The last one may exceed it.
/// A letter holds the text of its job.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Largest size of the messages of one window, in bytes; one message alone may exceed it.
const WINDOW_BYTES_MAX: usize = 8 << 20;
/// How many sequence numbers are walked through at a time, from the newest window to the oldest.
const WINDOW_SEQUENCES: u64 = 64;

/// Names a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LetterId {
    /// That of a job: the job's id.
    Job(JobId),
    /// That of a message that is no job: its place in the work queue. Written `unreadable-<n>`.
    Unreadable(u64),
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job_id) => job_id.fmt(f),
            Self::Unreadable(sequence) => write!(f, "{UNREADABLE}-{sequence}"),
        }
    }
}

/// The text names no dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter is named by its job's id, or unreadable-<n>")]
pub struct InvalidLetterId;

impl FromStr for LetterId {
    type Err = InvalidLetterId;

    fn from_str(text: &str) -> Result<Self, InvalidLetterId> {
        let number = text.strip_prefix(UNREADABLE).and_then(|rest| rest.strip_prefix('-'));
        match number {
            Some(number) => number.parse().map(Self::Unreadable).map_err(|_| InvalidLetterId),
            None => text.parse().map(Self::Job).map_err(|_| InvalidLetterId),
        }
    }
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// Its name.
    pub id: LetterId,
    /// The lane that the job was in.
    pub lane: Lane,
    /// Its place among the dead letters.
    pub sequence: u64,
    /// When it was put there.
    pub dead_at: Timestamp,
    /// The failure's code.
    pub code: String,
    /// The failure's sentence.
    pub detail: String,
    /// How many attempts there were; `None` for a message that is no job.
    pub attempts: Option<u32>,
    /// The trace of the job, where known.
    pub trace_id: Option<TraceId>,
    /// The context that the letter carries.
    pub traceparent: Option<TraceParent>,
    /// Size of the message.
    pub size_bytes: usize,
    /// The message of the job; `None` if it is not one, or has a newer format.
    pub message: Option<ParsedMessage>,
}

/// Which letters are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those with this failure code.
    pub code: Option<String>,
    /// Only those of this lane.
    pub lane: Option<Lane>,
}

/// Tells one state of the archive from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// How many letters there are.
    pub count: u64,
    first: u64,
    last: u64,
}

/// Some dead letters, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct LetterPage {
    /// The letters.
    pub letters: Vec<Letter>,
    /// Where to go on: below this sequence number. `None` at the end.
    pub next: Option<u64>,
}

/// The dead letters of all owners.
#[derive(Debug, Clone)]
pub struct Archive {
    stream: JetStream<()>,
}

impl Archive {
    /// Opens the dead letters; asks the broker nothing.
    pub fn open(broker: &Broker) -> Self {
        Self { stream: open(broker, DEAD_JOBS) }
    }

    /// Returns up to `limit` letters of `owner` below the sequence number `before`, newest first.
    ///
    /// The work is bounded: a page may be short, or even empty, and have a successor all the same.
    /// Whoever is [`Owner::public`] sees unreadable messages too, because nobody knows whose they are.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn list(
        &self,
        owner: &Owner,
        filter: &Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<LetterPage, Error> {
        const OPERATION: &str = "look at the dead letters";
        let info = self.stream.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let oldest = info.state.first_sequence.max(1);
        let newest = info.state.last_sequence;
        let mut walk = LetterScan { archive: self, scope: scope(owner, filter.lane), questions: 0 };
        // Everything from `top` on has been looked at.
        let mut top = before.map_or(newest + 1, |before| before.min(newest + 1));
        let mut letters = Vec::new();
        let mut bytes = 0_usize;
        while top > oldest && letters.len() < limit && walk.questions < REQUESTS_MAX {
            let Some((bottom, window)) = walk.next_window(oldest, top).await? else {
                top = oldest;
                break;
            };
            top = bottom;
            for message in window.iter().rev() {
                let wanted =
                    letter(message).filter(|letter| filter.accepts(owner, letter, message));
                if let Some(letter) = wanted {
                    if letters.len() == limit || bytes > PAGE_BYTES_MAX {
                        // The rest of the window is for the next page.
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
        Ok(LetterPage { letters, next: (top > oldest).then_some(top) })
    }

    /// Returns a mark that changes whenever a letter is added or removed: cheap to ask for.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn mark(&self) -> Result<Mark, Error> {
        const OPERATION: &str = "look at the dead letters";
        let info = self.stream.get_info().await.map_err(|e| Error::unavailable(OPERATION, e))?;
        let state = info.state;
        Ok(Mark { count: state.messages, first: state.first_sequence, last: state.last_sequence })
    }

    /// Counts the letters of a lane, of all owners. The broker lists the name of each, so this is
    /// asked for only when [`mark`](Self::mark) has changed.
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

    /// Returns one letter of `owner`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn find(&self, owner: &Owner, id: LetterId) -> Result<Option<Letter>, Error> {
        for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
            for lane in Lane::ALL {
                let subject = match id {
                    LetterId::Job(job_id) => {
                        subject::dead_letter(lane, &JobKey { owner: owner.clone(), job_id })
                    }
                    LetterId::Unreadable(_) if *owner != Owner::public() => return Ok(None),
                    LetterId::Unreadable(sequence) => subject::dead_unreadable(lane, sequence),
                };
                if let Some(message) = last(&self.stream, &subject, read_from).await? {
                    return Ok(letter(&message));
                }
            }
        }
        Ok(None)
    }

    /// Removes one letter. That it is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn remove(&self, letter: &Letter) -> Result<(), Error> {
        match self.stream.delete_message(letter.sequence).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // Somebody else may have been faster.
                let id = letter.sequence;
                match self.stream.get_raw_message(id).await {
                    Err(gone) if gone.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(()),
                    Ok(_) | Err(_) => Err(Error::unavailable("remove a dead letter", error)),
                }
            }
        }
    }
}

impl Filter {
    fn accepts(&self, owner: &Owner, letter: &Letter, message: &StreamMessage) -> bool {
        let is_theirs = match letter.id {
            LetterId::Job(_) => message.subject.split('.').nth(2) == Some(owner.as_str()),
            LetterId::Unreadable(_) => *owner == Owner::public(),
        };
        is_theirs
            && self.code.as_ref().is_none_or(|code| *code == letter.code)
            && self.lane.is_none_or(|lane| lane == letter.lane)
    }
}

/// Goes through the letters of one page, and counts what it asks.
struct LetterScan<'a> {
    archive: &'a Archive,
    scope: String,
    questions: u32,
}

impl LetterScan<'_> {
    /// Returns the newest window below `top` that has letters, with its lower end; `None` if there is
    /// none. Where nothing is, steps double; where something is found, they halve until it fits.
    async fn next_window(
        &mut self,
        oldest: u64,
        top: u64,
    ) -> Result<Option<(u64, VecDeque<StreamMessage>)>, Error> {
        let mut top = top;
        let mut size = WINDOW_SEQUENCES;
        while top > oldest {
            let bottom = top.saturating_sub(size).max(oldest);
            let first = self.next(bottom).await?.filter(|message| message.sequence < top);
            match first {
                None if self.questions >= REQUESTS_MAX => {
                    return Ok(Some((bottom, VecDeque::new())));
                }
                None => {
                    top = bottom;
                    size = size.saturating_mul(2);
                }
                Some(_) if top - bottom > WINDOW_SEQUENCES => {
                    size = (size / 2).max(WINDOW_SEQUENCES);
                }
                Some(first) => return self.collect(bottom, top, first).await.map(Some),
            }
        }
        Ok(None)
    }

    /// Reads a window from its first letter on: at most [`WINDOW`] more questions. A window of too
    /// many bytes begins later: the oldest messages are left to the next one.
    async fn collect(
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
            match self.next(after + 1).await?.filter(|message| message.sequence < top) {
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

    /// Returns the first letter at or after a place.
    async fn next(&mut self, from: u64) -> Result<Option<StreamMessage>, Error> {
        self.questions += 1;
        let stream = &self.archive.stream;
        not_found_as_none(stream.direct_get_next_for_subject(self.scope.as_str(), Some(from)).await)
    }
}

/// Returns which subjects hold an owner's letters.
fn scope(owner: &Owner, lane: Option<Lane>) -> String {
    let lane = lane.map_or("*", Lane::as_str);
    // Unreadable messages stand beside those of the owners.
    let owner = if *owner == Owner::public() { "*" } else { owner.as_str() };
    format!("{DEAD_JOBS_PREFIX}.{lane}.{owner}.*")
}

/// Reads a message of the stream; `None` for what nobody of ours put there.
fn letter(message: &StreamMessage) -> Option<Letter> {
    let mut tokens = message.subject.split('.').skip(1);
    let lane = tokens.next()?;
    let owner = tokens.next()?;
    let name = tokens.next()?;
    let parsed = ParsedMessage::parse(&message.payload).ok();
    let id = match name.parse() {
        Ok(job_id) => LetterId::Job(job_id),
        Err(_) if owner == UNREADABLE => LetterId::Unreadable(name.parse().ok()?),
        Err(_) => return None,
    };
    let header = |name| message.headers.get(name).map(HeaderValue::as_str);
    let traceparent = spans::extract(&message.headers);
    let millisecond = i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000).ok()?;
    let code = header(FAILURE_CODE_HEADER).unwrap_or("internal").to_owned();
    let is_unreadable = matches!(id, LetterId::Unreadable(_));
    Some(Letter {
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
            .or_else(|| traceparent.map(|trace| trace.trace_id)),
        traceparent,
        size_bytes: message.payload.len(),
        message: parsed.filter(|_| !is_unreadable),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_named_by_job_or_by_place() {
        for name in ["0198f0c2-0000-7000-8000-000000000000", "unreadable-17"] {
            assert_eq!(name.parse::<LetterId>().unwrap().to_string(), name);
        }
        for bad in ["", "17", "unreadable", "unreadable-", "unreadable-x", "unreadable-1.2", "*"] {
            assert_eq!(bad.parse::<LetterId>(), Err(InvalidLetterId), "{bad}");
        }
    }

    #[test]
    fn an_owner_sees_only_its_own_letters() {
        let team = Owner::try_from("team".to_owned()).unwrap();
        assert_eq!(scope(&team, None), "dead.*.team.*");
        assert_eq!(scope(&team, Some(Lane::Bulk)), "dead.bulk.team.*");
        assert_eq!(scope(&Owner::public(), None), "dead.*.*.*");
    }
}
