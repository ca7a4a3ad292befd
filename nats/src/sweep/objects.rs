//! Removes unreferenced objects, and chunks of objects that were never finished.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::object_store::ObjectInfo;
use async_nats::jetstream::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use wordmill_common::clock::age;
use wordmill_common::id::{JobKey, Lane};
use wordmill_common::job::{ExplanationRef, Job, ResultRef};
use wordmill_common::message::{self, ParsedMessage, UnknownPart};

use super::{Sweep, next_message};
use crate::Error;
use crate::job_record::Lookup;
use crate::objects::{Bucket, job_of, name_of_chunks};
use crate::stream_read::{ReadFrom, last_message, stored_at};
use crate::subject;
use crate::topology::{DOCUMENTS, DOCUMENTS_STREAM, RESULTS, RESULTS_STREAM};

/// An object store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ObjectStore {
    /// Documents too large for a message.
    Documents,
    /// Histograms too large for a record.
    Results,
}

impl ObjectStore {
    /// Both object stores.
    pub const ALL: [Self; 2] = [Self::Documents, Self::Results];

    /// Returns the name of the bucket.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Documents => DOCUMENTS,
            Self::Results => RESULTS,
        }
    }

    fn stream(self) -> &'static str {
        match self {
            Self::Documents => DOCUMENTS_STREAM,
            Self::Results => RESULTS_STREAM,
        }
    }
}

/// An object that the scan has reached.
#[derive(Debug, Clone)]
pub struct Object {
    /// Sequence number of the object's metadata. The scan continues after it.
    pub sequence: u64,
    /// Time at which the metadata was stored.
    pub written_at: Timestamp,
    /// Metadata of the object; `None` if it cannot be parsed.
    info: Option<Box<ObjectInfo>>,
}

/// Chunks that had no object when they were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    chunks_id: String,
    object: String,
}

impl Sweep {
    fn bucket(&self, store: ObjectStore) -> &Bucket {
        match store {
            ObjectStore::Documents => &self.documents,
            ObjectStore::Results => &self.results,
        }
    }

    /// Returns the first object at or after `sequence`; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn next_object(
        &self,
        store: ObjectStore,
        sequence: u64,
    ) -> Result<Option<Object>, Error> {
        let subjects = format!("$O.{}.M.>", store.name());
        let Some(message) = next_message(self.bucket(store).stream(), subjects, sequence).await?
        else {
            return Ok(None);
        };
        let info: Option<Box<ObjectInfo>> = serde_json::from_slice(&message.payload).ok();
        let written_at = stored_at(&message);
        Ok(Some(Object { sequence: message.sequence, written_at, info }))
    }

    /// Removes an object unless a job refers to it or may refer to it later. Returns whether it was
    /// removed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`]: the object is kept.
    pub async fn remove_unreferenced(
        &self,
        store: ObjectStore,
        object: &Object,
    ) -> Result<bool, Error> {
        let Some(info) = &object.info else { return Ok(false) };
        let Some(key) = job_of(info) else { return Ok(false) };
        let is_needed = match store {
            ObjectStore::Documents => self.needs_document(&key, &info.name).await?,
            ObjectStore::Results => self.needs_result(&key, &info.name).await?,
        };
        if is_needed {
            return Ok(false);
        }
        self.bucket(store).purge(&info.name).await?;
        Ok(true)
    }

    /// Returns whether a record refers to a large result, or may do so later. A later reference is
    /// impossible if the job is final, because a final record never changes, or if the job has
    /// neither a record nor a message.
    async fn needs_result(&self, key: &JobKey, name: &str) -> Result<bool, Error> {
        let points_to = |job: &Job| {
            matches!(&job.result, Some(ResultRef::Object { name: object }) if object == name)
                || matches!(&job.explanation, Some(ExplanationRef::Object { name: object }) if object == name)
        };
        for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
            match self.store.get_job(key, read_from).await? {
                Lookup::Job(stored) if !stored.job.status.is_final() => return Ok(true),
                Lookup::Job(stored) if points_to(&stored.job) => return Ok(true),
                Lookup::Job(_) | Lookup::Deleted | Lookup::NotFound => {}
            }
        }
        Ok(!self.has_no_message(key).await?)
    }

    /// Returns whether an unfinished job, or the dead letter of a job, refers to this document.
    async fn needs_document(&self, key: &JobKey, name: &str) -> Result<bool, Error> {
        for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
            let record = self.store.get_job(key, read_from).await?;
            // An unfinished job may still be counted or dead-lettered.
            if matches!(&record, Lookup::Job(stored) if !stored.job.status.is_final()
                && stored.job.document.as_deref() == Some(name))
            {
                return Ok(true);
            }
            // A dead-lettered job is treated as unfinished: until its dead letter is stored, its
            // message is still in the queue.
            let is_final = match &record {
                Lookup::Job(stored) => stored.job.status.is_final() && !stored.job.dead_lettered,
                Lookup::Deleted => true,
                Lookup::NotFound => false,
            };
            if !is_final
                && let Some(message) = self.queue.find(key, read_from).await?
                && may_refer_to(&message, name)
            {
                return Ok(true);
            }
            for lane in Lane::ALL {
                let letter =
                    last_message(&self.dead, &subject::dead_letter(lane, key), read_from).await?;
                match letter.map(|letter| ParsedMessage::parse(&letter.payload)) {
                    Some(Ok(message)) if may_refer_to(&message, name) => return Ok(true),
                    // A dead letter in a newer format: this version cannot determine which document
                    // it refers to.
                    Some(Err(message::Error::Newer(_))) => return Ok(true),
                    Some(Ok(_) | Err(_)) | None => {}
                }
            }
        }
        Ok(false)
    }

    /// Returns chunks without an object: either the object is still being written, or it will never
    /// be finished. Checks at most `max` objects, a random selection if there are more.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`].
    pub async fn find_orphans(&self, store: ObjectStore, max: usize) -> Result<Vec<Orphan>, Error> {
        let mut orphans = Vec::new();
        // The map has a random order, so `take` selects different objects each time.
        for chunks_id in self.chunk_ids(store).await?.into_iter().take(max) {
            let Some(object) = name_of_chunks(&chunks_id) else { continue };
            let orphan = Orphan { chunks_id, object };
            if self.is_orphaned(store, &orphan).await? {
                orphans.push(orphan);
            }
        }
        Ok(orphans)
    }

    /// Removes chunks that still have no object, if the newest of them is older than `grace`.
    /// Returns whether they were removed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::Corrupt`].
    pub async fn remove_orphan(
        &self,
        store: ObjectStore,
        orphan: &Orphan,
        now: Timestamp,
        grace: Duration,
    ) -> Result<bool, Error> {
        let bucket = self.bucket(store);
        let chunks = subject::object_chunks(store.name(), &orphan.chunks_id);
        let Some(newest) = last_message(bucket.stream(), &chunks, ReadFrom::Leader).await? else {
            return Ok(false);
        };
        if age(stored_at(&newest), now) <= grace || !self.is_orphaned(store, orphan).await? {
            return Ok(false);
        }
        bucket.purge_subject(chunks).await?;
        Ok(true)
    }

    async fn is_orphaned(&self, store: ObjectStore, orphan: &Orphan) -> Result<bool, Error> {
        for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
            let object = self.bucket(store).find(&orphan.object, read_from).await?;
            if object.is_some_and(|(info, _)| info.nuid == orphan.chunks_id) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the ids of all chunks. Sends one request, independent of their number and size.
    async fn chunk_ids(&self, store: ObjectStore) -> Result<Vec<String>, Error> {
        const OPERATION: &str = "look for chunks without an object";
        let filter = subject::object_chunks(store.name(), "*");
        let answer: Result<Response<Subjects>, _> = self
            .broker
            .jetstream
            .request(format!("STREAM.INFO.{}", store.stream()), &json!({"subjects_filter": filter}))
            .await;
        let subjects = match answer {
            Ok(Response::Ok(subjects)) => subjects.state.subjects.unwrap_or_default(),
            Ok(Response::Err { error }) => return Err(Error::unavailable(OPERATION, error)),
            Err(error) => return Err(Error::unavailable(OPERATION, error)),
        };
        let ids = subjects.into_keys();
        Ok(ids.filter_map(|subject| subject.rsplit('.').next().map(str::to_owned)).collect())
    }
}

/// Returns whether a message may refer to this document. Also returns `true` for an unknown source,
/// because this version cannot read its document.
fn may_refer_to(message: &ParsedMessage, name: &str) -> bool {
    match message {
        ParsedMessage::Known(_) => message.object() == Some(name),
        ParsedMessage::Unknown(unknown) => {
            unknown.part == UnknownPart::Source || message.object() == Some(name)
        }
    }
}

/// State of a stream with its subjects. The server lists the first 100,000, far more than the
/// number of objects.
#[derive(Debug, Deserialize)]
struct Subjects {
    state: StreamState,
}

#[derive(Debug, Deserialize)]
struct StreamState {
    subjects: Option<HashMap<String, u64>>,
}
