//! Reads forms with one file: `multipart/form-data`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::Stream;
use multer::{Field, Multipart};

use crate::http::problem::{Code, Problem};
use crate::intake::pieces::{Pieces, incomplete_body, wait_for_piece};

/// Maximum size of a form in addition to its file, in bytes.
pub(crate) const FORM_OVERHEAD_BYTES_MAX: u64 = 64 << 10;
/// Maximum size of the data before or after the file (names, headers, boundaries), in bytes. The
/// parser buffers it in memory until it is complete.
const PART_HEAD_BYTES_MAX: usize = 64 << 10;

/// A form with one file, which is read piece by piece.
pub(crate) struct Form<'a> {
    multipart: Multipart<'a>,
    file: Option<Field<'a>>,
    content_type: Option<String>,
    file_name: Option<String>,
    buffered_bytes: Arc<AtomicUsize>,
    stall_timeout: Duration,
}

impl<'a> Form<'a> {
    /// Reads the form up to the start of its file.
    pub(crate) async fn open(
        headers: &HeaderMap,
        body: &'a mut Body,
        stall_timeout: Duration,
    ) -> Result<Self, Problem> {
        let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(named.unwrap_or_default()).map_err(invalid_form)?;
        let buffered_bytes = Arc::new(AtomicUsize::new(0));
        let frames =
            Frames { body, buffered_bytes: Arc::clone(&buffered_bytes), has_returned_frame: false };
        let mut multipart = Multipart::new(frames, boundary);
        let first =
            wait_for_piece(stall_timeout, multipart.next_field()).await?.map_err(invalid_form)?;
        let Some(file) = first else {
            let detail = "The form is empty. Send one file in it.";
            return Err(Problem::new(Code::InvalidMultipart, detail));
        };
        let named = file.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(Self {
            content_type: named.map(str::to_owned),
            file_name: file.file_name().map(str::to_owned),
            file: Some(file),
            multipart,
            buffered_bytes,
            stall_timeout,
        })
    }

    /// Returns the content type of the file, as the form gives it.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Returns the name of the file.
    pub(crate) fn file_name(&self) -> Option<&str> {
        self.file_name.as_deref()
    }
}

impl Pieces for Form<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        // Data of the file is not limited by `PART_HEAD_BYTES_MAX`, so each piece resets the
        // counter.
        self.buffered_bytes.store(0, Ordering::Relaxed);
        if let Some(file) = &mut self.file {
            if let Some(piece) =
                wait_for_piece(self.stall_timeout, file.chunk()).await?.map_err(invalid_form)?
            {
                return Ok(Some(piece));
            }
            self.file = None;
        }
        // Read up to the last boundary to make sure that the form is complete.
        let more = wait_for_piece(self.stall_timeout, self.multipart.next_field()).await?;
        match more.map_err(invalid_form)? {
            None => Ok(None),
            Some(_) => {
                let detail = "The form has more than one part. Send one file, and put labels, \
                              lane and options into the query.";
                Err(Problem::new(Code::InvalidMultipart, detail))
            }
        }
    }
}

/// Stream of the frames of a body that returns one frame per poll. Without this, the parser would
/// read and buffer all frames that are available.
struct Frames<'a> {
    body: &'a mut Body,
    buffered_bytes: Arc<AtomicUsize>,
    has_returned_frame: bool,
}

/// Reason why the stream of frames ended early.
#[derive(Debug, thiserror::Error)]
enum FrameError {
    #[error("the body is incomplete")]
    Incomplete,
    #[error("the form has more than {PART_HEAD_BYTES_MAX} bytes in addition to the file")]
    TooLarge,
}

impl Stream for Frames<'_> {
    type Item = Result<Bytes, FrameError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // After each frame, return `Pending` once and wake the task, so that the parser processes
        // that frame first.
        if std::mem::take(&mut self.has_returned_frame) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let frame = std::task::ready!(Pin::new(&mut *self.body).poll_frame(cx));
            let data = match frame {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(FrameError::Incomplete))),
                Some(Ok(frame)) => frame.into_data(),
            };
            // Ignore trailers.
            let Ok(data) = data else { continue };
            let before = self.buffered_bytes.fetch_add(data.len(), Ordering::Relaxed);
            // The parser asked for more without returning a piece: it is buffering names or
            // headers.
            if before > PART_HEAD_BYTES_MAX {
                return Poll::Ready(Some(Err(FrameError::TooLarge)));
            }
            self.has_returned_frame = true;
            return Poll::Ready(Some(Ok(data)));
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn invalid_form(error: multer::Error) -> Problem {
    let mut cause: Option<&dyn std::error::Error> = Some(&error);
    while let Some(source) = cause {
        if matches!(source.downcast_ref(), Some(FrameError::Incomplete)) {
            return incomplete_body();
        }
        cause = source.source();
    }
    let is_incomplete = matches!(
        error,
        multer::Error::IncompleteStream
            | multer::Error::IncompleteHeaders
            | multer::Error::IncompleteFieldData { .. }
    );
    let detail = if is_incomplete {
        "The form ends before its last boundary.".to_owned()
    } else {
        format!("The form cannot be parsed: {error}.")
    };
    Problem::new(Code::InvalidMultipart, detail)
}
