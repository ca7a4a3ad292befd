use super::*;
use crate::failure::FailureCode;
use crate::message::JobMessage;
use crate::raw_json::RawJson;
use crate::source::Source;
use crate::warning::WarningCode;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn message() -> JobMessage {
    JobMessage {
        format: FORMAT,
        job_id: "0198f0c2-0000-7000-8000-000000000000".parse().unwrap(),
        owner: Owner::public(),
        lane: Lane::Interactive,
        source: Source::Text { text: "to be or not to be".to_owned() },
        options: Options::default(),
        labels: BTreeMap::new(),
        created_at: NOW,
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap(),
        fingerprint: None,
        retry_of: None,
        webhook: None,
        batch: None,
    }
}

fn run(n: u8) -> RunNonce {
    serde_json::from_str(&format!("\"00000000-0000-4000-8000-0000000000{n:02}\"")).unwrap()
}

fn started(n: u8) -> Event {
    Event::Started { run: run(n), worker: format!("worker-{n}") }
}

fn counted(n: u8) -> Event {
    counted_with(n, Warnings::new())
}

fn counted_with(n: u8, warnings: Warnings) -> Event {
    let count = Count {
        source: message().source.describe(),
        totals: Totals::default(),
        totals_by_rule: BTreeMap::new(),
        totals_by_scope: BTreeMap::new(),
        warnings,
        explanation: None,
        rule: Rule { name: "unicode".to_owned(), version: 1, unicode: "18.0".to_owned() },
        top_words: RawJson::from_value(&Vec::new()).unwrap(),
        result: ResultRef::Object { name: format!("result-{n}") },
        members: None,
    };
    Event::Counted { run: run(n), count: Box::new(count) }
}

fn failure() -> Failure {
    Failure::new(FailureCode::FetchTimeout, "Too slow.")
}

fn attempt_failed(n: u8) -> Event {
    Event::AttemptFailed { run: run(n), failure: failure(), next_attempt_at: NOW }
}

fn failed_for_good(n: u8) -> Event {
    Event::FailedForGood { run: run(n), failure: failure(), dead_lettered: true }
}

fn failed_without_run() -> Event {
    Event::FailedWithoutRun { failure: failure(), dead_lettered: true }
}

fn advanced(n: u8) -> Event {
    let progress = Progress { stage: Stage::Count.into(), done_bytes: 1, total_bytes: None };
    Event::Advanced { run: run(n), progress }
}

fn after(events: &[Event]) -> Job {
    let mut job = message().queued_job();
    for event in events {
        job.apply(event.clone(), NOW).unwrap();
    }
    job
}

fn members_checked() -> Event {
    Event::MembersChecked { members: BatchProgress::default(), next_check_at: NOW }
}

fn every_event(n: u8) -> [Event; 9] {
    [
        started(n),
        advanced(n),
        counted(n),
        attempt_failed(n),
        Event::Returned { run: run(n) },
        failed_for_good(n),
        failed_without_run(),
        Event::Cancelled,
        members_checked(),
    ]
}

#[test]
fn every_pair_of_status_and_event_is_decided() {
    use Status::{Cancelled, Failed, Queued, Running, Succeeded};

    let queued = after(&[]);
    let running = after(&[started(1)]);
    let no = None;
    // Columns: started, advanced, counted, attempt_failed, returned, failed_for_good,
    // failed_without_run, cancelled, members_checked.
    let table = [
        (
            &queued,
            1,
            [
                Some(Running),
                no,
                Some(Succeeded),
                no,
                no,
                no,
                Some(Failed),
                Some(Cancelled),
                Some(Queued),
            ],
        ),
        (
            &running,
            1,
            [
                Some(Running),
                Some(Running),
                Some(Succeeded),
                Some(Queued),
                Some(Queued),
                Some(Failed),
                Some(Failed),
                Some(Cancelled),
                no,
            ],
        ),
        // The run of another worker may take over the job or succeed. All its other events are
        // refused.
        (
            &running,
            2,
            [Some(Running), no, Some(Succeeded), no, no, no, Some(Failed), Some(Cancelled), no],
        ),
    ];
    for (job, run, expected) in table {
        for (event, expected) in every_event(run).into_iter().zip(expected) {
            let mut job = job.clone();
            let name = event.name();
            let outcome = job.apply(event, NOW).ok().map(|()| job.status);
            assert_eq!(outcome, expected, "{name} by run {run}");
        }
    }
}

#[test]
fn final_jobs_refuse_every_event() {
    for last in [counted(1), failed_for_good(1), Event::Cancelled] {
        let job = after(&[started(1), last]);
        assert!(job.status.is_final());
        for event in every_event(1) {
            let mut copy = job.clone();
            assert!(copy.apply(event, NOW).is_err());
            assert_eq!(copy, job);
        }
    }
}

#[test]
fn a_takeover_closes_the_open_attempt_as_crashed() {
    let job = after(&[started(1), started(2)]);
    assert_eq!(job.attempts.len(), 2);
    let first = &job.attempts[0];
    assert_eq!(first.failure.as_ref().unwrap().code, FailureCode::WorkerCrashed);
    assert_eq!(first.ended_at, Some(NOW));
    assert!(job.is_last_run(run(2)) && !job.is_last_run(run(1)));
}

#[test]
fn a_returned_run_does_not_count_as_an_attempt() {
    let job = after(&[started(1), Event::Returned { run: run(1) }]);
    assert_eq!((job.status, job.attempts.len()), (Status::Queued, 0));
}

#[test]
fn checking_batch_members_does_not_count_as_an_attempt() {
    let job = after(&[members_checked(), members_checked()]);
    assert_eq!((job.status, job.attempts.len()), (Status::Queued, 0));
    assert_eq!((job.members, job.next_attempt_at), (Some(BatchProgress::default()), Some(NOW)));
}

#[test]
fn a_late_result_is_recorded_for_the_run_that_produced_it() {
    let job = after(&[started(1), started(2), counted(1)]);
    assert_eq!(job.status, Status::Succeeded);
    assert_eq!(job.attempts[0].failure, None);
    assert_eq!(job.attempts[1].ended_at, Some(NOW));
}

#[test]
fn a_succeeded_record_has_the_warnings_of_the_count() {
    let mut warnings = Warnings::new();
    warnings.add(WarningCode::CharsetGuessed, 1, Some("koi8-r"));
    let record = serde_json::to_value(after(&[counted_with(1, warnings)])).unwrap();
    let expected = serde_json::json!([{"code": "charset_guessed", "count": 1, "where": "koi8-r"}]);
    assert_eq!(record["warnings"], expected);
}

#[test]
fn a_record_of_an_older_worker_has_no_warnings() {
    let record = serde_json::to_value(after(&[counted(1)])).unwrap();
    assert!(record.get("warnings").is_none());
    assert!(serde_json::from_value::<Job>(record).unwrap().warnings.is_empty());
}

/// Returns the compact form of pretty-printed JSON, as it is stored.
fn compact(pretty: &str) -> String {
    let lines = pretty.lines().map(|line| line.trim().replacen("\": ", "\":", 1));
    lines.collect()
}

#[test]
fn the_stored_format_is_fixed() {
    let mut job = after(&[started(1), attempt_failed(1), started(2), advanced(2)]);
    job.traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
    job.tracestate = TraceState::parse(["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"]);
    let json = serde_json::to_string(&job).unwrap();
    assert_eq!(json, compact(include_str!("../golden/record.json")));
    assert_eq!(serde_json::from_str::<Job>(&json).unwrap(), job);

    let message = serde_json::to_string_pretty(&message()).unwrap();
    assert_eq!(message, include_str!("../golden/message.json").trim_end());
}

/// Returns the golden record with some fields replaced.
fn golden_record_with(changes: &serde_json::Value) -> serde_json::Value {
    let mut record: serde_json::Value =
        serde_json::from_str(include_str!("../golden/record.json")).unwrap();
    record.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    record
}

#[test]
fn a_record_without_trace_state_has_no_such_field() {
    let mut older = golden_record_with(&serde_json::json!({}));
    older.as_object_mut().unwrap().remove("tracestate");
    let job: Job = serde_json::from_value(older.clone()).unwrap();
    assert_eq!(serde_json::to_value(&job).unwrap(), older);
    let context = job.trace_context().unwrap();
    assert_eq!(Some(context.parent), job.traceparent);
    assert!(context.state.is_empty());
}

#[test]
fn a_record_keeps_unknown_parts_as_written() {
    let failure = serde_json::json!({"code": "fetch_quic", "detail": "No.", "retryable": true});
    let mut attempts = golden_record_with(&serde_json::json!({}))["attempts"].clone();
    attempts[0]["failure"] = failure.clone();
    let newer = golden_record_with(&serde_json::json!({
        "options": {"rule": "unicode", "case": "lower", "stem": {"language": "en"}},
        "source": {"kind": "feed", "url": "https://example.org/"},
        "progress": {"stage": "unpack", "done_bytes": 1, "total_bytes": null},
        "attempts": attempts,
        "warnings": [{"code": "font_missing", "count": 1, "where": null}],
        "failure": failure,
    }));
    let job: Job = serde_json::from_value(newer.clone()).unwrap();
    assert_eq!(serde_json::to_value(&job).unwrap(), newer);
    assert!(job.options.read().is_err());
    assert_eq!(job.failure.unwrap().code.as_str(), "fetch_quic");
}

#[test]
fn an_unknown_status_refuses_every_event_and_cannot_be_serialized() {
    let newer = golden_record_with(&serde_json::json!({"status": "paused"}));
    let job: Job = serde_json::from_value(newer).unwrap();
    assert_eq!(job.status, Status::Unknown);
    assert!(!job.status.is_final());
    for event in [every_event(1), every_event(2)].into_iter().flatten() {
        let mut copy = job.clone();
        assert!(copy.apply(event, NOW).is_err());
        assert_eq!(copy, job);
    }
    serde_json::to_string(&job).unwrap_err();
    // A filter accepts known names only, and this variant has no name.
    serde_json::from_str::<Status>("\"unknown\"").unwrap_err();
    serde_json::from_str::<Status>("\"paused\"").unwrap_err();
}

#[test]
fn a_run_of_a_final_job_is_refused() {
    let mut job = message().queued_job();
    job.apply(started(1), NOW).unwrap();
    assert!(job.has_begun(run(1)) && !job.has_begun(run(2)));
    // Another run counts the source before the first one knows whether its start was written.
    job.apply(counted(2), NOW).unwrap();
    assert!(job.has_attempt_of(run(1)) && !job.has_begun(run(1)));
    assert!(job.apply(started(1), NOW).is_err());
}
