//! Cancellation: a job can be cancelled until it is final, and stays cancelled.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::admin::{Admin, job_message};
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

/// Number of slow rounds after which a timing test fails.
const TRIES_MAX: usize = 5;

fn try_cancel(client: &Client, job_id: &str) -> Answer {
    client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[])
}

/// Cancels a job, and asserts that this succeeds and that the job does not change afterwards.
fn cancel(client: &Client, job_id: &str) -> Answer {
    let answer = try_cancel(client, job_id);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["status"], "cancelled", "{answer:?}");
    assert!(answer.json()["finished_at"].is_string(), "{answer:?}");
    assert_unchanged(client, job_id, &answer);
    answer
}

/// Asserts that a cancelled job has not changed and has no result.
fn assert_unchanged(client: &Client, job_id: &str, cancelled: &Answer) {
    for now in [client.get(&format!("/v1/jobs/{job_id}")), try_cancel(client, job_id)] {
        assert_eq!(now.status, 200, "{now:?}");
        assert_eq!(now.json(), cancelled.json());
        assert_eq!(now.header("etag"), cancelled.header("etag"), "not written again");
    }
    client.get(&format!("/v1/jobs/{job_id}/result")).expect_problem(409, "job_cancelled");
}

fn wait_until_running(client: &Client, job_id: &str) {
    wait_for("the job runs", LIMIT, || {
        (client.get(&format!("/v1/jobs/{job_id}")).json()["status"] == "running").then_some(())
    });
}

#[test]
fn jobs_cancelled_while_workers_are_away_are_never_run() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let client = stack.client();
    let recorded = client.submit_url(&site.put("/page", Page::new("text/plain", "a b")));
    // A message without a record, as after a gateway crash between the two writes.
    let bare = "0198f0c2-0000-7000-8000-000000000001";
    let message = job_message("bulk", bare, "a b");
    admin.publish(&format!("jobs.bulk.public.{bare}"), &message);

    let job = client.get(&format!("/v1/jobs/{recorded}")).json();
    assert_eq!(job["links"]["cancel"], format!("/v1/jobs/{recorded}/cancel"), "{job}");
    let answers = [cancel(client, &recorded), cancel(client, bare)];
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    admin.wait_until_idle();
    for (job_id, answer) in [recorded.as_str(), bare].into_iter().zip(&answers) {
        assert_unchanged(client, job_id, answer);
        assert_eq!(answer.json()["attempts"], json!([]), "{answer:?}");
    }
    assert_eq!(site.hits("/page"), 0);
}

#[test]
fn a_cancelled_job_whose_record_has_expired_is_not_run() {
    // Without a sweeper, which would remove the message.
    let settings = [("WORDMILL_RESULT_TTL", "1s"), ("WORDMILL_NATS_SWEEPER_PASSWORD", "")];
    let stack = Stack::with(1, 0, &settings);
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let client = stack.client();
    let job_id = client.submit_url(&site.put("/page", Page::new("text/plain", "a b")));
    assert_eq!(try_cancel(client, &job_id).status, 200);
    let path = format!("/v1/jobs/{job_id}");
    wait_for("the record expires", LIMIT, || (client.get(&path).status != 200).then_some(()));
    assert_eq!(admin.message_count("JOBS"), 1, "the message is still queued");
    client.get(&path).expect_problem(410, "result_expired");
    try_cancel(client, &job_id).expect_problem(410, "result_expired");

    let worker = Worker::start(&stack.nats.address(), &[("WORDMILL_RESULT_TTL", "1s")]);
    wait_until_ready(&worker.health);
    admin.wait_until_idle();
    client.get(&path).expect_problem(410, "result_expired");
    assert_eq!(site.hits("/page"), 0);
}

#[test]
fn a_job_cancelled_between_attempts_is_not_run_again() {
    let stack = Stack::with(1, 1, &[("WORDMILL_RETRY_BASE", "2s")]);
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let client = stack.client();
    let job_id = client.submit_url(&site.put("/busy", Page::status("503 Service Unavailable")));
    wait_for("the job waits for its second attempt", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{job_id}")).json();
        job["next_attempt_at"].is_string().then_some(())
    });
    let cancelled = cancel(client, &job_id);
    assert_eq!(cancelled.json()["next_attempt_at"], Value::Null, "{cancelled:?}");
    admin.wait_until_idle();
    assert_unchanged(client, &job_id, &cancelled);
    assert_eq!(site.hits("/busy"), 1);
}

#[test]
fn cancelling_a_running_job_frees_its_worker_within_a_second() {
    // Each lane has one slot, so the second job starts when the first one has released it.
    let stack = Stack::with(1, 1, &[("WORDMILL_SLOTS", "2")]);
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let client = stack.client();
    let slow = || Page::new("text/plain", "slow").after(Duration::from_secs(30));
    let stuck = || Page::new("text/plain", "stuck in the middle").stalls_after(5);
    let free_after = |path: &str, page| {
        let job_id = client.submit_url(&site.put(path, page));
        wait_until_running(client, &job_id);
        let next = client.submit(&json!({"text": "a b c"}));
        let waiting = client.get(&format!("/v1/jobs/{next}")).json();
        assert_eq!(waiting["status"], "queued", "{waiting}");

        let started = Instant::now();
        let cancelled = cancel(client, &job_id);
        let attempts = cancelled.json()["attempts"].clone();
        assert!(attempts[0]["ended_at"].is_string() && attempts[1].is_null(), "{attempts}");
        client.wait_until_final(&next, LIMIT);
        let free_after = started.elapsed();
        admin.wait_until_idle();
        assert_unchanged(client, &job_id, &cancelled);
        assert_eq!(site.hits(path), 1);
        free_after
    };
    let pages: [(&str, &dyn Fn() -> Page); 2] = [("slow", &slow), ("stuck", &stuck)];
    for (name, page) in pages {
        // A busy machine may delay some rounds. If the worker missed the event, every round would
        // last until the worker reads the record again, 2 s after the start of the attempt.
        let times: Vec<Duration> = (0..TRIES_MAX)
            .map(|number| free_after(&format!("/{name}-{number}"), page()))
            .take_while(|free_after| *free_after >= Duration::from_secs(1))
            .collect();
        assert!(times.len() < TRIES_MAX, "{name}: {times:?}");
    }
}

#[test]
fn final_and_unknown_jobs_cannot_be_cancelled() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let good = client.submit(&json!({"text": "a b"}));
    let bad = client.submit_url(&site.url("/missing"));
    for (job_id, status) in [(good, "succeeded"), (bad, "failed")] {
        let job = client.wait_until_final(&job_id, LIMIT);
        let problem = try_cancel(client, &job_id).expect_problem(409, "already_finished");
        assert_eq!(problem["job_status"], status, "{problem}");
        assert_eq!(client.get(&format!("/v1/jobs/{job_id}")).json(), job);
    }
    let unknown = "0198f0c2-0000-7000-8000-000000000000";
    try_cancel(client, unknown).expect_problem(404, "job_not_found");
    try_cancel(client, "nonsense").expect_problem(400, "invalid_job_id");
    client.get(&format!("/v1/jobs/{unknown}/cancel")).expect_problem(405, "method_not_allowed");
}

#[test]
fn concurrent_cancellation_and_completion_have_one_winner() {
    let stack = Stack::start();
    let client = stack.client();
    let mut outcomes = [0, 0];
    for _ in 0..60 {
        let job_id = client.submit(&json!({"text": "to be or not to be"}));
        let answer = try_cancel(client, &job_id);
        let job = client.get(&format!("/v1/jobs/{job_id}")).json();
        let result = client.get(&format!("/v1/jobs/{job_id}/result"));
        if answer.status == 200 {
            outcomes[0] += 1;
            assert_eq!(job["status"], "cancelled", "{job}");
            result.expect_problem(409, "job_cancelled");
        } else {
            outcomes[1] += 1;
            answer.expect_problem(409, "already_finished");
            assert_fields(&job, json!({"status": "succeeded"}));
            assert_eq!(result.status, 200, "{job}");
        }
    }
    Admin::connect(&stack.nats).wait_until_idle();
    println!("{} cancelled, {} succeeded", outcomes[0], outcomes[1]);
}
