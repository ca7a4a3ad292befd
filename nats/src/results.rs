//! Histograms too large for the record: zstd-compressed JSON in the object store `results`.
//!
//! Objects are laid out as every NATS client lays them out, so `nats object get results <name>`
//! reads them. They are read here by direct gets, without a consumer: the server allows only so
//! many of those.

use std::collections::HashMap;
use std::io::Read;

use async_nats::jetstream::object_store::{ObjectInfo, ObjectMetadata};
use async_nats::jetstream::stream::Stream as JetStream;
use tracing::Instrument;
use wordmill_common::histogram::Histogram;
use wordmill_common::id::{JobKey, RunNonce};

use crate::Error;
use crate::connect::Broker;
use crate::read::{Freshness, found, last, open};
use crate::topology::{RESULTS, RESULTS_STREAM};
use crate::{spans, subject};

/// Compression level: the notes of the zstd authors call 3 the balance of time and size.
const COMPRESSION_LEVEL: i32 = 3;
/// Metadata of an object: whose job it belongs to. The name says which job.
pub(crate) const OWNER_METADATA: &str = "owner";
/// Largest histogram that is read back, decompressed. What workers write is bounded by the number
/// of unique words they allow, well below.
pub const RESULT_BYTES_MAX: u64 = 1 << 30;

/// The large histograms.
#[derive(Debug, Clone)]
pub struct Results {
    broker: Broker,
    stream: JetStream<()>,
}

impl Results {
    /// Opens the large histograms; asks the broker nothing.
    ///
    /// # Errors
    /// None in practice: the stream's name is valid.
    pub async fn open(broker: &Broker) -> Result<Self, Error> {
        let stream = open(broker, RESULTS_STREAM).await?;
        Ok(Self { broker: broker.clone(), stream })
    }

    /// Stores a histogram and returns its name, `<job_id>.<run nonce>`: no run overwrites
    /// another's.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn put(
        &self,
        key: &JobKey,
        run: RunNonce,
        histogram: &Histogram,
    ) -> Result<String, Error> {
        const DOING: &str = "store a histogram";
        let name = format!("{}.{run}", key.job_id);
        let owner = key.owner.as_str().to_owned();
        let meta = ObjectMetadata {
            name: name.clone(),
            metadata: HashMap::from([(OWNER_METADATA.to_owned(), owner)]),
            ..ObjectMetadata::default()
        };
        let json = serde_json::to_vec(histogram).map_err(|e| Error::unavailable(DOING, e))?;
        let packed = zstd::bulk::compress(&json, COMPRESSION_LEVEL)
            .map_err(|error| Error::unavailable(DOING, error))?;
        let bucket = self.broker.jetstream.get_object_store(RESULTS).await;
        let bucket = bucket.map_err(|error| Error::unavailable(DOING, error))?;
        bucket
            .put(meta, &mut packed.as_slice())
            .instrument(spans::put("put results"))
            .await
            .map_err(|error| Error::unavailable(DOING, error))?;
        Ok(name)
    }

    /// Reads a histogram; `None` if it is no longer kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no histogram.
    pub async fn get(&self, name: &str) -> Result<Option<Histogram>, Error> {
        let corrupt = |reason: String| Error::corrupt(format!("the result {name}"), reason);
        let meta = subject::result_meta(name);
        let Some(meta) = last(&self.stream, &meta, Freshness::Any).await? else {
            return Ok(None);
        };
        let info: ObjectInfo =
            serde_json::from_slice(&meta.payload).map_err(|error| corrupt(error.to_string()))?;
        if info.deleted {
            return Ok(None);
        }
        let chunks = subject::result_chunks(&info.nuid);
        let mut packed = Vec::new();
        let mut after = 0_u64;
        for _ in 0..info.chunks {
            let next = self.stream.direct_get_next_for_subject(chunks.as_str(), Some(after + 1));
            let Some(chunk) = found(next.await)? else {
                return Ok(None);
            };
            after = chunk.sequence;
            packed.extend_from_slice(&chunk.payload);
        }
        let json = unpack(&packed).map_err(|error| corrupt(error.to_string()))?;
        serde_json::from_slice(&json).map(Some).map_err(|error| corrupt(error.to_string()))
    }

    /// Removes a histogram; that it is gone already is no error.
    ///
    /// First its parts, then what names them, one message after the other: whatever interrupts it, a
    /// repeat goes on from there. Nothing stays behind, not even a marker.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no object.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let meta = subject::result_meta(name);
        // A replica that is behind would let it stay.
        let Some(meta) = last(&self.stream, &meta, Freshness::Leader).await? else {
            return Ok(());
        };
        let info: ObjectInfo = serde_json::from_slice(&meta.payload)
            .map_err(|error| Error::corrupt(format!("the result {name}"), error))?;
        let chunks = subject::result_chunks(&info.nuid);
        while let Some(chunk) = last(&self.stream, &chunks, Freshness::Leader).await? {
            self.delete(chunk.sequence).await?;
        }
        self.delete(meta.sequence).await
    }

    async fn delete(&self, sequence: u64) -> Result<(), Error> {
        let deleted = self.stream.delete_message(sequence).await;
        deleted.map(drop).map_err(|error| Error::unavailable("remove a histogram", error))
    }
}

fn unpack(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut json = Vec::new();
    zstd::Decoder::new(packed)?.take(RESULT_BYTES_MAX).read_to_end(&mut json)?;
    Ok(json)
}
