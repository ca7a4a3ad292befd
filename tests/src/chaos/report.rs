//! Report of a run: its table, and the history of jobs with differences.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use crate::chaos::load::Verdict;
use crate::chaos::plan::{ACK_WAIT, ATTEMPTS, Expected};
use crate::chaos::reconcile::{Difference, Evidence, has_used_all_attempts};
use crate::chaos::record::{Record, time};

/// Maximum number of printed histories.
const HISTORIES_MAX: usize = 4;
/// Maximum number of listed differences.
const LISTED_MAX: usize = 40;
/// Maximum number of printed log lines of one process.
const LINES_MAX: usize = 60;

/// Returns the table of a run.
pub fn table(evidence: &Evidence, differences: &[Difference]) -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let run = &evidence.run;
    row("seed", run.seed.to_string());
    row(
        "broker",
        match run.nodes {
            1 => "1 nats-server, 1 replica, sync_interval 1s".to_owned(),
            nodes => format!("{nodes} nats-servers, {nodes} replicas, sync_interval 1s"),
        },
    );
    row("duration of the faults", format!("{} s", run.time.as_secs()));
    row("duration of the run", format!("{} s", evidence.took.as_secs()));
    let features = &evidence.features;
    row(
        "features",
        format!("cancel {}, keys {}, put {}", features.cancel, features.keys, features.put),
    );
    row("attempts, ack wait", format!("{ATTEMPTS}, {} s", ACK_WAIT.as_secs()));
    row("submissions", evidence.submissions.len().to_string());
    for verdict in [
        Verdict::Accepted,
        Verdict::Ambiguous,
        Verdict::Unanswered,
        Verdict::Unavailable,
        Verdict::Refused,
    ] {
        let all = evidence.submissions.values();
        let count = all.filter(|one| one.verdict == verdict).count();
        row(&format!("  {verdict:?}").to_lowercase(), count.to_string());
    }
    for (end, count) in ends(evidence) {
        row(&end, count.to_string());
    }
    let mut faults: BTreeMap<String, usize> = BTreeMap::new();
    for incident in &evidence.incidents {
        let kind = incident.target.split('-').next().unwrap_or_default();
        *faults.entry(format!("{:?} {kind}", incident.fault).to_lowercase()).or_default() += 1;
    }
    row("faults", evidence.incidents.len().to_string());
    for (fault, count) in faults {
        row(&format!("  {fault}"), count.to_string());
    }
    let visits: usize = evidence.visits.values().map(Vec::len).sum();
    row("page requests", visits.to_string());
    let polls: u64 = evidence.submissions.values().map(|one| one.polls.answered).sum();
    row("polls answered", polls.to_string());
    row("longest time to a final status", format!("{:.1} s", longest(evidence).as_secs_f64()));
    row("differences", differences.len().to_string());
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:width$} | {value}");
        text
    })
}

/// Counts records by their outcome.
fn ends(evidence: &Evidence) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for (name, records) in &evidence.records {
        let Some(submission) = evidence.submissions.get(name) else {
            continue;
        };
        for record in records {
            let last = record.last();
            let expects_words = matches!(submission.plan.expected(), Expected::Words(_));
            let end = match &last.job {
                None => "  rolled back".to_owned(),
                Some(_) if Evidence::is_orphan(submission, record) => {
                    "  never queued, ended by the sweeper".to_owned()
                }
                Some(job)
                    if last.status() == "failed" && expects_words && has_used_all_attempts(job) =>
                {
                    "  failed: a fault in every attempt".to_owned()
                }
                Some(job) if last.status() == "failed" => {
                    format!("  failed: {}", job["failure"]["code"].as_str().unwrap_or_default())
                }
                Some(_) => format!("  {}", last.status()),
            };
            *ends.entry(end).or_default() += 1;
        }
    }
    let count = ends.values().sum();
    ends.insert(" records".to_owned(), count);
    ends
}

/// Returns the longest time from the creation of a job to its final status, without orphans.
fn longest(evidence: &Evidence) -> Duration {
    let promised = evidence.records.iter().flat_map(|(name, records)| {
        let submission = evidence.submissions.get(name);
        let is_orphan = move |record: &&Record| {
            submission.is_some_and(|submission| Evidence::is_orphan(submission, record))
        };
        records.iter().filter(move |record| !is_orphan(record))
    });
    let jobs = promised.filter_map(|one| one.last().job.as_ref());
    jobs.filter_map(|job| time(&job["finished_at"])?.duration_since(time(&job["created_at"])?).ok())
        .max()
        .unwrap_or_default()
}

/// Prints the differences, and the history of the first affected submissions.
pub fn print_differences(
    evidence: &Evidence,
    differences: &[Difference],
    outputs: &[(String, String)],
) {
    for difference in differences.iter().take(LISTED_MAX) {
        println!("DIFFERENCE {difference}");
    }
    let mut names: Vec<&String> = Vec::new();
    for name in differences.iter().filter_map(|difference| difference.name.as_ref()) {
        if !names.contains(&name) && names.len() < HISTORIES_MAX {
            names.push(name);
            println!("{}", history(evidence, name, outputs));
        }
    }
}

fn history(evidence: &Evidence, name: &str, outputs: &[(String, String)]) -> String {
    let mut text = format!("\n=== history of {name} ===\n");
    let submission = &evidence.submissions[name];
    let plan = &submission.plan;
    let _ = writeln!(text, "{:?}, {} lane, delay {:?}", plan.kind, plan.lane, plan.delay);
    let _ = writeln!(text, "sent {}", clock(submission.sent));
    let _ = writeln!(text, "{:?}: {:?}", submission.verdict, submission.answers);
    let _ = writeln!(text, "cancel {:?}, {:?}", submission.cancel, submission.polls);
    let mut ids: Vec<String> = submission.ids.iter().cloned().collect();
    let mut last = submission.sent;
    for record in evidence.records.get(name).into_iter().flatten() {
        ids.push(record.id.clone());
        for revision in &record.revisions {
            last = last.max(revision.stored);
            let mut job = revision.job.clone().unwrap_or_default();
            for long in ["result", "top_words", "totals_by_rule"] {
                if let Some(job) = job.as_object_mut() {
                    job.remove(long);
                }
            }
            let number = revision.number;
            let stored = clock(revision.stored);
            let _ = writeln!(text, "{} r{number} {stored} {job}", record.id);
        }
    }
    for visit in evidence.visits.get(name).into_iter().flatten() {
        last = last.max(*visit);
        let _ = writeln!(text, "page requested {}", clock(*visit));
    }
    for incident in evidence.incidents.iter().filter(|one| one.overlaps(submission.sent, last)) {
        let end = incident.end.map_or_else(String::new, clock);
        let begin = clock(incident.begin);
        let target = &incident.target;
        let _ = writeln!(text, "{:?} {target} {begin} to {end}", incident.fault);
    }
    ids.dedup();
    for (process, output) in outputs {
        let lines = output.lines().filter(|line| ids.iter().any(|id| line.contains(id.as_str())));
        for line in lines.take(LINES_MAX) {
            let _ = writeln!(text, "{process}: {line}");
        }
    }
    text
}

/// Formats the time of day, in UTC.
fn clock(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let day = since.as_secs() % 86_400;
    let hours = day / 3600;
    let minutes = day / 60 % 60;
    let seconds = day % 60;
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}", since.subsec_millis())
}
