//! Scans a stream backwards, from the newest message to the oldest.
//!
//! JetStream reads only forwards. So the scan moves down the sequence numbers in windows, and reads
//! each window forwards with batch requests, which need no consumer. A window with few messages
//! doubles the size of the next one; a window with too many is halved. For example, with a batch of
//! 100 and the top at 1001, the first window is 901 to 1000. If it contains fewer than 50 messages,
//! the next one is 701 to 900.
//!
//! The scan reads the messages of all subjects. For a batch with a wildcard filter the server
//! visits every subject of the stream, which takes fifty times as long with a million subjects.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream as JetStream;

use crate::Error;
use crate::connect::Broker;
use crate::stream_read::{BATCH_MAX, next_on_leader, read_batch};

/// Matches every subject.
const ALL: &str = ">";

/// A backward scan of a stream.
#[derive(Debug)]
pub(crate) struct BackwardScan<'a> {
    broker: &'a Broker,
    stream: &'a JetStream<()>,
    name: &'a str,
    /// Lowest sequence number of the scan, at least 1.
    oldest: u64,
    /// All messages from this sequence number on have been read.
    top: u64,
    /// Size of the next window, in sequence numbers.
    size: u64,
    /// Number of messages per request.
    batch: usize,
    /// Whether the last window had no messages.
    is_sparse: bool,
    /// Number of requests so far.
    requests: u32,
}

impl<'a> BackwardScan<'a> {
    /// Starts a scan from below `top` down to `oldest`, with `batch` messages per request, at most
    /// [`BATCH_MAX`].
    pub(crate) fn new(
        broker: &'a Broker,
        (stream, name): (&'a JetStream<()>, &'a str),
        (oldest, top): (u64, u64),
        batch: usize,
    ) -> Self {
        let batch = batch.clamp(1, BATCH_MAX);
        let size = u64::try_from(batch).unwrap_or(1);
        let oldest = oldest.max(1);
        let is_sparse = false;
        let requests = 0;
        Self { broker, stream, name, oldest, top, size, batch, is_sparse, requests }
    }

    /// Returns the sequence number from which on all messages have been read.
    pub(crate) fn top(&self) -> u64 {
        self.top
    }

    /// Returns the number of requests so far.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// Returns whether the whole range has been read.
    pub(crate) fn is_finished(&self) -> bool {
        self.top <= self.oldest
    }

    /// Reads the next window, oldest message first. The window may be empty.
    pub(crate) async fn next_window(&mut self) -> Result<Vec<StreamMessage>, Error> {
        while !self.is_finished() {
            let bottom = self.top.saturating_sub(self.size).max(self.oldest);
            let Some(messages) = self.collect(bottom).await? else {
                // Too many messages: retry with the upper half. A window of one sequence number
                // always fits.
                self.size = (self.size / 2).max(1);
                continue;
            };
            self.top = bottom;
            self.is_sparse = messages.is_empty();
            if messages.len() < self.batch / 2 {
                self.size = self.size.saturating_mul(2);
            }
            return Ok(messages);
        }
        Ok(Vec::new())
    }

    /// Reads the messages from `bottom` up to the top. Returns `None` if they are too many for one
    /// window.
    ///
    /// A replica that returns fewer messages than requested may lag. So the window is complete only
    /// if the leader has no further message in it.
    async fn collect(&mut self, bottom: u64) -> Result<Option<Vec<StreamMessage>>, Error> {
        let mut messages = Vec::new();
        let mut from = bottom;
        while from < self.top {
            // The window after an empty one is probably empty, too. A full batch would then consist
            // of messages above the window, which have been read before.
            let count = if self.is_sparse && from == bottom { 1 } else { self.batch };
            self.requests += 1;
            let mut answers = read_batch(self.broker, self.name, ALL, from, count).await?;
            let is_full = answers.len() >= count;
            let in_window = answers.iter().take_while(|one| one.sequence < self.top).count();
            let passed_top = in_window < answers.len();
            answers.truncate(in_window);
            messages.append(&mut answers);
            // The response ended early: the replica has no further message or lags, or the batch
            // reached its limit in bytes. The leader decides whether the window contains another
            // one.
            if !passed_top && !is_full {
                from = messages.last().map_or(bottom, |last| last.sequence + 1);
                self.requests += 1;
                let missed = next_on_leader(self.stream, ALL, from).await?;
                match missed.filter(|missed| missed.sequence < self.top) {
                    Some(missed) => messages.push(missed),
                    None => return Ok(Some(messages)),
                }
            }
            // Bounds the memory of a window.
            if messages.len() > 2 * self.batch {
                return Ok(None);
            }
            if passed_top {
                return Ok(Some(messages));
            }
            from = messages.last().map_or(bottom, |last| last.sequence + 1);
        }
        Ok(Some(messages))
    }
}
