//! Counts a document that the client sent, from the message or from the object store.

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
use wordmill_fetch::{CHUNK_SIZE_MAX, DecodeFault, Decoder, Encoding, Leftover, Limits};
use wordmill_nats::Error;
use wordmill_nats::documents::{self, Documents};

use super::{CHUNKS_WAITING_MAX, Chunks, OwnedHints, classify_fetch_error, count_off_thread};
use crate::Worker;
use crate::keep_alive::Meter;
use crate::outcome::AttemptFailure;
use crate::spans::Counting;

/// Wait before a store that did not answer is asked again. For how long that goes on is decided by
/// the lease: the attempt stands still meanwhile.
const STORE_PAUSE: Duration = Duration::from_millis(500);

/// Counts a document. It is read as fast as it is counted, and never as a whole.
pub(super) async fn count(
    worker: &Worker,
    document: &Document,
    options: Options,
    meter: &Arc<Meter>,
) -> Result<DocumentCount, AttemptFailure> {
    let encoding = match document.content_encoding.as_deref() {
        None => Encoding::Identity,
        Some(name) => {
            Encoding::from_name(name).map_err(|fault| classify_fetch_error(&fault.into()))?
        }
    };
    let mut kept = StoredBytes::open(&worker.documents, document).await?;
    let hints = OwnedHints { content_type: document.content_type.clone(), host_tld: None };
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    let is_complete = Arc::new(AtomicBool::new(false));
    let chunks = Chunks { receiver, current: Bytes::new(), is_complete: Arc::clone(&is_complete) };
    let counting = count_off_thread(chunks, hints, options, meter, Counting::begin(true));
    let passing = async {
        if encoding == Encoding::Identity {
            meter.set_total(document.size_bytes);
            while let Some(chunk) = kept.next().await? {
                // The counter has seen enough: it says itself why.
                if sender.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
        } else {
            unpack(kept, encoding, worker.fetcher.limits(), &sender).await?;
        }
        is_complete.store(true, Ordering::Release);
        drop(sender);
        Ok::<_, AttemptFailure>(())
    };
    let (passed, counted) = tokio::join!(passing, counting);
    // What went wrong on the way explains what the counter says about it.
    passed?;
    counted
}

/// The bytes of a document as they were sent, wherever they are. The end is reached only if they are
/// all the ones that were sent.
struct StoredBytes {
    place: BytesSource,
    digest: Sha256,
    sha256: String,
}

enum BytesSource {
    Inline(Option<Bytes>),
    Object(Box<documents::Document>),
}

impl StoredBytes {
    async fn open(documents: &Documents, document: &Document) -> Result<Self, AttemptFailure> {
        let place = match &document.content {
            Content::Inline(bytes) => BytesSource::Inline(Some(Bytes::copy_from_slice(bytes))),
            Content::Object(name) => loop {
                match documents.read(name).await {
                    Ok(Some(document)) => break BytesSource::Object(Box::new(document)),
                    Ok(None) => return Err(gone()),
                    Err(error) => wait_for_store(error).await?,
                }
            },
        };
        Ok(Self { place, digest: Sha256::new(), sha256: document.sha256.clone() })
    }

    /// Returns the next chunk; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Bytes>, AttemptFailure> {
        let chunk = loop {
            let next = match &mut self.place {
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
                let detail = "What is kept of the document is not what was sent. Send it again.";
                return Err(Failure::new(FailureCode::SourceGone, detail).into());
            }
            return Ok(None);
        };
        self.digest.update(&chunk);
        Ok(Some(chunk))
    }
}

/// Waits after an error that passes by itself.
async fn wait_for_store(error: Error) -> Result<(), AttemptFailure> {
    match error {
        Error::Gone { .. } => Err(gone()),
        Error::Unavailable { .. } | Error::Contended { .. } => {
            debug!(%error, "the document cannot be read now");
            tokio::time::sleep(STORE_PAUSE).await;
            Ok(())
        }
        Error::Corrupt { .. }
        | Error::Newer { .. }
        | Error::TooLarge { .. }
        | Error::Full { .. } => {
            tracing::error!(%error, "a document cannot be read");
            let detail = "The service does not understand what it has kept of the document.";
            Err(Failure::new(FailureCode::Internal, detail).into())
        }
    }
}

fn gone() -> AttemptFailure {
    let detail = "The document is no longer kept. Send it again.";
    Failure::new(FailureCode::SourceGone, detail).into()
}

/// Decompresses a document on its way to the thread that counts.
async fn unpack(
    kept: StoredBytes,
    encoding: Encoding,
    limits: &Limits,
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), AttemptFailure> {
    let arrived = Arc::new(AtomicU64::new(0));
    let mut wire = wire(kept, Arc::clone(&arrived));
    let unread = |error| unread(error, encoding);
    let first = wire.fill_buf().await.map(|bytes| bytes.first().copied());
    let Some(first) = first.map_err(unread)? else {
        // An empty document is empty in every encoding.
        return Ok(());
    };
    let decoder = Decoder::try_new(encoding, first, wire);
    let mut decoder = decoder.map_err(|fault| classify_fetch_error(&fault.into()))?;
    let mut decoded: u64 = 0;
    loop {
        let mut buffer = BytesMut::with_capacity(CHUNK_SIZE_MAX);
        let read = decoder.reader().read_buf(&mut buffer).await.map_err(unread)?;
        if read == 0 {
            break;
        }
        decoded = decoded.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        let size = limits.check_decoded(decoded, arrived.load(Ordering::Relaxed));
        size.map_err(|limit| classify_fetch_error(&limit.into()))?;
        if sender.send(buffer.freeze()).await.is_err() {
            return Ok(());
        }
    }
    let leftover = poll_fn(|cx| decoder.poll_leftover(cx)).await.map_err(unread)?;
    match leftover {
        Leftover::None => Ok(()),
        Leftover::Some => {
            Err(classify_fetch_error(&DecodeFault::Trailing { encoding: encoding.name() }.into()))
        }
    }
}

/// The compressed bytes of a document, for a decoder.
type Wire = StreamReader<Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, Bytes>;

/// Returns the bytes of a document, and counts those that have arrived.
fn wire(kept: StoredBytes, arrived: Arc<AtomicU64>) -> Wire {
    let chunks = unfold((kept, arrived), |(mut kept, arrived)| async {
        let chunk = match kept.next().await {
            Ok(chunk) => Ok(chunk?),
            Err(failed) => Err(io::Error::other(Unread(failed.failure))),
        };
        let length = chunk.as_ref().map_or(0, Bytes::len);
        arrived.fetch_add(u64::try_from(length).unwrap_or(u64::MAX), Ordering::Relaxed);
        Some((chunk, (kept, arrived)))
    });
    StreamReader::new(Box::pin(chunks))
}

/// A failure on its way through a decoder.
#[derive(Debug, thiserror::Error)]
#[error("the document cannot be read")]
struct Unread(Failure);

/// Tells what the store failed with from what the decoder did.
fn unread(error: io::Error, encoding: Encoding) -> AttemptFailure {
    match error.downcast::<Unread>() {
        Ok(Unread(failure)) => failure.into(),
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
