//! Counts an uploaded document, which is stored in the message or in the object store.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use futures_util::Stream;
use futures_util::stream::unfold;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;
use tracing::debug;
use wordmill_common::failure::{Failure, FailureCode};
use wordmill_common::source::{Content, Document};
use wordmill_count::{DocumentCount, Options};
use wordmill_fetch::{CHUNK_SIZE_MAX, ContentEncoding, DecodeFault, Decoder, Limits, TrailingData};
use wordmill_nats::Error;
use wordmill_nats::documents::{self, Documents};

use super::{CHUNKS_WAITING_MAX, Chunks, OwnedHints, classify_fetch_error, count_off_thread};
use crate::Worker;
use crate::keep_alive::ProgressMeter;
use crate::outcome::AttemptFailure;
use crate::spans::CountSpans;

/// Delay before an unavailable object store is read again. The number of tries is not limited: the
/// attempt makes no progress meanwhile, so `keep_alive` ends it as stalled.
const STORE_RETRY_DELAY: Duration = Duration::from_millis(500);

/// Counts a document. A stored object is streamed, and read only as fast as it is counted.
pub(super) async fn count(
    worker: &Worker,
    document: &Document,
    options: Options,
    meter: &Arc<ProgressMeter>,
) -> Result<DocumentCount, AttemptFailure> {
    let encoding = match document.content_encoding.as_deref() {
        None => ContentEncoding::Identity,
        Some(name) => {
            ContentEncoding::from_name(name).map_err(|fault| classify_fetch_error(&fault.into()))?
        }
    };
    let mut stored = StoredBytes::open(&worker.documents, document).await?;
    let hints = OwnedHints { content_type: document.content_type.clone(), host_tld: None };
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let is_complete = Arc::new(AtomicBool::new(false));
    let chunks = Chunks { receiver, current: Bytes::new(), is_complete: Arc::clone(&is_complete) };
    let counting = count_off_thread(chunks, hints, options, meter, CountSpans::for_page());
    let forwarding = async {
        if encoding == ContentEncoding::Identity {
            meter.set_total(document.size_bytes);
            while let Some(chunk) = stored.next().await? {
                // The counter ended early, and returns the reason itself.
                if sender.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
        } else {
            decompress(stored, encoding, worker.fetcher.limits(), &sender).await?;
        }
        is_complete.store(true, Ordering::Release);
        drop(sender);
        Ok::<_, AttemptFailure>(())
    };
    let (forward_result, count_result) = tokio::join!(forwarding, counting);
    // If the document ended early, the counter failed as well, but only the read error contains the
    // reason.
    forward_result?;
    count_result
}

/// Bytes of a document as the client sent them. Reading fails at the end if their SHA-256 differs
/// from that of the upload.
struct StoredBytes {
    source: BytesSource,
    digest: Sha256,
    /// SHA-256 of the upload, in hexadecimal.
    sha256: String,
}

enum BytesSource {
    Inline(Option<Bytes>),
    Object(Box<documents::Document>),
}

impl StoredBytes {
    async fn open(documents: &Documents, document: &Document) -> Result<Self, AttemptFailure> {
        let source = match &document.content {
            Content::Inline(bytes) => BytesSource::Inline(Some(Bytes::copy_from_slice(bytes))),
            Content::Object(name) => loop {
                match documents.read(name).await {
                    Ok(Some(document)) => break BytesSource::Object(Box::new(document)),
                    Ok(None) => return Err(source_gone()),
                    Err(error) => wait_for_store(error).await?,
                }
            },
        };
        Ok(Self { source, digest: Sha256::new(), sha256: document.sha256.clone() })
    }

    /// Returns the next chunk; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Bytes>, AttemptFailure> {
        let chunk = loop {
            let next = match &mut self.source {
                BytesSource::Inline(bytes) => break bytes.take(),
                BytesSource::Object(document) => document.next().await,
            };
            match next {
                Ok(chunk) => break chunk,
                Err(error) => wait_for_store(error).await?,
            }
        };
        let Some(chunk) = chunk else {
            let digest = std::mem::take(&mut self.digest).finalize();
            let sha256 = HEXLOWER.encode(&digest);
            if sha256 != self.sha256 {
                let detail = "The stored document does not match the upload. Send it again.";
                return Err(Failure::new(FailureCode::SourceGone, detail).into());
            }
            return Ok(None);
        };
        self.digest.update(&chunk);
        Ok(Some(chunk))
    }
}

/// Waits after a transient error, before the caller reads again.
///
/// # Errors
/// The failure of the attempt, if the error is permanent.
async fn wait_for_store(error: Error) -> Result<(), AttemptFailure> {
    match error {
        Error::Gone { .. } => Err(source_gone()),
        Error::Unavailable { .. } | Error::Contended { .. } => {
            debug!(%error, "object store unavailable; retrying");
            tokio::time::sleep(STORE_RETRY_DELAY).await;
            Ok(())
        }
        Error::Corrupt { .. }
        | Error::Newer { .. }
        | Error::TooLarge { .. }
        | Error::Full { .. } => {
            tracing::error!(%error, "cannot read a stored document; failing the attempt");
            let detail = "The service cannot read the stored document.";
            Err(Failure::new(FailureCode::Internal, detail).into())
        }
    }
}

fn source_gone() -> AttemptFailure {
    let detail = "The document is no longer stored. Send it again.";
    Failure::new(FailureCode::SourceGone, detail).into()
}

/// Decompresses a document, and sends it to the counting thread.
async fn decompress(
    stored: StoredBytes,
    encoding: ContentEncoding,
    limits: &Limits,
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), AttemptFailure> {
    let compressed_size = Arc::new(AtomicU64::new(0));
    let mut reader = compressed_reader(stored, Arc::clone(&compressed_size));
    let classify = |error| classify_read_error(error, encoding);
    let first = reader.fill_buf().await.map(|bytes| bytes.first().copied());
    let Some(first) = first.map_err(classify)? else {
        // An empty body is valid in every encoding.
        return Ok(());
    };
    let decoder = Decoder::try_new(encoding, first, reader);
    let mut decoder = decoder.map_err(|fault| classify_fetch_error(&fault.into()))?;
    let mut decoded_size: u64 = 0;
    loop {
        let mut buffer = BytesMut::with_capacity(CHUNK_SIZE_MAX);
        let read = decoder.reader().read_buf(&mut buffer).await.map_err(classify)?;
        if read == 0 {
            break;
        }
        decoded_size = decoded_size.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        let check = limits.check_decoded(decoded_size, compressed_size.load(Ordering::Relaxed));
        check.map_err(|limit| classify_fetch_error(&limit.into()))?;
        if sender.send(buffer.freeze()).await.is_err() {
            return Ok(());
        }
    }
    let trailing_data = poll_fn(|cx| decoder.poll_trailing_data(cx)).await.map_err(classify)?;
    match trailing_data {
        TrailingData::Absent => Ok(()),
        TrailingData::Present => {
            Err(classify_fetch_error(&DecodeFault::Trailing { encoding: encoding.name() }.into()))
        }
    }
}

/// Reader of the compressed bytes of a document, for a decoder.
type CompressedReader = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// Returns a reader of a document that adds the number of bytes read to `compressed_size`.
fn compressed_reader(stored: StoredBytes, compressed_size: Arc<AtomicU64>) -> CompressedReader {
    let chunks = unfold((stored, compressed_size), |(mut stored, compressed_size)| async {
        let chunk = match stored.next().await {
            Ok(chunk) => Ok(chunk?),
            Err(error) => Err(io::Error::other(ReadFailure(error.failure))),
        };
        let length = chunk.as_ref().map_or(0, Bytes::len);
        compressed_size.fetch_add(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Relaxed);
        Some((chunk, (stored, compressed_size)))
    });
    StreamReader::new(Box::pin(chunks))
}

/// Failure of the store, wrapped so that it passes through the reader of a decoder.
#[derive(Debug, thiserror::Error)]
#[error("the document cannot be read")]
struct ReadFailure(Failure);

/// Returns the failure of the store if there is one, otherwise that of the decoder.
fn classify_read_error(error: io::Error, encoding: ContentEncoding) -> AttemptFailure {
    match error.downcast::<ReadFailure>() {
        Ok(ReadFailure(failure)) => failure.into(),
        Err(source) => {
            classify_fetch_error(&DecodeFault::Corrupt { encoding: encoding.name(), source }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use wordmill_count::CHARSET_BYTES_MAX;
    use wordmill_fetch::{BROTLI_BYTES_MAX, INFLATE_BYTES_MAX, ZSTD_BYTES_MAX};

    #[test]
    fn the_memory_of_decoders_is_documented() {
        let documented = include_str!("../../../docs/counting.md");
        for (name, bytes_max) in [
            ("`gzip`, `deflate`", INFLATE_BYTES_MAX),
            ("`br`", BROTLI_BYTES_MAX),
            ("`zstd`", ZSTD_BYTES_MAX),
            ("any charset", CHARSET_BYTES_MAX),
        ] {
            let size = match bytes_max {
                ..0x10_0000 => format!("{} KiB", bytes_max.div_ceil(1 << 10)),
                _ => format!("{} MiB", bytes_max.div_ceil(1 << 20)),
            };
            let row = format!("\n| {name} | {size} |");
            assert!(documented.contains(&row), "docs/counting.md lacks the row {row}");
        }
    }
}
