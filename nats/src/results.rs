//! Histograms and explanations too large for the record: zstd-compressed JSON in the object store
//! `results`.
//!
//! Neither the writer nor the reader holds the whole JSON of a result: it is serialized, compressed
//! and stored piece by piece, and read the same way. Words are sorted by descending count, so a
//! reader that needs only the first words reads only the first chunks.

mod entries;

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::mpsc;
use tracing::Instrument;
use wordmill_common::explanation::Explanation;
use wordmill_common::histogram::Histogram;
use wordmill_common::id::{JobKey, RunNonce};
use wordmill_common::raw_json::RawJson;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::Error;
use crate::connect::Broker;
use crate::objects::{Bucket, CHUNK_BYTES, Reader, Writer};
use crate::spans;
use crate::topology::{RESULTS, RESULTS_STREAM};

pub use self::entries::Entries;

/// zstd compression level. 3 is the default of zstd, a balance of time and size.
const COMPRESSION_LEVEL: i32 = 3;
/// Maximum number of compressed pieces that wait to be stored.
const PIECES_WAITING_MAX: usize = 2;
/// Maximum size of an explanation that is read, in bytes of JSON. Recorded ones are far smaller.
const EXPLANATION_BYTES_MAX: usize = 4 << 20;
/// Maximum size of a decompressed piece, in bytes.
const DECOMPRESSED_PIECE_BYTES_MAX: usize = 64 << 10;

/// Parses the histogram in the record of a job.
///
/// # Errors
/// [`Error::Corrupt`] if it is not a histogram.
pub fn parse_inline(key: &JobKey, word_count: &RawJson<Histogram>) -> Result<Histogram, Error> {
    word_count
        .read()
        .map_err(|error| Error::corrupt(format!("the histogram in the record of {key}"), error))
}

/// The object store of large histograms and explanations.
#[derive(Debug, Clone)]
pub struct Results {
    bucket: Bucket,
}

impl Results {
    /// Opens the object store. Sends no request.
    pub fn open(broker: &Broker) -> Self {
        Self { bucket: Bucket::open(broker, RESULTS, RESULTS_STREAM) }
    }

    /// Stores a histogram and returns its name, `<job_id>.<run nonce>`, so that no run overwrites
    /// the result of another one. A blocking thread compresses it, no faster than it is stored.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Full`].
    pub async fn put(
        &self,
        key: &JobKey,
        run: RunNonce,
        histogram: &Arc<Histogram>,
    ) -> Result<String, Error> {
        self.store(key, format!("{}.{run}", key.job_id), histogram).await
    }

    /// Stores an explanation and returns its name, `<job_id>.<run nonce>.explain`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Full`].
    pub async fn put_explanation(
        &self,
        key: &JobKey,
        run: RunNonce,
        explanation: &Arc<Explanation>,
    ) -> Result<String, Error> {
        self.store(key, format!("{}.{run}.explain", key.job_id), explanation).await
    }

    async fn store<T: Serialize + Send + Sync + 'static>(
        &self,
        key: &JobKey,
        name: String,
        value: &Arc<T>,
    ) -> Result<String, Error> {
        const OPERATION: &str = "store a result";
        let (sender, mut pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let value = Arc::clone(value);
        let compressing =
            tokio::task::spawn_blocking(move || compress(&*value, Pieces::new(sender)));
        let mut writer: Writer = self.bucket.write(key, name.clone());
        let storing = async {
            while let Some(piece) = pieces.recv().await {
                writer.push(piece).await?;
            }
            // The channel also ends if the thread failed, and the object must not be finished then.
            let compressed =
                compressing.await.map_err(|panic| Error::unavailable(OPERATION, panic))?;
            compressed.map_err(|error| Error::unavailable(OPERATION, error))?;
            writer.finish().await
        };
        storing.instrument(spans::begin_put_span("put results")).await?;
        Ok(name)
    }

    /// Opens a histogram for reading; `None` if it has expired or was removed.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] if the metadata of the object cannot be
    /// parsed.
    pub async fn read(&self, name: &str) -> Result<Option<CompressedJson>, Error> {
        let reader = self.bucket.read(name).await?;
        Ok(reader.map(|reader| CompressedJson { reader, name: name.to_owned() }))
    }

    /// Reads an explanation; `None` if it has expired or was removed.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] if it is not an explanation.
    pub async fn explanation(&self, name: &str) -> Result<Option<Explanation>, Error> {
        let Some(compressed) = self.read(name).await? else {
            return Ok(None);
        };
        let mut decompressed = compressed.decompress()?;
        let mut json = Vec::new();
        loop {
            match decompressed.next().await {
                Ok(Some(piece)) if json.len() + piece.len() <= EXPLANATION_BYTES_MAX => {
                    json.extend_from_slice(&piece);
                }
                Ok(Some(_)) => return Err(corrupt(name, "it is too long for an explanation")),
                Ok(None) => break,
                Err(Error::Gone { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        serde_json::from_slice(&json).map(Some).map_err(|error| corrupt(name, error))
    }

    /// Removes a histogram or an explanation if it exists.
    ///
    /// Removes its chunks first, then its metadata, so that a repeat continues an interrupted
    /// removal. Leaves no tombstone.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] if the metadata of the object cannot be
    /// parsed.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.bucket.purge(name).await
    }
}

/// Serializes a value to compressed JSON.
fn compress(value: &impl Serialize, pieces: Pieces) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(pieces, COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    // Without this buffer, the encoder would be called for every word.
    let mut buffered = BufWriter::with_capacity(DECOMPRESSED_PIECE_BYTES_MAX, encoder);
    serde_json::to_writer(&mut buffered, value)?;
    let encoder = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    encoder.finish()?.flush()
}

/// Collects bytes into pieces and sends them to an async task. Blocks while that task is behind
/// (backpressure).
struct Pieces {
    sender: mpsc::Sender<Bytes>,
    buffer: BytesMut,
}

impl Pieces {
    fn new(sender: mpsc::Sender<Bytes>) -> Self {
        Self { sender, buffer: BytesMut::new() }
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        // Fails if the receiver is gone, because storing has failed.
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A histogram as stored: JSON, compressed as one zstd frame. It can be sent unchanged to a client
/// that accepts zstd.
#[derive(Debug)]
pub struct CompressedJson {
    reader: Reader,
    name: String,
}

impl CompressedJson {
    /// Returns the next compressed piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Gone`] if the object is removed while it is read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.reader.next().await
    }

    /// Returns a reader of the decompressed JSON.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the decoder cannot be allocated.
    pub fn decompress(self) -> Result<DecompressedJson, Error> {
        let decoder = Decoder::new().map_err(|error| corrupt(&self.name, error))?;
        let state = DecoderState::NeedsInput;
        Ok(DecompressedJson { compressed: self, decoder, input: Bytes::new(), state })
    }

    /// Returns a reader that yields one word at a time.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the decoder cannot be allocated.
    pub fn entries(self) -> Result<Entries, Error> {
        Ok(Entries::new(self.decompress()?))
    }
}

/// Decompressed JSON of a histogram, read piece by piece.
pub struct DecompressedJson {
    compressed: CompressedJson,
    decoder: Decoder<'static>,
    input: Bytes,
    state: DecoderState,
}

/// State of the decoder after its last call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecoderState {
    /// The output is full. More output may follow without further input.
    MayHaveMore,
    /// The decoder needs further input.
    NeedsInput,
    /// The frame is complete.
    Complete,
}

impl std::fmt::Debug for DecompressedJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecompressedJson")
            .field("compressed", &self.compressed)
            .finish_non_exhaustive()
    }
}

impl DecompressedJson {
    /// Returns the next piece, of at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Gone`] if the object is removed while it is read, and
    /// [`Error::Corrupt`] if the frame is invalid or truncated.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            // The decoder may hold output after it has consumed all input. Reading on too early
            // would treat the end of the object as truncation.
            if self.input.is_empty() && self.state != DecoderState::MayHaveMore {
                match self.compressed.next().await? {
                    Some(piece) => self.input = piece,
                    None if self.state == DecoderState::Complete => return Ok(None),
                    None => return Err(corrupt(&self.compressed.name, "it is truncated")),
                }
            }
            let output =
                self.decompress_piece().map_err(|error| corrupt(&self.compressed.name, error))?;
            if !output.is_empty() {
                return Ok(Some(output));
            }
        }
    }

    /// Decompresses up to one piece of output.
    fn decompress_piece(&mut self) -> io::Result<Bytes> {
        let mut output = Vec::with_capacity(DECOMPRESSED_PIECE_BYTES_MAX);
        let mut input = InBuffer::around(&self.input);
        let mut space = OutBuffer::around(&mut output);
        let hint = self.decoder.run(&mut input, &mut space)?;
        let consumed = input.pos();
        let filled = space.pos() == space.capacity();
        self.input = self.input.split_off(consumed);
        self.state = match hint {
            0 => DecoderState::Complete,
            _ if filled => DecoderState::MayHaveMore,
            _ => DecoderState::NeedsInput,
        };
        Ok(output.into())
    }
}

/// Returns the error for a result that cannot be read.
fn corrupt(name: &str, reason: impl ToString) -> Error {
    Error::corrupt(format!("the result {name}"), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_compressed_in_bounded_pieces() {
        let words = (0..400_000_u64).map(|n| (format!("{:x}", n.wrapping_mul(2_654_435_761)), 1));
        let histogram: Histogram = words.collect();
        let (sender, mut pieces) = mpsc::channel(1000);
        compress(&histogram, Pieces::new(sender)).unwrap();
        let mut compressed = Vec::new();
        let mut count = 0;
        while let Ok(piece) = pieces.try_recv() {
            assert!(piece.len() < 3 * CHUNK_BYTES, "{}", piece.len());
            compressed.extend_from_slice(&piece);
            count += 1;
        }
        assert!(count > 3, "{count}");
        let json = zstd::decode_all(compressed.as_slice()).unwrap();
        assert_eq!(json, serde_json::to_vec(&histogram).unwrap());
    }
}
