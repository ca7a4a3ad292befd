//! Documents that clients send, until they have been counted: the object store `documents`.
//!
//! They go in piece by piece as they arrive and come out chunk by chunk as they are counted; neither
//! side ever holds a whole one. `nats object get documents <name>` reads them, too.

use bytes::Bytes;
use wordmill_common::id::{JobKey, RunNonce};
use wordmill_common::source::Content;

use crate::Error;
use crate::connect::Broker;
use crate::objects::{self, Bucket};
use crate::topology::{DOCUMENTS, DOCUMENTS_STREAM};

pub use crate::objects::{CHUNK_BYTES, CHUNKS_UNCONFIRMED_MAX};

/// The documents of all owners.
#[derive(Debug, Clone)]
pub struct Documents {
    bucket: Bucket,
}

/// A document that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// The bytes, or where they are kept.
    pub content: Content,
    /// How many bytes arrived.
    pub size_bytes: u64,
    /// Their SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Documents {
    /// Opens the documents; asks the broker nothing.
    pub fn open(broker: &Broker) -> Self {
        Self { bucket: Bucket::open(broker, DOCUMENTS, DOCUMENTS_STREAM) }
    }

    /// Begins to take in the document of a job, as `<job_id>.<nonce>`: a document belongs to one job,
    /// and a repeat of the request does not overwrite it.
    #[must_use]
    pub fn receive(&self, key: &JobKey) -> Upload {
        let name = format!("{}.{}", key.job_id, RunNonce::random());
        Upload { writer: self.bucket.write(key, name) }
    }

    /// Opens a document for reading; `None` if it is no longer kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no object.
    pub async fn read(&self, name: &str) -> Result<Option<Document>, Error> {
        Ok(self.bucket.read(name).await?.map(|reader| Document { reader }))
    }

    /// Removes a document; that it is gone already is no error.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] for what is no object.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.bucket.purge(name).await
    }

    /// Copies a document for another job; `None` if it is no longer kept.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Full`], and [`Error::Corrupt`] for what is no object.
    pub async fn copy_to(&self, name: &str, key: &JobKey) -> Result<Option<Content>, Error> {
        let Some(mut document) = self.read(name).await? else {
            return Ok(None);
        };
        let mut upload = self.receive(key);
        let copied = async {
            while let Some(chunk) = document.next().await? {
                upload.push(chunk).await?;
            }
            upload.finish().await
        };
        match copied.await {
            Ok(received) => Ok(Some(received.content)),
            Err(error) => {
                upload.abandon().await?;
                if matches!(error, Error::Gone { .. }) { Ok(None) } else { Err(error) }
            }
        }
    }
}

/// A document that arrives. Whoever does not finish it abandons it; the sweeper finds what is left.
#[derive(Debug)]
pub struct Upload {
    writer: objects::Writer,
}

impl Upload {
    /// Takes in the next piece, of whatever size.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Unavailable`]: abandon it.
    pub async fn push(&mut self, piece: Bytes) -> Result<(), Error> {
        self.writer.push(piece).await
    }

    /// Returns how many bytes have arrived.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.writer.size_bytes()
    }

    /// Ends a document that arrived whole. One that fits into a chunk is not stored: it travels in
    /// the job's message.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Unavailable`]: abandon it.
    pub async fn finish(&mut self) -> Result<StoredDocument, Error> {
        let size_bytes = self.writer.size_bytes();
        let sha256 = self.writer.sha256();
        let content = match self.writer.take_small() {
            Some(bytes) => Content::Inline(bytes.into()),
            None => {
                self.writer.finish().await?;
                Content::Object(self.writer.name().to_owned())
            }
        };
        Ok(StoredDocument { content, size_bytes, sha256 })
    }

    /// Removes what has been stored of it. It may be repeated.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the sweeper will find it.
    pub async fn abandon(&mut self) -> Result<(), Error> {
        self.writer.abandon().await
    }
}

/// A document that is being read.
#[derive(Debug)]
pub struct Document {
    reader: objects::Reader,
}

impl Document {
    /// Returns the next chunk; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Gone`] if it is removed meanwhile.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.reader.next().await
    }
}
