//! Completes the responses that hyper generates itself for a head that is malformed or too large.
//!
//! Before any handler sees such a request, hyper responds with a status line and no body, and
//! closes the connection. It passes this response to a single write. The wrapper recognizes it in
//! `poll_write` and sends a complete response instead.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::CompleteResponseFn;

/// Stream that replaces bare responses.
#[derive(Debug)]
pub(super) struct CompletingStream<S> {
    stream: S,
    complete_response: CompleteResponseFn,
    /// Unsent rest of a complete response.
    unsent: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CompletingStream<S> {
    pub(super) fn new(stream: S, complete_response: CompleteResponseFn) -> Self {
        Self { stream, complete_response, unsent: Bytes::new() }
    }

    /// Sends the unsent rest of a complete response.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(self.unsent.split_to(sent));
        }
        Poll::Ready(Ok(()))
    }

    /// Replaces a bare response with the complete one. Returns `false` for any other bytes.
    fn replace(&mut self, written: &[u8]) -> bool {
        let Some(whole) = (self.complete_response)(written) else { return false };
        self.unsent = whole.into();
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for CompletingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        if self.replace(buffer) {
            // Report the bare response as written, although other bytes are sent.
            return Poll::Ready(Ok(buffer.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        if let Some(first) = buffers.first()
            && self.replace(first)
        {
            return Poll::Ready(Ok(first.len()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CompletingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}
