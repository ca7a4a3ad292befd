//! A stream read backwards, from the newest message to the oldest.
//!
//! Streams are read forwards only, so sequence numbers are walked down in windows, each of which is
//! read forwards: one request, many answers, no consumer. Where messages are far apart the windows
//! grow, where they are dense they shrink.
//!
//! All messages are read, whatever their subject: for a batch with a filter that has a wildcard the
//! server looks at every subject of the stream, which takes it fifty times as long with a million.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::Stream as JetStream;

use crate::Error;
use crate::connect::Broker;
use crate::stream_read::{BATCH_MAX, batch, next_on_leader};

/// Every subject.
const ALL: &str = ">";

/// A walk down a stream.
#[derive(Debug)]
pub(crate) struct BackwardScan<'a> {
    broker: &'a Broker,
    stream: &'a JetStream<()>,
    name: &'a str,
    /// The lowest sequence number.
    oldest: u64,
    /// Everything from here on has been read.
    top: u64,
    /// How many sequence numbers the next window has.
    size: u64,
    /// How many messages are asked for at once.
    batch: usize,
    /// The last window had no messages.
    is_sparse: bool,
    /// How often the broker was asked.
    requests: u32,
}

impl<'a> BackwardScan<'a> {
    /// Begins a walk below `top` that asks for `batch` messages at once, 1 to [`BATCH_MAX`].
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

    /// Returns the sequence number from which on everything has been read.
    pub(crate) fn top(&self) -> u64 {
        self.top
    }

    /// Returns how often the broker was asked.
    pub(crate) fn requests(&self) -> u32 {
        self.requests
    }

    /// Tells whether everything has been read.
    pub(crate) fn is_finished(&self) -> bool {
        self.top <= self.oldest
    }

    /// Reads one window, oldest message first; there may be none in it.
    pub(crate) async fn next_window(&mut self) -> Result<Vec<StreamMessage>, Error> {
        while !self.is_finished() {
            let bottom = self.top.saturating_sub(self.size).max(self.oldest);
            let Some(messages) = self.collect(bottom).await? else {
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

    /// Reads what lies between `bottom` and the top; `None` if that is too much for one window.
    ///
    /// Where a replica has no more to tell, it may be behind: the leader knows.
    async fn collect(&mut self, bottom: u64) -> Result<Option<Vec<StreamMessage>>, Error> {
        let mut messages = Vec::new();
        let mut from = bottom;
        while from < self.top {
            let count = if self.is_sparse && from == bottom { 1 } else { self.batch };
            self.requests += 1;
            let mut answers = batch(self.broker, self.name, ALL, from, count).await?;
            let is_full = answers.len() >= count;
            let in_window = answers.iter().take_while(|one| one.sequence < self.top).count();
            let passed_top = in_window < answers.len();
            answers.truncate(in_window);
            messages.append(&mut answers);
            if !passed_top && !is_full {
                from = messages.last().map_or(bottom, |last| last.sequence + 1);
                self.requests += 1;
                let missed = next_on_leader(self.stream, ALL, from).await?;
                match missed.filter(|missed| missed.sequence < self.top) {
                    Some(missed) => messages.push(missed),
                    None => return Ok(Some(messages)),
                }
            }
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
