//! Compares the outcome of each submission with its plan. Each rule checks a promise of the README.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::admin::StoredMessage;
use crate::chaos::Run;
use crate::chaos::fault::{Fault, Incident};
use crate::chaos::load::{AFTER_FAULTS_FROM, Cancel, Submission, Verdict};
use crate::chaos::plan::{ATTEMPTS, Expected, Features};
use crate::chaos::record::{Record, time};
use crate::client::Client;
use crate::pause;

/// All data about a finished run.
pub struct Evidence {
    /// Parameters of the run.
    pub run: Run,
    /// Duration of the run.
    pub took: Duration,
    /// Features of the gateways.
    pub features: Features,
    /// All submissions, as the clients see them.
    pub submissions: BTreeMap<String, Submission>,
    /// Job records, by submission.
    pub records: BTreeMap<String, Vec<Record>>,
    /// All dead letters.
    pub dead: Vec<StoredMessage>,
    /// Number of messages that are left in the queue.
    pub waiting: u64,
    /// Times of all requests for a page, by submission.
    pub visits: HashMap<String, Vec<SystemTime>>,
    /// All faults.
    pub incidents: Vec<Incident>,
    /// Unexpected events, for example a service that exited without a fault.
    pub unexpected_events: Vec<String>,
    /// A gateway that is used to read results.
    pub gateway: Client,
}

/// A violated promise.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Name of the submission, or `None` for a violation that concerns the entire run.
    pub name: Option<String>,
    /// Description of the violation.
    pub description: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name.as_deref().unwrap_or("run"), self.description)
    }
}

impl Evidence {
    /// Returns all violations.
    pub fn differences(&self) -> Vec<Difference> {
        let mut differences: Vec<Difference> = Vec::new();
        let mut of_run =
            |description: String| differences.push(Difference { name: None, description });
        self.unexpected_events.iter().cloned().for_each(&mut of_run);
        if self.waiting > 0 {
            of_run(format!("{} messages are left in JOBS", self.waiting));
        }
        for name in self.records.keys().filter(|name| !self.submissions.contains_key(*name)) {
            let is_marker = self.records[name].iter().all(|record| record.last().job.is_none());
            if !is_marker {
                of_run(format!("no client submitted {name}"));
            }
        }
        self.compare_dead_letters(&mut of_run);
        for (name, submission) in &self.submissions {
            let mut wrong = Vec::new();
            self.compare(name, submission, &mut wrong);
            differences.extend(
                wrong
                    .into_iter()
                    .map(|description| Difference { name: Some(name.clone()), description }),
            );
        }
        differences
    }

    /// Returns whether the record is an orphan: the gateway wrote it, but then refused the job or
    /// crashed before the queue accepted the message. Such a job was not accepted, and the sweeper
    /// has ended it.
    pub fn is_orphan(submission: &Submission, record: &Record) -> bool {
        let last = record.last().job.as_ref();
        submission.verdict != Verdict::Accepted
            && last.is_some_and(|job| job["failure"]["code"] == "lost")
            && record.runs() == 0
    }

    fn compare_dead_letters(&self, of_run: &mut impl FnMut(String)) {
        let ids = |message: &StoredMessage| {
            message.subject.rsplit('.').next().unwrap_or_default().to_owned()
        };
        let letters: BTreeSet<String> = self.dead.iter().map(ids).collect();
        let records = self.records.values().flatten();
        let wanted: BTreeSet<String> = records
            .filter(|one| one.last().job.as_ref().is_some_and(|job| job["dead_lettered"] == true))
            .map(|one| one.id.clone())
            .collect();
        for id in letters.symmetric_difference(&wanted) {
            let message = letters.contains(id);
            of_run(format!(
                "job {id}: in DEAD_JOBS: {message}, dead_lettered in its record: {}",
                !message
            ));
        }
    }

    fn compare(&self, name: &str, submission: &Submission, wrong: &mut Vec<String>) {
        wrong.extend(submission.polls.wrong.iter().cloned());
        if submission.ids.len() > 1 {
            wrong.push(format!("the answers contain several ids: {:?}", submission.ids));
        }
        let none = Vec::new();
        let records = self.records.get(name).unwrap_or(&none);
        let remaining: Vec<&Record> = records
            .iter()
            .filter(|record| record.last().job.is_some() && !Self::is_orphan(submission, record))
            .collect();
        if remaining.len() > 1 {
            wrong.push(format!("{} jobs exist for one submission", remaining.len()));
        }
        let visits = self.visits.get(name).map_or(0, Vec::len);
        match (submission.verdict, remaining.is_empty()) {
            (Verdict::Accepted, true) => wrong.push("accepted, but no record exists".to_owned()),
            (Verdict::Unavailable | Verdict::Refused, false) => {
                wrong.push("not accepted, but a record exists".to_owned());
            }
            (Verdict::Unavailable | Verdict::Refused, true) if visits > 0 => {
                wrong.push("not accepted, but the page was requested".to_owned());
            }
            _ => {}
        }
        let is_refused = submission.verdict == Verdict::Refused;
        if is_refused != (submission.plan.expected() == Expected::Refused)
            && (is_refused || submission.verdict == Verdict::Accepted)
        {
            wrong.push(format!("unexpected answers: {:?}", submission.answers));
        }
        for record in remaining {
            if !submission.ids.is_empty() && !submission.ids.contains(&record.id) {
                wrong.push(format!(
                    "the record has the id {}, the answers have {:?}",
                    record.id, submission.ids
                ));
            }
            self.compare_record(name, submission, record, wrong);
        }
    }

    fn compare_record(
        &self,
        name: &str,
        submission: &Submission,
        record: &Record,
        wrong: &mut Vec<String>,
    ) {
        let last = record.last();
        let finals = record.revisions.iter().filter(|revision| revision.is_final()).count();
        if finals > 1 || (finals == 1 && !last.is_final()) {
            wrong.push("a final record was changed".to_owned());
        }
        let Some(job) = last.job.as_ref().filter(|_| last.is_final()) else {
            wrong.push(format!("the job is not final: {}", last.status()));
            return;
        };
        let actual = format!("{} {}", job["status"], job["totals"]["words"]);
        if submission.polls.ended.as_ref().is_some_and(|ended| *ended != actual) {
            wrong.push(format!(
                "polls returned {:?}, but the record has {actual}",
                submission.polls.ended
            ));
        }
        let lifetime = (time(&job["created_at"]), time(&job["finished_at"]));
        let (Some(created), Some(finished)) = lifetime else {
            wrong.push(format!("timestamps are missing: {job}"));
            return;
        };
        self.compare_attempts(submission, job, wrong);
        self.compare_end(submission, &record.id, job, wrong);
        if submission.plan.is_page() {
            let visits = self.visits.get(name).map_or(0, Vec::len);
            let (min, max) = self.expected_requests(record, job, created, finished);
            if !(min..=max).contains(&visits) {
                let runs = record.runs();
                wrong.push(format!(
                    "the page was requested {visits} times, expected {min} to {max}; {runs} runs"
                ));
            }
        }
    }

    /// Returns the minimum and maximum number of requests for the page. Each recorded run requests
    /// it once. Faults may add requests: one by a worker that crashed before its run was recorded,
    /// and one for each fault of the broker, which may lose the count of deliveries.
    fn expected_requests(
        &self,
        record: &Record,
        job: &Value,
        created: SystemTime,
        finished: SystemTime,
    ) -> (usize, usize) {
        let runs = record.runs();
        let overlapping: Vec<&Incident> =
            self.incidents.iter().filter(|one| one.overlaps(created, finished)).collect();
        // A job may be cancelled before its first request, so its number of requests is not exact.
        if overlapping.is_empty() && job["status"] != "cancelled" {
            return (runs, runs);
        }
        let broker_faults = overlapping.iter().filter(|one| one.is_broker()).count();
        (usize::from(job["status"] == "succeeded"), runs + 1 + broker_faults)
    }

    /// Compares all attempts. An attempt with an unplanned failure must overlap a fault.
    fn compare_attempts(&self, submission: &Submission, job: &Value, wrong: &mut Vec<String>) {
        let attempts = job["attempts"].as_array().map_or(&[][..], Vec::as_slice);
        if attempts.len() > ATTEMPTS {
            wrong.push(format!("{} attempts, the maximum is {ATTEMPTS}", attempts.len()));
        }
        let planned_code = match submission.plan.expected() {
            Expected::Failure { code, .. } => code,
            Expected::Words(_) if submission.plan.kind == super::Kind::Recovers => "fetch_http_5xx",
            Expected::Words(_) | Expected::Refused => "",
        };
        let followers = attempts.iter().skip(1).map(Some).chain([None]);
        for (attempt, next) in attempts.iter().zip(followers) {
            let Some(code) = attempt["failure"]["code"].as_str() else {
                continue;
            };
            let (Some(from), Some(to)) = (time(&attempt["started_at"]), time(&attempt["ended_at"]))
            else {
                wrong.push(format!("timestamps are missing: {attempt}"));
                continue;
            };
            let worker = attempt["worker"].as_str().unwrap_or_default();
            // A worker that resumes after a pause may take its job from the worker that received it
            // in the meantime. So a fault of the worker of the next attempt also explains the
            // failure.
            let next_worker = next.and_then(|next| next["worker"].as_str()).unwrap_or(worker);
            let disturbed = self.incidents.iter().any(|one| {
                (one.concerns(worker) || one.concerns(next_worker)) && one.overlaps(from, to)
            });
            if !disturbed && code != planned_code {
                wrong.push(format!("an attempt of {worker} failed with {code} without a fault"));
            }
        }
        let lifetime = (time(&job["created_at"]), time(&job["finished_at"]));
        let stalled = |(from, to)| {
            let stall = |one: &&Incident| one.fault == Fault::Stall && one.overlaps(from, to);
            self.incidents.iter().find(stall).is_some()
        };
        let had_no_stall = !lifetime.0.zip(lifetime.1).is_some_and(stalled);
        if submission.plan.number >= AFTER_FAULTS_FROM && attempts.len() != 1 && had_no_stall {
            wrong.push(format!("{} attempts without a fault", attempts.len()));
        }
    }

    fn compare_end(&self, submission: &Submission, id: &str, job: &Value, wrong: &mut Vec<String>) {
        let status = job["status"].as_str().unwrap_or_default();
        match submission.cancel {
            Cancel::Confirmed if status != "cancelled" => {
                wrong.push(format!("the cancellation was confirmed, but the status is {status}"));
            }
            Cancel::NotRequested if status == "cancelled" => {
                wrong.push("cancelled without a request".to_owned());
            }
            Cancel::NotRequested | Cancel::Requested | Cancel::Confirmed => {}
        }
        let failed = job["failure"]["code"].as_str();
        match (submission.plan.expected(), status) {
            (Expected::Words(words), "succeeded") => self.compare_result(id, &words, job, wrong),
            (Expected::Failure { code, dead_lettered }, "failed") if failed == Some(code) => {
                if job["dead_lettered"] != dead_lettered && !has_used_all_attempts(job) {
                    wrong.push(format!("dead_lettered is {}", job["dead_lettered"]));
                }
                if dead_lettered && !has_used_all_attempts(job) {
                    wrong.push("failed before its last attempt".to_owned());
                }
            }
            // All attempts failed. `compare_attempts` has checked the reason of each.
            (_, "failed") if has_used_all_attempts(job) && job["dead_lettered"] == true => {}
            (_, "cancelled") => {}
            (expected, _) => {
                let text: String = format!("{expected:?}").chars().take(100).collect();
                wrong.push(format!("status {status} ({failed:?}), expected {text}"));
            }
        }
    }

    fn compare_result(
        &self,
        id: &str,
        words: &BTreeMap<String, u64>,
        job: &Value,
        wrong: &mut Vec<String>,
    ) {
        let total: u64 = words.values().sum();
        if job["totals"]["words"] != total {
            wrong.push(format!("{} words, expected {total}", job["totals"]["words"]));
        }
        let path = format!("/v1/jobs/{id}/result");
        let mut answer = self.gateway.try_send("GET", &path, &[], &[]);
        for _ in 0..3 {
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                break;
            }
            pause(Duration::from_millis(500));
            answer = self.gateway.try_send("GET", &path, &[], &[]);
        }
        match answer {
            Ok(answer) if answer.status == 200 => {
                let counted: Result<BTreeMap<String, u64>, _> =
                    serde_json::from_value(answer.json()["word_count"].clone());
                if counted.ok().as_ref() != Some(words) {
                    wrong.push("the histogram differs".to_owned());
                }
            }
            answer => wrong.push(format!("cannot read the result: {answer:?}")),
        }
    }
}

/// Returns whether a job has used all its attempts.
pub fn has_used_all_attempts(job: &Value) -> bool {
    job["attempts"].as_array().is_some_and(|attempts| attempts.len() == ATTEMPTS)
}
