//! Objects in the layout that all NATS clients share, written and read in bounded memory.
//!
//! An object consists of chunks on one subject and metadata on another, which is written last. All
//! chunks but the last have the same size, independent of the pieces that the caller pushes.
//! Several chunks are in flight at a time, unlike in the client library's writer, which waits for
//! each acknowledgement and creates one chunk per read. Chunks are read by direct gets, because the
//! server limits the number of consumers.

use std::collections::{HashMap, VecDeque};
use std::future::IntoFuture;
use std::time::Duration;

use async_nats::jetstream::context::{Context, PublishAckFuture, PublishError};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::object_store::ObjectInfo;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream as JetStream};
use async_nats::jetstream::{ContextBuilder, ErrorCode};
use async_nats::{HeaderMap, Subject, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tracing::debug;
use uuid::Uuid;
use wordmill_common::id::{JobKey, Owner};

use crate::Error;
use crate::connect::Broker;
use crate::error::{Refusal, api_code, classify_publish_error};
use crate::stream_read::{ReadFrom, last_message, not_found_as_none, open_stream};
use crate::subject;

/// Size of a chunk, in bytes; the last one of an object may be smaller. The NATS clients use the
/// same size.
pub const CHUNK_BYTES: usize = 128 << 10;
/// Maximum number of unconfirmed chunks of one object, together 1 MiB.
pub const CHUNKS_UNCONFIRMED_MAX: usize = 8;
/// Timeout for the acknowledgement of a chunk. Longer than for a record, because the stream may be
/// busy with the chunks of other objects.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(5);
/// Metadata key of the owner. The job id is part of the object's name.
const OWNER_METADATA: &str = "owner";

/// One object store.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    name: &'static str,
    jetstream: Context,
    stream: JetStream<()>,
}

/// Metadata of an object, in the format of all NATS clients.
#[derive(Debug, Serialize)]
struct Description<'a> {
    name: &'a str,
    metadata: HashMap<&'static str, &'a str>,
    options: ChunkSize,
    bucket: &'a str,
    nuid: &'a str,
    size: u64,
    mtime: Timestamp,
    chunks: u64,
    digest: String,
}

#[derive(Debug, Serialize)]
struct ChunkSize {
    max_chunk_size: usize,
}

impl Bucket {
    /// Opens an object store. Sends no request. `stream` is the name of its stream.
    pub(crate) fn open(broker: &Broker, name: &'static str, stream: &'static str) -> Self {
        let jetstream = ContextBuilder::new().timeout(CHUNK_TIMEOUT).build(broker.client.clone());
        Self { name, jetstream, stream: open_stream(broker, stream) }
    }

    /// Returns the stream of the object store.
    pub(crate) fn stream(&self) -> &JetStream<()> {
        &self.stream
    }

    /// Starts to write an object of a job. Readers do not see it before it is finished.
    pub(crate) fn write(&self, key: &JobKey, name: String) -> Writer {
        Writer {
            bucket: self.clone(),
            chunks_id: new_chunks_id(&name),
            name,
            owner: key.owner.clone(),
            chunks: 0,
            size_bytes: 0,
            last_sequence: 0,
            digest: Sha256::new(),
            buffer: BytesMut::new(),
            unconfirmed: VecDeque::new(),
        }
    }

    /// Returns the metadata of an object and its sequence number; `None` if the object does not
    /// exist.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] if the metadata cannot be parsed.
    pub(crate) async fn find(
        &self,
        name: &str,
        read_from: ReadFrom,
    ) -> Result<Option<(ObjectInfo, u64)>, Error> {
        let subject = subject::object_meta(self.name, name);
        let Some(message) = last_message(&self.stream, &subject, read_from).await? else {
            return Ok(None);
        };
        let info: ObjectInfo = serde_json::from_slice(&message.payload)
            .map_err(|error| Error::corrupt(format!("the object {name}"), error))?;
        Ok((!info.deleted).then_some((info, message.sequence)))
    }

    /// Opens an object for reading, from its first chunk to its last; returns `None` if it does not
    /// exist on the leader.
    ///
    /// # Errors
    /// Those of [`Bucket::find`].
    pub(crate) async fn read(&self, name: &str) -> Result<Option<Reader>, Error> {
        let object = match self.find(name, ReadFrom::AnyReplica).await? {
            Some(object) => Some(object),
            None => self.find(name, ReadFrom::Leader).await?,
        };
        Ok(object.map(|(info, _)| Reader {
            bucket: self.clone(),
            subject: subject::object_chunks(self.name, &info.nuid),
            chunks_left: info.chunks,
            after: 0,
            info,
        }))
    }

    /// Removes an object if it exists: first its chunks, then its metadata, so that a repeat
    /// continues an interrupted removal.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] if the metadata cannot be parsed.
    pub(crate) async fn purge(&self, name: &str) -> Result<(), Error> {
        // A lagging replica may not have the metadata, and the chunks would remain.
        if let Some((info, _)) = self.find(name, ReadFrom::Leader).await? {
            self.purge_subject(subject::object_chunks(self.name, &info.nuid)).await?;
        }
        self.purge_subject(subject::object_meta(self.name, name)).await
    }

    /// Removes all messages on a subject.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub(crate) async fn purge_subject(&self, subject: String) -> Result<(), Error> {
        let purged = self.stream.purge().filter(subject).await;
        purged.map(drop).map_err(|error| Error::unavailable("remove an object", error))
    }
}

/// An object that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    bucket: Bucket,
    name: String,
    chunks_id: String,
    owner: Owner,
    chunks: u64,
    size_bytes: u64,
    /// Sequence number of the last confirmed chunk.
    last_sequence: u64,
    digest: Sha256,
    /// Bytes that have not been sent, at most one chunk.
    buffer: BytesMut,
    /// Acknowledgements of the chunks in flight, oldest first.
    unconfirmed: VecDeque<PublishAckFuture>,
}

impl Writer {
    /// Appends bytes. Waits while too many chunks are unconfirmed (backpressure). Sends a full
    /// chunk only when more bytes follow: until the first chunk is sent, [`Writer::take_small`]
    /// returns the whole object.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Unavailable`]: the object cannot be finished, so abandon it.
    pub(crate) async fn push(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.buffer.len() >= CHUNK_BYTES {
                self.send().await?;
            }
            if self.buffer.capacity() == 0 {
                // Most objects are small, so do not reserve a whole chunk.
                self.buffer.reserve(bytes.len().min(CHUNK_BYTES));
            }
            let fits = CHUNK_BYTES.saturating_sub(self.buffer.len()).min(bytes.len());
            let piece = bytes.split_to(fits);
            self.digest.update(&piece);
            self.size_bytes = self.size_bytes.saturating_add(u64_of(piece.len()));
            self.buffer.extend_from_slice(&piece);
        }
        Ok(())
    }

    /// Returns the whole object if no chunk has been sent.
    pub(crate) fn take_small(&mut self) -> Option<Bytes> {
        (self.chunks == 0).then(|| self.buffer.split().freeze())
    }

    /// Returns the name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the number of appended bytes.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the SHA-256 of the appended bytes, in hexadecimal.
    pub(crate) fn sha256(&self) -> String {
        HEXLOWER.encode(&self.digest.clone().finalize())
    }

    /// Sends the last chunk, waits for all chunks, and writes the metadata, which makes the object
    /// visible.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Unavailable`].
    pub(crate) async fn finish(&mut self) -> Result<(), Error> {
        if !self.buffer.is_empty() {
            self.send().await?;
        }
        while !self.unconfirmed.is_empty() {
            self.confirm().await?;
        }
        let description = Description {
            name: &self.name,
            metadata: HashMap::from([(OWNER_METADATA, self.owner.as_str())]),
            options: ChunkSize { max_chunk_size: CHUNK_BYTES },
            bucket: self.bucket.name,
            nuid: &self.chunks_id,
            size: self.size_bytes,
            mtime: Timestamp::now(),
            chunks: self.chunks,
            digest: format!("SHA-256={}", URL_SAFE.encode(self.digest.clone().finalize())),
        };
        let description = serde_json::to_vec(&description)
            .map_err(|error| Error::unavailable("serialize the metadata of an object", error))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_ROLLUP, "sub");
        let message = PublishMessage::build().headers(headers).payload(description.into());
        let subject = Subject::from(subject::object_meta(self.bucket.name, &self.name));
        let sent = self.bucket.jetstream.send_publish(subject, message).await;
        sent.map_err(|error| self.classify_write_error(&error))?
            .await
            .map(drop)
            .map_err(|error| self.classify_write_error(&error))
    }

    /// Removes the chunks that were sent, after they have arrived. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the chunks remain until the sweeper removes them.
    pub(crate) async fn abandon(&mut self) -> Result<(), Error> {
        if self.chunks == 0 {
            return Ok(());
        }
        for sent in self.unconfirmed.drain(..) {
            // A chunk that arrived after the purge would remain.
            if let Err(error) = sent.await {
                debug!(%error, "a chunk of an unfinished object was not confirmed");
            }
        }
        self.bucket.purge_subject(subject::object_meta(self.bucket.name, &self.name)).await?;
        self.bucket.purge_subject(subject::object_chunks(self.bucket.name, &self.chunks_id)).await
    }

    /// Sends the buffer as one chunk.
    async fn send(&mut self) -> Result<(), Error> {
        while self.unconfirmed.len() >= CHUNKS_UNCONFIRMED_MAX {
            self.confirm().await?;
        }
        let chunk = self.buffer.split().freeze();
        self.buffer.reserve(CHUNK_BYTES);
        let subject = Subject::from(subject::object_chunks(self.bucket.name, &self.chunks_id));
        self.chunks = self.chunks.saturating_add(1);
        let sent = self.bucket.jetstream.publish(subject, chunk).await;
        self.unconfirmed.push_back(sent.map_err(|error| self.classify_write_error(&error))?);
        Ok(())
    }

    /// Waits until the oldest unconfirmed chunk is stored.
    async fn confirm(&mut self) -> Result<(), Error> {
        let Some(oldest) = self.unconfirmed.pop_front() else {
            return Ok(());
        };
        let stored =
            oldest.into_future().await.map_err(|error| self.classify_write_error(&error))?;
        // Readers read the chunks in the order of the stream, so they must be stored in the order
        // in which they were sent.
        if stored.sequence <= self.last_sequence {
            return Err(Error::unavailable("store an object", "its chunks are out of order"));
        }
        self.last_sequence = stored.sequence;
        Ok(())
    }

    fn classify_write_error(&self, error: &PublishError) -> Error {
        let is_full = classify_publish_error(error) == Refusal::Full
            || matches!(
                api_code(error),
                Some(
                    ErrorCode::INSUFFICIENT_RESOURCES
                        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
                        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
                )
            );
        if is_full {
            return Error::Full { what: format!("the object store {}", self.bucket.name) };
        }
        Error::unavailable("store an object", error)
    }
}

/// An object that is being read.
#[derive(Debug)]
pub(crate) struct Reader {
    bucket: Bucket,
    info: ObjectInfo,
    subject: String,
    chunks_left: usize,
    /// Sequence number of the last chunk that was read.
    after: u64,
}

impl Reader {
    /// Returns the next chunk; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Gone`] if the object is removed while it is read.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.chunks_left == 0 {
            return Ok(None);
        }
        let Some(chunk) = self.chunk().await? else {
            return Err(Error::Gone { what: format!("the object {}", self.info.name) });
        };
        self.after = chunk.sequence;
        self.chunks_left -= 1;
        Ok(Some(chunk.payload))
    }

    async fn chunk(&self) -> Result<Option<StreamMessage>, Error> {
        let stream = &self.bucket.stream;
        let from = self.after.saturating_add(1);
        let next = stream.direct_get_next_for_subject(self.subject.as_str(), Some(from)).await;
        if let Some(chunk) = not_found_as_none(next)? {
            return Ok(Some(chunk));
        }
        // The replica may lag: read from the leader.
        match stream.get_first_raw_message_by_subject(&self.subject, from).await {
            Ok(chunk) => Ok(Some(chunk)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Error::unavailable("read an object", error)),
        }
    }
}

/// Returns the job that an object belongs to: the owner is in its metadata, the job id in its name.
/// Returns `None` for an object without an owner, which Wordmill did not write.
pub(crate) fn job_of(info: &ObjectInfo) -> Option<JobKey> {
    let owner = info.metadata.get(OWNER_METADATA)?.clone().try_into().ok()?;
    let (job_id, _rest) = info.name.split_once('.')?;
    Some(JobKey { owner, job_id: job_id.parse().ok()? })
}

/// Returns a new id for the chunks of an object. It contains the name, so that chunks without an
/// object can be attributed, and a random part, so that no reader mixes the chunks of two uploads.
fn new_chunks_id(name: &str) -> String {
    format!("{}_{}", name.replace('.', "_"), Uuid::new_v4().simple())
}

/// Returns the name of the object that chunks belong to; `None` if their id is not from
/// `new_chunks_id`.
pub(crate) fn name_of_chunks(chunks_id: &str) -> Option<String> {
    let (name, _) = chunks_id.rsplit_once('_')?;
    Some(name.replace('_', "."))
}

fn u64_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_id_contains_the_object_name() {
        let name = "0198f0c2-0000-7000-8000-000000000000.a130ff551dc346b6b548cb70cf91aca4";
        let chunks_id = new_chunks_id(name);
        assert_eq!(name_of_chunks(&chunks_id).as_deref(), Some(name));
        assert_ne!(new_chunks_id(name), chunks_id);
        assert!(!chunks_id.contains('.'), "{chunks_id} is one token of a subject");
        assert_eq!(name_of_chunks("OUQlH4PdH8o5oHSDJVQjxS"), None);
    }
}
