//! Page that is being received.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncBufRead;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;
use url::Url;

use super::decode::{ContentEncoding, Decoder, TrailingData};
use super::error::{DecodeFault, Error, Phase};
use super::limits::Limits;
use super::response::{Framing, Head};
use super::wire::WireBody;

/// Maximum size of a chunk of a page, in bytes. Small reads from the network are combined up to
/// this size, so that a queue of chunks wastes little memory.
pub const CHUNK_SIZE_MAX: usize = 64 << 10;

/// Page with a success status whose header has arrived. The body is read with [`Page::chunk`].
///
/// Dropping the page closes the connection and releases the host's slot.
pub struct Page {
    /// URL of the page after all redirects.
    pub final_url: Url,
    /// Status, 200 to 299.
    pub status: u16,
    /// `Content-Type` header as sent; `None` if it is missing or contains other than visible ASCII.
    pub content_type: Option<String>,
    /// Number of redirects to this page.
    pub redirects: usize,
    encoding: ContentEncoding,
    framing: Framing,
    total_bytes: Option<u64>,
    received_bytes: u64,
    decoded_bytes: u64,
    limits: Limits,
    deadline: Pin<Box<Sleep>>,
    buffer: BytesMut,
    state: State,
}

/// Progress of receiving a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Received bytes of the body, before decompression.
    pub received_bytes: u64,
    /// Size of the body before decompression, in bytes, if the server announced it.
    pub total_bytes: Option<u64>,
    /// Decompressed bytes that the caller has received.
    pub decoded_bytes: u64,
}

enum State {
    /// The first byte, which selects the decoder, has not arrived.
    Opening(Box<WireBody>),
    Reading(Decoder<WireBody>),
    /// The decoder has finished; the body must end here.
    Ending(Decoder<WireBody>),
    Complete,
    Failed,
}

/// Next state of the page, and the result for the caller.
type StepResult = Result<(State, Poll<Step>), Error>;

enum Step {
    Again,
    Chunk(Bytes),
    End,
}

impl Page {
    /// Starts receiving a page. `deadline` is the end of the whole fetch.
    pub(super) fn new(
        final_url: Url,
        head: Head,
        wire: WireBody,
        redirects: usize,
        limits: &Limits,
        deadline: Instant,
    ) -> Self {
        Self {
            final_url,
            status: head.status,
            content_type: head.content_type,
            redirects,
            encoding: head.encoding,
            framing: head.framing,
            total_bytes: head.total_bytes,
            received_bytes: 0,
            decoded_bytes: 0,
            limits: limits.clone(),
            deadline: Box::pin(sleep_until(deadline)),
            buffer: BytesMut::new(),
            state: State::Opening(Box::new(wire)),
        }
    }

    /// Returns the next chunk of the decompressed body; `None` after the last one.
    ///
    /// `None` means that the body is complete. After an error the connection is closed, and further
    /// calls fail. Cancel-safe: no data is lost if the future is dropped and the method is called
    /// again.
    ///
    /// # Errors
    /// [`Error`] if the body exceeds a limit, cannot be decompressed, or ends early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Returns the progress so far.
    pub fn progress(&self) -> Progress {
        Progress {
            received_bytes: self.received_bytes,
            total_bytes: self.total_bytes,
            decoded_bytes: self.decoded_bytes,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        let chunk = match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) if !matches!(self.state, State::Complete) => {
                let limit = self.limits.total_timeout;
                Err(Error::Timeout { phase: Phase::Total, limit })
            }
            Poll::Ready(()) | Poll::Pending => ready!(self.poll_state(cx)),
        };
        if chunk.is_err() {
            self.state = State::Failed;
            self.buffer = BytesMut::new();
        }
        Poll::Ready(chunk)
    }

    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            // If the step fails or panics, the page stays failed.
            let (next_state, step) = match mem::replace(&mut self.state, State::Failed) {
                State::Opening(wire) => self.poll_open(cx, wire)?,
                State::Reading(decoder) => self.poll_read(cx, decoder)?,
                State::Ending(decoder) => self.poll_end(cx, decoder)?,
                State::Complete => (State::Complete, Poll::Ready(Step::End)),
                State::Failed => {
                    let source = "the fetch has already failed".into();
                    return Poll::Ready(Err(Error::Truncated { source }));
                }
            };
            self.state = next_state;
            match ready!(step) {
                Step::Again => {}
                Step::Chunk(chunk) => return Poll::Ready(Ok(Some(chunk))),
                Step::End => return Poll::Ready(Ok(None)),
            }
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>, mut wire: Box<WireBody>) -> StepResult {
        let first = Pin::new(wire.as_mut()).poll_fill_buf(cx);
        let first = first.map_ok(|bytes| bytes.first().copied());
        self.received_bytes = wire.received_bytes();
        let Poll::Ready(first) = first else {
            return Ok((State::Opening(wire), Poll::Pending));
        };
        let state = match first.map_err(|error| self.classify_read_error(error))? {
            Some(byte) => State::Reading(Decoder::try_new(self.encoding, byte, *wire)?),
            // An empty body is valid in every encoding.
            None => State::Complete,
        };
        Ok((state, Poll::Ready(Step::Again)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, mut decoder: Decoder<WireBody>) -> StepResult {
        let fill = self.poll_fill(cx, &mut decoder);
        self.received_bytes = decoder.wire().received_bytes();
        let Poll::Ready(fill) = fill else {
            return Ok((State::Reading(decoder), Poll::Pending));
        };
        fill?;
        if self.buffer.is_empty() {
            // The data has ended. The page is complete only if the body also ends here.
            return Ok((State::Ending(decoder), Poll::Ready(Step::Again)));
        }
        // The caller, not the server, determines the time until the next call.
        decoder.wire().pause();
        let chunk = mem::take(&mut self.buffer).freeze();
        Ok((State::Reading(decoder), Poll::Ready(Step::Chunk(chunk))))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, mut decoder: Decoder<WireBody>) -> StepResult {
        let trailing_data = decoder.poll_trailing_data(cx);
        self.received_bytes = decoder.wire().received_bytes();
        let Poll::Ready(trailing_data) = trailing_data else {
            return Ok((State::Ending(decoder), Poll::Pending));
        };
        match trailing_data.map_err(|error| self.classify_read_error(error))? {
            TrailingData::Absent => Ok((State::Complete, Poll::Ready(Step::Again))),
            TrailingData::Present => {
                Err(DecodeFault::Trailing { encoding: self.encoding.name() }.into())
            }
        }
    }

    /// Fills the buffer with at least one byte, as far as possible without waiting. At the end of
    /// the data it stays empty.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder<WireBody>,
    ) -> Poll<Result<(), Error>> {
        if self.buffer.capacity() == 0 {
            self.buffer = BytesMut::with_capacity(CHUNK_SIZE_MAX);
        }
        while self.buffer.len() < self.buffer.capacity() {
            let length = match poll_read_buf(Pin::new(decoder.reader()), cx, &mut self.buffer) {
                Poll::Pending if self.buffer.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(result) => result.map_err(|error| self.classify_read_error(error))?,
            };
            if length == 0 {
                break;
            }
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            self.decoded_bytes = self.decoded_bytes.saturating_add(length);
            // Compare with the consumed bytes: received bytes that the decoder has not read yet
            // would hide a high ratio.
            self.limits.check_decoded(self.decoded_bytes, decoder.wire().consumed_bytes())?;
        }
        Poll::Ready(Ok(()))
    }

    /// Distinguishes errors of the network from those of the decoder.
    fn classify_read_error(&self, error: io::Error) -> Error {
        let source = match Error::from_io(error) {
            Ok(error) => return error,
            Err(source) => source,
        };
        if source.kind() == io::ErrorKind::UnexpectedEof && self.framing == Framing::UntilClose {
            // Only the end of the connection marks the end of this body, so the connection closed
            // too early.
            return Error::Truncated { source: source.into() };
        }
        DecodeFault::Corrupt { encoding: self.encoding.name(), source }.into()
    }
}
