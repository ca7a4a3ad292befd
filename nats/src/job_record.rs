//! The values of the bucket `job_state`: job records, and the tombstones of records that were
//! deleted, have expired or were rolled back.

use async_nats::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use serde::Deserialize;
use wordmill_common::id::JobKey;
use wordmill_common::job::{FORMAT, Job, Status};

use crate::Error;
use crate::headers::OPERATION_HEADER;

/// Header with the status of the record, so that readers can filter records without parsing them.
pub const STATUS_HEADER: &str = "Wordmill-Status";
/// Value of [`STATUS_HEADER`] on the tombstone of a job that was never accepted.
pub(crate) const REFUSED_STATUS: &str = "refused";

/// A record and the revision that a change must expect.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionedJob {
    /// The record.
    pub job: Job,
    /// Its revision; 0 if it has never been written.
    pub revision: u64,
}

/// A record as stored: JSON that has not been parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRecord {
    /// JSON of the record.
    pub json: Bytes,
    /// Status of the job, from the header or else from the JSON.
    pub status: Status,
    /// The record's revision; 0 if it has never been written.
    pub revision: u64,
}

impl RawRecord {
    /// Returns the record of a new job, which is not in the bucket yet.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the job cannot be serialized.
    pub fn of_new_job(job: &Job) -> Result<Self, Error> {
        let json = serde_json::to_vec(job).map_err(|error| corrupt(&job.key(), error))?;
        Ok(Self { json: json.into(), status: job.status, revision: 0 })
    }

    /// Copies the JSON out of the network buffer, so that keeping the record does not pin the
    /// buffer.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { json: Bytes::copy_from_slice(&self.json), ..*self }
    }

    /// Parses the record and checks its format.
    ///
    /// # Errors
    /// [`Error::Newer`] for a newer format, [`Error::Corrupt`] if it is not a record.
    pub fn read(&self, key: &JobKey) -> Result<Box<VersionedJob>, Error> {
        let job: Job = self.read_as(key)?;
        check_format(job.format, key)?;
        Ok(Box::new(VersionedJob { job, revision: self.revision }))
    }

    /// Deserializes only the fields of `T`. The caller must call [`check_format`] on success.
    ///
    /// # Errors
    /// [`Error::Newer`] for a newer format that does not fit `T`, [`Error::Corrupt`] if it is not a
    /// record.
    pub fn read_as<'a, T: Deserialize<'a>>(&'a self, key: &JobKey) -> Result<T, Error> {
        serde_json::from_slice(&self.json).map_err(|error| unreadable(key, &self.json, &error))
    }
}

/// Refuses a record with a format newer than [`FORMAT`].
///
/// # Errors
/// [`Error::Newer`].
pub fn check_format(format: u32, key: &JobKey) -> Result<(), Error> {
    if format <= FORMAT {
        return Ok(());
    }
    Err(newer(key, format.into()))
}

/// Refuses a record with a status that only a newer version supports. Call it before acting on a
/// record.
///
/// # Errors
/// [`Error::Newer`].
pub fn check_status(job: &Job) -> Result<(), Error> {
    match job.status {
        Status::Unknown => Err(Error::newer_format(
            name(&job.key()),
            "it has a status that this version does not support",
        )),
        Status::Queued
        | Status::Running
        | Status::Succeeded
        | Status::Failed
        | Status::Cancelled => Ok(()),
    }
}

/// The format of a record whose other fields cannot be parsed.
#[derive(Deserialize)]
struct FormatField {
    format: u64,
}

/// Returns the error for a record that cannot be parsed: [`Error::Newer`] if it has a newer format,
/// which may change every other field.
fn unreadable(key: &JobKey, json: &[u8], error: &serde_json::Error) -> Error {
    match serde_json::from_slice::<FormatField>(json) {
        Ok(FormatField { format }) if format > FORMAT.into() => newer(key, format),
        Ok(_) | Err(_) => corrupt(key, error),
    }
}

fn newer(key: &JobKey, format: u64) -> Error {
    let reason =
        format!("it has format {format}, and this version supports formats up to {FORMAT}");
    Error::newer_format(name(key), reason)
}

fn name(key: &JobKey) -> String {
    format!("the record of {key}")
}

/// Returns the error for a record that cannot be parsed.
pub fn corrupt(key: &JobKey, reason: impl ToString) -> Error {
    Error::corrupt(name(key), reason)
}

/// Result of reading the record of a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup<T = Box<VersionedJob>> {
    /// The record.
    Job(T),
    /// The job had a record, which was deleted or has expired.
    Deleted,
    /// The job has no record, or its record was rolled back.
    NotFound,
}

impl Lookup<RawRecord> {
    /// Parses the record, if there is one.
    ///
    /// # Errors
    /// Those of [`RawRecord::read`].
    pub fn read(self, key: &JobKey) -> Result<Lookup, Error> {
        Ok(match self {
            Self::Job(raw) => Lookup::Job(raw.read(key)?),
            Self::Deleted => Lookup::Deleted,
            Self::NotFound => Lookup::NotFound,
        })
    }
}

/// Returns the headers of a tombstone, which also remove the earlier revisions of the record.
pub(crate) fn tombstone_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(OPERATION_HEADER, "PURGE");
    headers.insert(header::NATS_ROLLUP, "sub");
    headers
}

/// Parses one revision of a record, or recognizes a tombstone.
pub(crate) fn parse(
    key: &JobKey,
    headers: &HeaderMap,
    payload: Bytes,
    revision: u64,
) -> Result<Lookup, Error> {
    parse_raw(key, headers, payload, revision)?.read(key)
}

/// Recognizes a record or a tombstone by its headers. Parses JSON only if a record has no known
/// status in its header.
pub(crate) fn parse_raw(
    key: &JobKey,
    headers: &HeaderMap,
    json: Bytes,
    revision: u64,
) -> Result<Lookup<RawRecord>, Error> {
    let status = headers.get(STATUS_HEADER).map(HeaderValue::as_str);
    // Either the server's tombstone of an expired record, or a tombstone that a client wrote.
    if headers.get(OPERATION_HEADER).is_some() || headers.get(header::NATS_MARKER_REASON).is_some()
    {
        return Ok(if status == Some(REFUSED_STATUS) { Lookup::NotFound } else { Lookup::Deleted });
    }
    let status = match status.and_then(Status::parse) {
        Some(status) => status,
        // A record that was written by hand may lack the header. A newer version may have added a
        // status.
        None => {
            let head = serde_json::from_slice::<StatusField>(&json);
            head.map_err(|error| unreadable(key, &json, &error))?.status
        }
    };
    Ok(Lookup::Job(RawRecord { json, status, revision }))
}

/// The status in the JSON of a record.
#[derive(Deserialize)]
struct StatusField {
    #[serde(deserialize_with = "Status::deserialize_or_unknown")]
    status: Status,
}

#[cfg(test)]
mod tests {
    use wordmill_common::id::{JobId, Owner};

    use super::*;

    const JSON: &[u8] = br#"{"format": 1, "status": "running"}"#;

    fn parse_reply(
        headers: &[(&str, &str)],
        json: &'static [u8],
    ) -> Result<Lookup<RawRecord>, Error> {
        let key = JobKey { owner: Owner::public(), job_id: JobId::new() };
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.insert(*name, *value));
        parse_raw(&key, &map, Bytes::from_static(json), 7)
    }

    fn status(record: &Lookup<RawRecord>) -> Option<Status> {
        match record {
            Lookup::Job(record) => Some(record.status),
            Lookup::Deleted | Lookup::NotFound => None,
        }
    }

    #[test]
    fn a_newer_format_may_change_the_status_and_be_any_number() {
        for json in [
            &br#"{"format": 2, "state": {"name": "paused"}}"#[..],
            br#"{"format": 5000000000, "status": 7}"#,
        ] {
            for headers in [&[][..], &[(STATUS_HEADER, "paused")]] {
                assert!(
                    matches!(parse_reply(headers, json), Err(Error::Newer { .. })),
                    "{headers:?}"
                );
            }
        }
        assert!(matches!(parse_reply(&[], br#"{"format": 1}"#), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn the_status_comes_from_the_header_or_the_record() {
        let by_header = parse_reply(&[(STATUS_HEADER, "failed")], JSON).unwrap();
        assert_eq!(status(&by_header), Some(Status::Failed));
        for headers in [&[][..], &[(STATUS_HEADER, "unheard of")]] {
            assert_eq!(status(&parse_reply(headers, JSON).unwrap()), Some(Status::Running));
            parse_reply(headers, b"{}").unwrap_err();
        }
        let newer = parse_reply(&[(STATUS_HEADER, "paused")], br#"{"status": "paused"}"#).unwrap();
        assert_eq!(status(&newer), Some(Status::Unknown));
    }

    #[test]
    fn a_newer_record_is_distinguished_from_a_corrupt_one() {
        let key = JobKey { owner: Owner::public(), job_id: JobId::new() };
        let read = |json: &'static [u8]| {
            let json = Bytes::from_static(json);
            RawRecord { json, status: Status::Running, revision: 7 }.read(&key).unwrap_err()
        };
        assert!(matches!(read(br#"{"format": 2, "state": {}}"#), Error::Newer { .. }));
        assert!(matches!(read(br#"{"format": 1, "state": {}}"#), Error::Corrupt { .. }));
        assert!(matches!(read(b"hello"), Error::Corrupt { .. }));
    }

    #[test]
    fn tombstones_are_not_records() {
        for headers in [
            &[(OPERATION_HEADER, "PURGE")][..],
            &[(OPERATION_HEADER, "DEL"), (STATUS_HEADER, "succeeded")],
            &[(header::NATS_MARKER_REASON.as_ref(), "MaxAge")],
        ] {
            assert_eq!(parse_reply(headers, b"").unwrap(), Lookup::Deleted, "{headers:?}");
        }
        let refused = [(OPERATION_HEADER, "PURGE"), (STATUS_HEADER, REFUSED_STATUS)];
        assert_eq!(parse_reply(&refused, b"").unwrap(), Lookup::NotFound);
    }
}
