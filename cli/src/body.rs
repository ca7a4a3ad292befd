//! Request bodies. Each attempt streams a document from its file again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::HeaderValue;
use serde_json::Value;

use crate::error::Error;

/// Maximum number of bytes of one read from a file.
const CHUNK_BYTES: usize = 64 << 10;

/// Type of the bodies that hyper sends.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Content of a request. It can be sent several times.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Nothing,
    Json(Bytes),
    /// NDJSON: one JSON value per line.
    Lines(Bytes),
    Form(Form),
}

/// Multipart form with one file.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    /// Name of the source in error messages.
    name: String,
    file: Arc<File>,
    size_bytes: u64,
    head: Bytes,
    tail: Bytes,
    content_type: HeaderValue,
    /// Number of file bytes that the current attempt has passed to hyper.
    sent: Arc<AtomicU64>,
    /// Sum of `sent` over all forms, for the progress line.
    progress: Arc<AtomicU64>,
}

/// State of one attempt to send a body.
#[derive(Debug, Default)]
pub(crate) struct SendAttempt {
    sent: AtomicU64,
    failure: Mutex<Option<Error>>,
}

impl SendAttempt {
    /// Returns the number of file bytes that were passed to hyper.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Takes the error that ended the body early, for example if the file could not be read.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: Error) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl Payload {
    /// Creates a JSON payload.
    pub(crate) fn json(value: &Value) -> Self {
        Self::Json(value.to_string().into())
    }

    /// Returns the content type, or `None` without content.
    pub(crate) fn content_type(&self) -> Option<HeaderValue> {
        match self {
            Self::Nothing => None,
            Self::Json(_) => Some(HeaderValue::from_static("application/json")),
            Self::Lines(_) => Some(HeaderValue::from_static("application/x-ndjson")),
            Self::Form(form) => Some(form.content_type.clone()),
        }
    }

    /// Returns the length in bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Json(json) | Self::Lines(json) => byte_length(json),
            Self::Form(form) => form.size_bytes + byte_length(&form.head) + byte_length(&form.tail),
        }
    }

    /// Creates a new body for an attempt, which starts with the first byte.
    pub(crate) fn body(&self, attempt: &Arc<SendAttempt>) -> Body {
        match self {
            Self::Nothing => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Self::Json(json) | Self::Lines(json) => {
                Full::new(json.clone()).map_err(|never| match never {}).boxed_unsync()
            }
            Self::Form(form) => form.body(attempt),
        }
    }
}

/// Next part of a form to send.
enum FormPart {
    Head,
    /// Offset of the next byte.
    File(u64),
    End,
}

impl Form {
    /// Creates a form with a file of `size_bytes`. `name` appears in error messages, `file_name` in
    /// the form. The content type defaults to `application/octet-stream`.
    pub(crate) fn new(
        name: &str,
        file: Arc<File>,
        size_bytes: u64,
        file_name: &str,
        content_type: Option<&str>,
        progress: Arc<AtomicU64>,
    ) -> Result<Self, Error> {
        let boundary = new_boundary()?;
        let content_type = content_type.unwrap_or("application/octet-stream");
        let head = format!(
            "--{boundary}\r\n\
             Content-Disposition: form-data; name=\"document\"; filename=\"{}\"\r\n\
             Content-Type: {content_type}\r\n\r\n",
            quote_file_name(file_name)
        );
        let content_type = format!("multipart/form-data; boundary={boundary}");
        let content_type = HeaderValue::try_from(content_type);
        Ok(Self {
            name: name.to_owned(),
            file,
            size_bytes,
            head: head.into(),
            tail: format!("\r\n--{boundary}--\r\n").into(),
            content_type: content_type.map_err(|error| Error::Usage(error.to_string()))?,
            sent: Arc::default(),
            progress,
        })
    }

    fn body(&self, attempt: &Arc<SendAttempt>) -> Body {
        // A retry starts at the beginning of the file, so the bytes of the previous attempt are
        // subtracted.
        self.progress.fetch_sub(self.sent.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        let form = self.clone();
        let attempt = Arc::clone(attempt);
        let chunks = stream::try_unfold(FormPart::Head, move |part| {
            let form = form.clone();
            let attempt = Arc::clone(&attempt);
            async move { form.next_frame(part, &attempt).await }
        });
        StreamBody::new(chunks).boxed_unsync()
    }

    async fn next_frame(
        &self,
        part: FormPart,
        attempt: &SendAttempt,
    ) -> io::Result<Option<(Frame<Bytes>, FormPart)>> {
        let (data, next) = match part {
            FormPart::Head => (self.head.clone(), FormPart::File(0)),
            FormPart::File(offset) if offset < self.size_bytes => {
                let chunk = self.read_chunk(offset).await.map_err(|source| {
                    let kind = source.kind();
                    attempt.fail(Error::File {
                        operation: format!("cannot read {}", self.name),
                        source,
                    });
                    kind
                })?;
                let length = byte_length(&chunk);
                for counter in [&attempt.sent, &self.sent, &self.progress] {
                    counter.fetch_add(length, Ordering::Relaxed);
                }
                (chunk, FormPart::File(offset.saturating_add(length)))
            }
            FormPart::File(_) => (self.tail.clone(), FormPart::End),
            FormPart::End => return Ok(None),
        };
        Ok(Some((Frame::data(data), next)))
    }

    /// Reads a chunk of the file on a blocking thread.
    async fn read_chunk(&self, offset: u64) -> io::Result<Bytes> {
        let file = Arc::clone(&self.file);
        let left = usize::try_from(self.size_bytes - offset).unwrap_or(usize::MAX);
        let read_task = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; left.min(CHUNK_BYTES)];
            let read = file.read_at(&mut chunk, offset)?;
            chunk.truncate(read);
            Ok::<_, io::Error>(chunk)
        });
        let chunk = read_task.await.map_err(io::Error::other)??;
        if chunk.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the file became shorter while it was sent",
            ));
        }
        Ok(chunk.into())
    }
}

fn byte_length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Escapes quotation marks and line breaks in a file name as browsers do, and removes other control
/// characters.
fn quote_file_name(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '"' => quoted.push_str("%22"),
            '\r' => quoted.push_str("%0D"),
            '\n' => quoted.push_str("%0A"),
            c if c.is_control() => {}
            c => quoted.push(c),
        }
    }
    quoted
}

/// Returns a boundary. The probability that a document contains it is 1 in 2^128.
fn new_boundary() -> Result<String, Error> {
    Ok(format!("wordmill-{}", nonce()?))
}

/// Returns 128 random bits in hexadecimal.
pub(crate) fn nonce() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Error::File {
        operation: "cannot get random bytes".to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(HEXLOWER.encode(&bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn form(content: &[u8], size_bytes: u64, progress: &Arc<AtomicU64>) -> Payload {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let name = "a\"b\n\u{1b}ü.txt";
        let progress = Arc::clone(progress);
        let form = Form::new("x", Arc::new(file), size_bytes, name, Some("text/plain"), progress);
        Payload::Form(form.unwrap())
    }

    #[tokio::test]
    async fn every_attempt_sends_the_announced_length() {
        let progress = Arc::new(AtomicU64::new(0));
        let content = vec![b'w'; 3 * CHUNK_BYTES + 5];
        let size = u64::try_from(content.len()).unwrap();
        let payload = form(&content, size, &progress);
        for _ in 0..2 {
            let attempt = Arc::default();
            let sent = payload.body(&attempt).collect().await.unwrap().to_bytes();
            assert_eq!(u64::try_from(sent.len()).unwrap(), payload.size_bytes());
            assert_eq!(attempt.sent(), size);
            let head = String::from_utf8(sent[..150].to_vec()).unwrap();
            assert!(head.contains("filename=\"a%22b%0Aü.txt\"\r\n"), "{head}");
            assert!(sent.windows(content.len()).any(|window| window == content));
        }
        assert_eq!(progress.load(Ordering::Relaxed), size);
    }

    #[tokio::test]
    async fn a_file_that_shrinks_ends_the_body_with_an_error() {
        let payload = form(b"short", 100, &Arc::default());
        let attempt = Arc::default();
        assert!(payload.body(&attempt).collect().await.is_err());
        let failure = attempt.take_failure().unwrap().to_string();
        assert_eq!(failure, "cannot read x: the file became shorter while it was sent");
    }
}
