//! Job records with all stored revisions.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::admin::StoredMessage;

/// A job record with all revisions, oldest first.
#[derive(Debug, Clone)]
pub struct Record {
    /// Job id.
    pub id: String,
    /// All stored revisions.
    pub revisions: Vec<Revision>,
}

/// One revision of a record.
#[derive(Debug, Clone)]
pub struct Revision {
    /// Revision number.
    pub number: u64,
    /// Time at which the broker stored the revision.
    pub stored: SystemTime,
    /// The job, or `None` for a tombstone.
    pub job: Option<Value>,
}

impl Revision {
    /// Returns the status, or `-` for a tombstone.
    pub fn status(&self) -> &str {
        self.job.as_ref().and_then(|job| job["status"].as_str()).unwrap_or("-")
    }

    /// Returns whether the status is final. No revision may follow a final one.
    pub fn is_final(&self) -> bool {
        matches!(self.status(), "succeeded" | "failed" | "cancelled")
    }
}

impl Record {
    /// Returns the newest revision.
    pub fn last(&self) -> &Revision {
        self.revisions.last().expect("a revision")
    }

    /// Returns the number of distinct runs in all revisions.
    pub fn runs(&self) -> usize {
        let mut runs = std::collections::BTreeSet::new();
        for job in self.revisions.iter().filter_map(|revision| revision.job.as_ref()) {
            for attempt in job["attempts"].as_array().into_iter().flatten() {
                runs.insert(attempt["run"].to_string());
            }
        }
        runs.len()
    }
}

/// Groups records by submission, which the label `chaos` names. A record without the label is
/// listed under its key.
pub fn by_submission(messages: &[StoredMessage]) -> BTreeMap<String, Vec<Record>> {
    let mut by_key: BTreeMap<String, Vec<Revision>> = BTreeMap::new();
    for message in messages {
        let key = message.subject.trim_start_matches("$KV.job_state.").to_owned();
        by_key.entry(key).or_default().push(Revision {
            number: message.revision,
            stored: message.stored,
            job: serde_json::from_slice(&message.payload).ok(),
        });
    }
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for (key, revisions) in by_key {
        let id = key.rsplit('.').next().unwrap_or_default().to_owned();
        let name = revisions
            .iter()
            .filter_map(|revision| revision.job.as_ref()?["labels"]["chaos"].as_str())
            .next();
        let name = name.unwrap_or(&key).to_owned();
        records.entry(name).or_default().push(Record { id, revisions });
    }
    records
}

/// Parses a timestamp, for example `2026-01-31T12:34:56.789Z`.
pub fn time(value: &Value) -> Option<SystemTime> {
    let text = value.as_str()?.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let year = date.next()??;
    let month = date.next()??;
    let day = date.next()??;
    let mut time = time.split(':');
    let (hours, minutes): (u64, u64) = (time.next()?.parse().ok()?, time.next()?.parse().ok()?);
    let seconds: f64 = time.next()?.parse().ok()?;
    // Days since 1970-01-01, by Howard Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = u64::try_from(era * 146_097 + day_of_era - 719_468).ok()?;
    let whole = Duration::from_secs(days * 86_400 + hours * 3600 + minutes * 60);
    Some(SystemTime::UNIX_EPOCH + whole + Duration::from_secs_f64(seconds))
}
