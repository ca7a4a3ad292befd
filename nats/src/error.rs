//! What can go wrong between us and the broker.

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use wordmill_common::message;

/// Tells why something could not be done with the broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer, or none that decides: the broker is away, slow, or denies the request.
    #[error("cannot {operation}: {reason}")]
    Unavailable {
        /// What was attempted.
        operation: &'static str,
        /// What came back.
        reason: String,
    },
    /// What is stored cannot be read.
    #[error("cannot read {what}: {reason}")]
    Corrupt {
        /// What it was.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stored data has a format or a state that only a newer version knows.
    #[error("cannot read {what}, which a newer version wrote: {reason}")]
    Newer {
        /// What it was.
        what: String,
        /// What is unknown about it.
        reason: String,
    },
    /// What should be stored is larger than the broker allows.
    #[error("{what} is too large to be stored")]
    TooLarge {
        /// What it was.
        what: String,
    },
    /// There is no room for it: certainly not stored.
    #[error("{what} is full")]
    Full {
        /// What has no room.
        what: String,
    },
    /// It was there, and is no longer kept.
    #[error("{what} is no longer kept")]
    Gone {
        /// What it was.
        what: String,
    },
    /// Another writer was faster, again and again.
    #[error("gave up writing {key} after {tries} conflicts")]
    Contended {
        /// The record's key.
        key: String,
        /// How often it was tried.
        tries: u32,
    },
}

impl Error {
    #[expect(clippy::needless_pass_by_value, reason = "errors and texts alike, as they come")]
    pub(crate) fn unavailable(operation: &'static str, reason: impl ToString) -> Self {
        Self::Unavailable { operation, reason: reason.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "errors and texts alike, as they come")]
    pub(crate) fn corrupt(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), reason: reason.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "errors and texts alike, as they come")]
    pub(crate) fn newer_format(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Newer { what: what.into(), reason: reason.to_string() }
    }

    /// Returns the error of a message that cannot be read.
    pub(crate) fn message(what: impl Into<String>, error: &message::Error) -> Self {
        match error {
            message::Error::Malformed(_) => Self::corrupt(what, error),
            message::Error::Newer(_) | message::Error::Unknown(_) => {
                Self::newer_format(what, error)
            }
        }
    }
}

/// What a refused or unanswered publish means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The expected revision is not the last one.
    Conflict,
    /// The stream is full.
    Full,
    /// The message is larger than the server or the stream allows.
    TooLarge,
    /// Nobody listens on the subject: the stream does not exist, or its leader is away.
    NoResponders,
    /// Anything else: it may have been stored.
    Unclear,
}

/// Sorts a failed publish. Whatever is not known to be a definite no counts as unclear.
pub(crate) fn refusal(error: &PublishError) -> Refusal {
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Refusal::Conflict,
        PublishErrorKind::MaxPayloadExceeded => Refusal::TooLarge,
        PublishErrorKind::StreamNotFound => Refusal::NoResponders,
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::Other => match api_code(error) {
            Some(ErrorCode::STREAM_STORE_FAILED) => Refusal::Full,
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => Refusal::TooLarge,
            _ => Refusal::Unclear,
        },
    }
}

pub(crate) fn api_code(error: &PublishError) -> Option<ErrorCode> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code)
}
