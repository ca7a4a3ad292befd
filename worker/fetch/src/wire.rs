//! The body of an answer as it comes off the network, counted and timed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::error::{Error, SizeLimit, Wait};
use super::exchange::Link;
use super::hosts::Slot;
use super::limits::Limits;

/// A body that has not been decompressed. Its errors are [`Error`]s wrapped for the reader traits.
pub(super) struct Wire {
    body: Incoming,
    link: Link,
    unread: Bytes,
    received: u64,
    consumed: u64,
    header_size_max: usize,
    size_max: u64,
    silence: Silence,
    // Given back with the connection.
    _slot: Slot,
}

impl Wire {
    /// Wraps the body of an answer together with the connection that it comes over.
    pub(super) fn new(body: Incoming, link: Link, slot: Slot, limits: &Limits) -> Self {
        Self {
            body,
            link,
            unread: Bytes::new(),
            received: 0,
            consumed: 0,
            header_size_max: limits.header_size_max,
            size_max: limits.wire_size_max,
            silence: Silence::new(limits.stall_timeout),
            _slot: slot,
        }
    }

    /// Returns how many bytes the network has delivered.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Returns how many bytes the reader has taken.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Says that the reader is leaving for a while: from here on, the server is not waited for.
    pub(super) fn pause(&mut self) {
        self.silence.end();
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            self.link.poll_drive(cx);
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        // The clock is asked last, so bytes that arrived while nobody looked are never late.
        if frame.is_pending() && self.silence.poll_too_long(cx).is_ready() {
            let limit = self.silence.limit;
            return Poll::Ready(Some(Err(Error::Timeout { wait: Wait::NextByte, limit })));
        }
        let frame = ready!(frame);
        self.silence.end();
        let header_size_max = self.header_size_max;
        Poll::Ready(frame.map(|frame| frame.map_err(|e| Error::from_http(e, header_size_max))))
    }

    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.unread.is_empty() {
            let Some(frame) = ready!(self.poll_frame(cx)) else {
                break;
            };
            // Frames that are not data are trailers, which nobody asked for.
            let data = frame?.into_data().unwrap_or_default();
            self.received = self.received.saturating_add(length(&data));
            if self.received > self.size_max {
                return Poll::Ready(Err(SizeLimit::Wire(self.size_max).into()));
            }
            self.unread = data;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for Wire {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_unread(cx)).map_err(Error::into_io)?;
        Poll::Ready(Ok(&this.unread))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.unread.len());
        self.unread.advance(amount);
        self.consumed = self.consumed.saturating_add(u64::try_from(amount).unwrap_or(u64::MAX));
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unread = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = unread.len().min(buf.remaining());
        buf.put_slice(unread.get(..amount).unwrap_or_default());
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// How long the server has been silent while it was listened to.
struct Silence {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    listening: bool,
}

impl Silence {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: None, listening: false }
    }

    /// Starts or goes on listening; ready when the silence has lasted too long.
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        if !self.listening {
            timer.as_mut().reset(Instant::now() + self.limit);
            self.listening = true;
        }
        timer.as_mut().poll(cx)
    }

    fn end(&mut self) {
        self.listening = false;
    }
}
