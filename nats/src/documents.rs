//! Documents that clients upload, kept in the object store `documents` until their jobs are final,
//! or as long as their dead letters.
//!
//! They are written in pieces as they arrive, and read in chunks as they are counted. Neither side
//! holds a whole document. `nats object get documents <name>` reads them, too.

use bytes::Bytes;
use wordmill_common::id::{JobKey, RunNonce};
use wordmill_common::source::Content;

use crate::Error;
use crate::connect::Broker;
use crate::objects::{self, Bucket};
use crate::topology::{DOCUMENTS, DOCUMENTS_STREAM};

pub use crate::objects::{CHUNK_BYTES, CHUNKS_UNCONFIRMED_MAX};

/// The object store of documents, of all owners.
#[derive(Debug, Clone)]
pub struct Documents {
    bucket: Bucket,
}

/// A document that was received completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedDocument {
    /// The bytes, or the name of the stored object.
    pub content: Content,
    /// Size of the document, in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the document, in hexadecimal.
    pub sha256: String,
}

impl Documents {
    /// Opens the object store. Sends no request.
    pub fn open(broker: &Broker) -> Self {
        Self { bucket: Bucket::open(broker, DOCUMENTS, DOCUMENTS_STREAM) }
    }

    /// Starts to receive the document of a job, as the object `<job_id>.<nonce>`. The nonce is
    /// random, so that a repeated request does not overwrite the document of the earlier one.
    #[must_use]
    pub fn receive(&self, key: &JobKey) -> Upload {
        let name = format!("{}.{}", key.job_id, RunNonce::random());
        Upload { writer: self.bucket.write(key, name) }
    }

    /// Opens a document for reading; `None` if it has expired or was removed.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] if the metadata of the object cannot be
    /// parsed.
    pub async fn read(&self, name: &str) -> Result<Option<Document>, Error> {
        Ok(self.bucket.read(name).await?.map(|reader| Document { reader }))
    }

    /// Removes a document if it exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and [`Error::Corrupt`] if the metadata of the object cannot be
    /// parsed.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        self.bucket.purge(name).await
    }

    /// Copies a document for another job; `None` if it has expired or was removed.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Full`], and [`Error::Corrupt`] if the metadata cannot be
    /// parsed.
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

/// A document that is being received. The caller must finish or abandon it; the sweeper removes the
/// chunks of uploads that were cut off.
#[derive(Debug)]
pub struct Upload {
    writer: objects::Writer,
}

impl Upload {
    /// Appends the next piece, of any size.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Unavailable`]: abandon the upload.
    pub async fn push(&mut self, piece: Bytes) -> Result<(), Error> {
        self.writer.push(piece).await
    }

    /// Returns the number of bytes received so far.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.writer.size_bytes()
    }

    /// Completes the document. A document that fits into one chunk is not stored: the message of
    /// the job contains it.
    ///
    /// # Errors
    /// [`Error::Full`] and [`Error::Unavailable`]: abandon the upload.
    pub async fn finish(&mut self) -> Result<ReceivedDocument, Error> {
        let size_bytes = self.writer.size_bytes();
        let sha256 = self.writer.sha256();
        let content = match self.writer.take_small() {
            Some(bytes) => Content::Inline(bytes.into()),
            None => {
                self.writer.finish().await?;
                Content::Object(self.writer.name().to_owned())
            }
        };
        Ok(ReceivedDocument { content, size_bytes, sha256 })
    }

    /// Removes the chunks that were stored. Safe to repeat.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the sweeper removes them later.
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
    /// [`Error::Unavailable`], and [`Error::Gone`] if the document is removed while it is read.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.reader.next().await
    }
}
