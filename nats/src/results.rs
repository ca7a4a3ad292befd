//! Histograms and explanations too large for the record: zstd-compressed JSON in the object store
//! `results`.
//!
//! Neither side holds one as a whole besides the table of words itself: it is written, compressed and
//! stored piece by piece, and read the same way. The words stand in their order, the most frequent
//! first, so whoever wants the first few reads the first few chunks.

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

/// Compression level: the notes of the zstd authors call 3 the balance of time and size.
const COMPRESSION_LEVEL: i32 = 3;
/// How many compressed pieces may wait to be stored.
const PIECES_WAITING_MAX: usize = 2;
/// Longest explanation that is read, in bytes of JSON; what is recorded is bounded well below.
const EXPLANATION_BYTES_MAX: usize = 4 << 20;
/// Largest piece of a decompressed histogram.
const DECOMPRESSED_PIECE_BYTES_MAX: usize = 64 << 10;

/// Reads the histogram that is in the record of a job.
///
/// # Errors
/// [`Error::Corrupt`] if it is none.
pub fn inline(key: &JobKey, word_count: &RawJson<Histogram>) -> Result<Histogram, Error> {
    word_count
        .read()
        .map_err(|error| Error::corrupt(format!("the histogram in the record of {key}"), error))
}

/// The large histograms.
#[derive(Debug, Clone)]
pub struct Results {
    bucket: Bucket,
}

impl Results {
    /// Opens the large histograms; asks the broker nothing.
    pub fn open(broker: &Broker) -> Self {
        Self { bucket: Bucket::open(broker, RESULTS, RESULTS_STREAM) }
    }

    /// Stores a histogram and returns its name, `<job_id>.<run nonce>`: no run overwrites
    /// another's. It is compressed on a thread that may block, as fast as it is stored.
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
        let packing = tokio::task::spawn_blocking(move || compress(&*value, Pieces::new(sender)));
        let mut writer: Writer = self.bucket.write(key, name.clone());
        let storing = async {
            while let Some(piece) = pieces.recv().await {
                writer.push(piece).await?;
            }
            // That the pieces end may also mean that the thread did.
            let packed = packing.await.map_err(|panic| Error::unavailable(OPERATION, panic))?;
            packed.map_err(|error| Error::unavailable(OPERATION, error))?;
            writer.finish().await
        };
        storing.instrument(spans::begin_put_span("put results")).await?;
        Ok(name)
    }

    /// Opens a histogram; `None` if it is no longer kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no object.
    pub async fn read(&self, name: &str) -> Result<Option<CompressedJson>, Error> {
        let reader = self.bucket.read(name).await?;
        Ok(reader.map(|reader| CompressedJson { reader, name: name.to_owned() }))
    }

    /// Reads an explanation; `None` if it is no longer kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no explanation.
    pub async fn explanation(&self, name: &str) -> Result<Option<Explanation>, Error> {
        let Some(packed) = self.read(name).await? else {
            return Ok(None);
        };
        let mut unpacked = packed.decompress()?;
        let mut json = Vec::new();
        loop {
            match unpacked.next().await {
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

    /// Removes a histogram or an explanation; that it is gone already is no error.
    ///
    /// First its parts, then what names them, one message after the other: whatever interrupts it, a
    /// repeat goes on from there. Nothing stays behind, not even a marker.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no object.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.bucket.purge(name).await
    }
}

/// Writes a value as compressed JSON.
fn compress(value: &impl Serialize, pieces: Pieces) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(pieces, COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    // The encoder is called for every word otherwise.
    let mut buffered = BufWriter::with_capacity(DECOMPRESSED_PIECE_BYTES_MAX, encoder);
    serde_json::to_writer(&mut buffered, value)?;
    let encoder = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    encoder.finish()?.flush()
}

/// Gathers bytes into pieces, and passes them to an async task as fast as it takes them.
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
        // Nobody waits for it any more: storing has failed.
        self.sender.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A histogram as it is stored: JSON, compressed as one zstd frame. It can be passed on as it is to
/// whoever reads zstd.
#[derive(Debug)]
pub struct CompressedJson {
    reader: Reader,
    name: String,
}

impl CompressedJson {
    /// Returns the next compressed piece; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Gone`] if it is removed meanwhile.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.reader.next().await
    }

    /// Returns the decompressed side.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no memory for a decoder.
    pub fn decompress(self) -> Result<DecompressedJson, Error> {
        let decoder = Decoder::new().map_err(|error| corrupt(&self.name, error))?;
        let state = State::NeedsInput;
        Ok(DecompressedJson { packed: self, decoder, input: Bytes::new(), state })
    }

    /// Returns the words, one by one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if there is no memory for a decoder.
    pub fn entries(self) -> Result<Entries, Error> {
        Ok(Entries::new(self.decompress()?))
    }
}

/// A histogram's JSON, decompressed as it is read.
pub struct DecompressedJson {
    packed: CompressedJson,
    decoder: Decoder<'static>,
    input: Bytes,
    state: State,
}

/// What the decoder said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has taken all that it was given, and may have output left.
    MayHaveMore,
    /// It has nothing left.
    NeedsInput,
    /// The frame is complete.
    Complete,
}

impl std::fmt::Debug for DecompressedJson {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacked").field("packed", &self.packed).finish_non_exhaustive()
    }
}

impl DecompressedJson {
    /// Returns the next piece, of at most 64 KiB; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Gone`] if it is removed meanwhile, and [`Error::Corrupt`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.input.is_empty() && self.state != State::MayHaveMore {
                match self.packed.next().await? {
                    Some(piece) => self.input = piece,
                    None if self.state == State::Complete => return Ok(None),
                    None => return Err(corrupt(&self.packed.name, "it ends too early")),
                }
            }
            let output =
                self.decompress_piece().map_err(|error| corrupt(&self.packed.name, error))?;
            if !output.is_empty() {
                return Ok(Some(output));
            }
        }
    }

    /// Decompresses what fits into one piece.
    fn decompress_piece(&mut self) -> io::Result<Bytes> {
        let mut output = Vec::with_capacity(DECOMPRESSED_PIECE_BYTES_MAX);
        let mut input = InBuffer::around(&self.input);
        let mut space = OutBuffer::around(&mut output);
        let hint = self.decoder.run(&mut input, &mut space)?;
        let consumed = input.pos();
        let filled = space.pos() == space.capacity();
        self.input = self.input.split_off(consumed);
        self.state = match hint {
            0 => State::Complete,
            _ if filled => State::MayHaveMore,
            _ => State::NeedsInput,
        };
        Ok(output.into())
    }
}

/// Tells that a histogram cannot be read.
fn corrupt(name: &str, reason: impl ToString) -> Error {
    Error::corrupt(format!("the result {name}"), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_packed_in_pieces_of_a_chunk_or_so() {
        let words = (0..400_000_u64).map(|n| (format!("{:x}", n.wrapping_mul(2_654_435_761)), 1));
        let histogram: Histogram = words.collect();
        let (sender, mut pieces) = mpsc::channel(1000);
        compress(&histogram, Pieces::new(sender)).unwrap();
        let mut packed = Vec::new();
        let mut count = 0;
        while let Ok(piece) = pieces.try_recv() {
            assert!(piece.len() < 3 * CHUNK_BYTES, "{}", piece.len());
            packed.extend_from_slice(&piece);
            count += 1;
        }
        assert!(count > 3, "{count}");
        let json = zstd::decode_all(packed.as_slice()).unwrap();
        assert_eq!(json, serde_json::to_vec(&histogram).unwrap());
    }
}
