//! Further attempts of a job: their times, their number, and their effect on other jobs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::site::{Page, Site, closed_port};
use wordmill_tests::stack::Stack;
use wordmill_tests::{LIMIT, wait_for};

/// Returns the time of day of a timestamp, in milliseconds since midnight.
fn milliseconds(time: &Value) -> i64 {
    let text = time.as_str().expect("a time");
    let clock = text.split('T').nth(1).expect("a time of day").trim_end_matches('Z');
    let mut parts = clock.split(':').map(|part| part.parse::<f64>().expect("a number"));
    let mut part = || parts.next().expect("hours, minutes, seconds");
    let seconds = part() * 3600.0 + part() * 60.0 + part();
    (seconds * 1000.0).round() as i64
}

/// Returns the milliseconds from one timestamp to a later one, less than a day after it.
fn milliseconds_between(earlier: &Value, later: &Value) -> i64 {
    (milliseconds(later) - milliseconds(earlier)).rem_euclid(24 * 3600 * 1000)
}

fn wait_until_retry_is_scheduled(stack: &Stack, job_id: &str) -> Value {
    wait_for("the job waits for its next attempt", LIMIT, || {
        let job = stack.client().get(&format!("/v1/jobs/{job_id}")).json();
        job["next_attempt_at"].is_string().then_some(job)
    })
}

#[test]
fn a_servers_retry_after_is_honoured_and_clamped() {
    let stack = Stack::start();
    let site = Site::start();
    let busy = |status, after: &str| Page::status(status).header("Retry-After", after);
    // (status, Retry-After, minimum and maximum delay in milliseconds). The backoff is 50 ms.
    let cases = [
        ("429 Too Many Requests", "2", 2000, 2000),
        ("503 Service Unavailable", "2", 2000, 2000),
        ("503 Service Unavailable", "1000000", 3_600_000, 3_600_000),
        ("429 Too Many Requests", "Fri, 31 Dec 2100 23:59:59 GMT", 3_600_000, 3_600_000),
        ("503 Service Unavailable", "soon", 40, 60),
        ("503 Service Unavailable", "Fri, 31 Dec 2010 23:59:59 GMT", 40, 60),
    ];
    let mut jobs = Vec::new();
    for (n, (status, after, ..)) in cases.iter().enumerate() {
        jobs.push(stack.client().submit_url(&site.put(&format!("/{n}"), busy(status, after))));
    }
    for (n, (job_id, (_, after, min, max))) in jobs.iter().zip(cases).enumerate() {
        if max < 1000 {
            let job = stack.client().wait_until_final(job_id, LIMIT);
            let gap = milliseconds_between(
                &job["attempts"][0]["ended_at"],
                &job["attempts"][1]["started_at"],
            );
            assert!(gap >= min && gap < 1500, "{after:?} must be ignored: {gap}, {job}");
            continue;
        }
        let job = wait_until_retry_is_scheduled(&stack, job_id);
        assert_eq!(job["status"], "queued", "{job}");
        let wait = milliseconds_between(&job["attempts"][0]["ended_at"], &job["next_attempt_at"]);
        assert!((min..=max).contains(&wait), "{after:?}: {wait}, {job}");
        assert_eq!(site.hits(&format!("/{n}")), 1, "{after:?}");
        site.put(&format!("/{n}"), Page::new("text/plain", "now"));
    }
    for job_id in &jobs[..2] {
        let job = stack.client().wait_until_final(job_id, LIMIT);
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["next_attempt_at"], Value::Null, "{job}");
        let gap = milliseconds_between(
            &job["attempts"][0]["ended_at"],
            &job["attempts"][1]["started_at"],
        );
        assert!((1990..4000).contains(&gap), "{gap}: {job}");
    }
}

#[test]
fn a_succeeded_job_shows_its_failed_attempts() {
    let stack = Stack::with(1, 1, &[("WORDMILL_RETRY_BASE", "300ms")]);
    let site = Site::start();
    let url = site.put("/page", Page::status("502 Bad Gateway"));
    let job_id = stack.client().submit_url(&url);
    wait_for("the job has failed twice", LIMIT, || (site.hits("/page") == 2).then_some(()));
    site.put("/page", Page::new("text/plain", "third time lucky"));
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_fields(&job, json!({"status": "succeeded", "totals.words": 3}));
    assert_fields(&job, json!({"failure": null, "dead_lettered": false}));
    let attempts = job["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 3, "{job}");
    assert_eq!(site.hits("/page"), 3, "{job}");
    for (attempt, number) in attempts.iter().zip(1..) {
        assert_eq!(attempt["number"], number, "{job}");
        assert!(attempt["worker"].is_string() && attempt["ended_at"].is_string(), "{job}");
        let code = if number < 3 { json!("fetch_http_5xx") } else { Value::Null };
        assert_eq!(attempt["failure"]["code"], code, "{job}");
    }
    // Backoff of 300 ms and 1.2 s, with a jitter of one fifth.
    for (pair, min) in attempts.windows(2).zip([240, 960]) {
        let gap = milliseconds_between(&pair[0]["ended_at"], &pair[1]["started_at"]);
        assert!(gap >= min - 5, "{gap} < {min}: {job}");
    }
}

#[test]
fn jobs_waiting_for_an_unreachable_host_delay_no_others() {
    // More than 1,000, the default maximum of unacknowledged messages of a consumer.
    const DEAD: u64 = 2_000;
    let stack = Stack::with(1, 1, &[("WORDMILL_RETRY_BASE", "10m")]);
    let admin = Admin::connect(&stack.nats);
    let dead = closed_port();
    admin.publish_all((0..DEAD).map(|n| {
        let job_id = format!("0198f0c2-0000-7000-8000-{n:012x}");
        let message = json!({
            "format": 1, "job_id": job_id, "owner": "public", "lane": "bulk",
            "source": {"kind": "url", "url": dead}, "options": {}, "labels": {},
            "created_at": "2026-01-01T00:00:00Z", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        });
        (format!("jobs.bulk.public.{job_id}"), message.to_string())
    }));
    // An interactive job does not wait behind them while they fail for the first time.
    let quick = |lane: &str| {
        let started = Instant::now();
        let job_id = stack.client().submit(&json!({"text": "a b", "lane": lane}));
        assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["status"], "succeeded");
        started.elapsed()
    };
    assert!(quick("interactive") < Duration::from_secs(3));
    wait_for("all jobs wait for their next attempt", LIMIT, || {
        (admin.pending_and_unacknowledged("bulk") == (0, DEAD)).then_some(())
    });
    let job = stack.client().get("/v1/jobs/0198f0c2-0000-7000-8000-000000000000").json();
    assert_fields(&job, json!({"status": "queued", "attempts.0.failure.code": "fetch_connect"}));
    for lane in ["interactive", "bulk"] {
        let took = quick(lane);
        assert!(took < Duration::from_secs(3), "{lane}: {took:?}");
    }
    // The worker acknowledges a job only after it has stored the final record.
    wait_for("only the jobs of the unreachable host are left", LIMIT, || {
        (admin.pending_and_unacknowledged("bulk") == (0, DEAD)).then_some(())
    });
}
