//! Answers to requests that never become any: a head that is malformed or too large.
//!
//! hyper answers these itself, with a bare status, before anything of ours sees a request, and closes the
//! connection. Such an answer is a whole head without a body, written at once, and all others name their
//! trace: so it is found where it is written, and a problem is sent in its place.

use std::fmt::Write;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::debug;
use wordmill_common::trace::TraceId;

use crate::problem::{Code, Problem};
use crate::routes::{NO_SNIFFING, OWN_ORIGIN_ONLY};

/// Longest head that hyper writes by itself, in bytes.
const BARE_BYTES_MAX: usize = 512;
/// What hyper says of the body.
const NO_BODY: &str = "content-length: 0\r\n";
/// What all answers of ours have.
const OURS: &str = "traceresponse:";

/// A stream that replaces bare answers.
#[derive(Debug)]
pub(super) struct Speaking<S> {
    stream: S,
    /// What is still to be sent in place of an answer that was replaced.
    left: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Speaking<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, left: Bytes::new() }
    }

    /// Sends what is left.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.left.is_empty() {
            let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.left))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            drop(self.left.split_to(sent));
        }
        Poll::Ready(Ok(()))
    }

    /// Takes a bare answer, and keeps what is sent in its place; `false` if it is none.
    fn replace(&mut self, written: &[u8]) -> bool {
        let Some(whole) = in_place_of(written) else { return false };
        self.left = whole.into();
        true
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Speaking<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_left(cx))?;
        if self.replace(buffer) {
            return Poll::Ready(Ok(buffer.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_left(cx))?;
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
        ready!(self.poll_left(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_left(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Speaking<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

/// Returns what is sent in place of a bare answer; `None` for everything else.
fn in_place_of(written: &[u8]) -> Option<String> {
    if written.len() > BARE_BYTES_MAX || !written.starts_with(b"HTTP/1.") {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?;
    if !head.ends_with("\r\n\r\n") || !head.contains(NO_BODY) || head.contains(OURS) {
        return None;
    }
    let (code, detail) = match head.split(' ').nth(1)? {
        "400" => (Code::MalformedRequest, "The request line or a header field is not HTTP/1.1."),
        "431" => (
            Code::HeadTooLarge,
            "The head of the request is larger than 64 KiB, or has more than 100 fields.",
        ),
        _ => return None,
    };
    let trace_id = TraceId::random();
    debug!(%trace_id, code = code.name(), "a head was refused");
    let body = Problem::new(code, detail).body(trace_id).to_string();
    let mut fields =
        format!("content-type: application/problem+json\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in [NO_SNIFFING, OWN_ORIGIN_ONLY] {
        // Writing to a string cannot fail.
        let _ = write!(fields, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    Some(head.replacen(NO_BODY, &fields, 1) + &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_answers_are_replaced() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                    content-length: 0\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
        let whole = in_place_of(bare.as_bytes()).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert!(body.contains("\"code\":\"head_too_large\""), "{body}");
        for other in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            bare.replace("date:", "traceresponse:"),
            bare.replace("content-length: 0", "content-length: 9"),
            format!("{bare}x"),
            "{\"text\":\"HTTP/1.1 431 \"}".to_owned(),
        ] {
            assert_eq!(in_place_of(other.as_bytes()), None, "{other}");
        }
    }
}
