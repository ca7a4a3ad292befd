//! Body of a response as it is transferred, with its size limit and stall timeout.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming};
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::error::{Error, Phase, SizeLimit};
use super::exchange::ConnectionDriver;
use super::hosts::HostPermit;
use super::limits::Limits;

/// Body before decompression. Its errors are [`Error`]s, wrapped for the reader traits.
pub(super) struct WireBody {
    body: Incoming,
    driver: ConnectionDriver,
    unread: Bytes,
    received_bytes: u64,
    consumed_bytes: u64,
    header_size_max: usize,
    size_max: u64,
    stall_timer: StallTimer,
    // Released together with the connection.
    _slot: HostPermit,
}

impl WireBody {
    /// Wraps the body of a response together with its connection.
    pub(super) fn new(
        body: Incoming,
        driver: ConnectionDriver,
        slot: HostPermit,
        limits: &Limits,
    ) -> Self {
        Self {
            body,
            driver,
            unread: Bytes::new(),
            received_bytes: 0,
            consumed_bytes: 0,
            header_size_max: limits.header_size_max,
            size_max: limits.wire_size_max,
            stall_timer: StallTimer::new(limits.stall_timeout),
            _slot: slot,
        }
    }

    /// Returns the number of bytes that have been received from the network.
    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Returns the number of bytes that the reader has consumed.
    pub(super) fn consumed_bytes(&self) -> u64 {
        self.consumed_bytes
    }

    /// Stops the stall timer until the next read, because a pause of the reader is not a stall of
    /// the server.
    pub(super) fn pause(&mut self) {
        self.stall_timer.stop();
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        // The body makes progress only while the connection is driven, so poll it again after that.
        if frame.is_pending() {
            self.driver.poll_drive(cx);
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        // Poll the timer last, so that bytes that have already arrived are never too late.
        if frame.is_pending() && self.stall_timer.poll_expired(cx).is_ready() {
            let limit = self.stall_timer.limit;
            return Poll::Ready(Some(Err(Error::Timeout { phase: Phase::NextByte, limit })));
        }
        let frame = ready!(frame);
        self.stall_timer.stop();
        let header_size_max = self.header_size_max;
        Poll::Ready(frame.map(|frame| frame.map_err(|e| Error::from_http(e, header_size_max))))
    }

    fn poll_fill_unread(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.unread.is_empty() {
            let Some(frame) = ready!(self.poll_frame(cx)) else {
                break;
            };
            // Frames without data are trailers, which are ignored.
            let data = frame?.into_data().unwrap_or_default();
            self.received_bytes = self.received_bytes.saturating_add(length(&data));
            if self.received_bytes > self.size_max {
                return Poll::Ready(Err(SizeLimit::Wire(self.size_max).into()));
            }
            self.unread = data;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for WireBody {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_fill_unread(cx)).map_err(Error::into_io)?;
        Poll::Ready(Ok(&this.unread))
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        let amount = amount.min(self.unread.len());
        self.unread.advance(amount);
        self.consumed_bytes =
            self.consumed_bytes.saturating_add(u64::try_from(amount).unwrap_or(u64::MAX));
    }
}

impl AsyncRead for WireBody {
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

/// Timer that measures the silence of the server while the reader waits.
struct StallTimer {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl StallTimer {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: None, is_running: false }
    }

    /// Starts the timer if it is not running. Ready when the server has sent nothing for `limit`.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        if !self.is_running {
            timer.as_mut().reset(Instant::now() + self.limit);
            self.is_running = true;
        }
        timer.as_mut().poll(cx)
    }

    fn stop(&mut self) {
        self.is_running = false;
    }
}
