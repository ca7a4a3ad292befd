//! Errors of broker operations, and the classification of failed publishes.

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use wordmill_common::message;

/// Error of a broker operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No definite answer: the broker is unreachable or slow, or denies the request. A write may
    /// have been stored all the same.
    #[error("cannot {operation}: {reason}")]
    Unavailable {
        /// Attempted operation as a verb phrase, for example `read from a stream`.
        operation: &'static str,
        /// Message of the broker or of the client library.
        reason: String,
    },
    /// Stored data cannot be parsed.
    #[error("cannot read {what}: {reason}")]
    Corrupt {
        /// Name of the data, for example `the record of <owner>.<job id>`.
        what: String,
        /// Reason why it cannot be parsed.
        reason: String,
    },
    /// The stored data has a format or a status that only a newer version supports.
    #[error("cannot read {what}, which a newer version wrote: {reason}")]
    Newer {
        /// Name of the data.
        what: String,
        /// The part that this version does not support.
        reason: String,
    },
    /// The data exceeds the maximum message size of the broker or the stream. It was not stored.
    #[error("{what} is too large to be stored")]
    TooLarge {
        /// Name of the data.
        what: String,
    },
    /// The stream or object store is full. The data was not stored.
    #[error("{what} is full")]
    Full {
        /// Name of the stream or object store.
        what: String,
    },
    /// The data existed, and has expired or was removed.
    #[error("{what} has expired or was removed")]
    Gone {
        /// Name of the data.
        what: String,
    },
    /// The write failed repeatedly because of conflicts with other writers.
    #[error("cannot write the record of {key}: {tries} conflicts with other writers")]
    Contended {
        /// Key of the record.
        key: String,
        /// Number of tries.
        tries: u32,
    },
}

impl Error {
    /// Returns the text for a span. Unlike `Display`, it never quotes stored data, which may
    /// contain the text of a document.
    #[must_use]
    pub fn span_description(&self) -> String {
        match self {
            Self::Corrupt { what, .. } | Self::Newer { what, .. } => format!("cannot read {what}"),
            Self::Unavailable { .. }
            | Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::Gone { .. }
            | Self::Contended { .. } => self.to_string(),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "accepts errors and texts")]
    pub(crate) fn unavailable(operation: &'static str, reason: impl ToString) -> Self {
        Self::Unavailable { operation, reason: reason.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "accepts errors and texts")]
    pub(crate) fn corrupt(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), reason: reason.to_string() }
    }

    #[expect(clippy::needless_pass_by_value, reason = "accepts errors and texts")]
    pub(crate) fn newer_format(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Newer { what: what.into(), reason: reason.to_string() }
    }

    /// Returns the error for a message that cannot be parsed.
    pub(crate) fn message(what: impl Into<String>, error: &message::Error) -> Self {
        match error {
            message::Error::Malformed(_) => Self::corrupt(what, error),
            message::Error::Newer(_) | message::Error::Unknown(_) => {
                Self::newer_format(what, error)
            }
        }
    }
}

/// Classification of a failed publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another message with this subject was stored first (revision mismatch).
    Conflict,
    /// The stream is full.
    Full,
    /// The message is larger than the server or the stream allows.
    TooLarge,
    /// No server receives the subject: the stream does not exist, or has no leader.
    NoResponders,
    /// Any other failure. The message may have been stored.
    Unclear,
}

/// Classifies a failed publish. The result is [`Refusal::Unclear`] unless the error rules out that
/// the message was stored.
pub(crate) fn classify_publish_error(error: &PublishError) -> Refusal {
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Refusal::Conflict,
        PublishErrorKind::MaxPayloadExceeded => Refusal::TooLarge,
        PublishErrorKind::StreamNotFound => Refusal::NoResponders,
        PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending
        | PublishErrorKind::Other => match api_code(error) {
            // The server reports exceeded limits of a stream as a failed store.
            Some(ErrorCode::STREAM_STORE_FAILED) => Refusal::Full,
            Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM) => Refusal::TooLarge,
            _ => Refusal::Unclear,
        },
    }
}

/// Returns the error code in the server's response, if there was one.
pub(crate) fn api_code(error: &PublishError) -> Option<ErrorCode> {
    let source = std::error::Error::source(error)?;
    source.downcast_ref::<jetstream::Error>().map(jetstream::Error::error_code)
}
