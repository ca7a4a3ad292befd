//! A retry of a final job is a new job.

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{assert_answer, assert_fields};
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker};

fn send_retry(client: &Client, job_id: &str, headers: &[(&str, &str)]) -> Answer {
    client.send("POST", &format!("/v1/jobs/{job_id}/retry"), headers, &[])
}

/// Retries a job, asserts that the retry is accepted, and returns the id of the new job.
fn retry_job(client: &Client, job_id: &str, headers: &[(&str, &str)]) -> String {
    let answer = send_retry(client, job_id, headers);
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    let job = answer.json();
    assert_eq!(job["retry_of"], job_id, "{job}");
    let new = job["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.header("location"), Some(&*format!("/v1/jobs/{new}")));
    assert_ne!(new, job_id);
    new
}

#[test]
fn a_retry_of_a_page_has_the_same_options() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let url = site.put("/page", Page::status("404 Not Found"));
    let labels = json!({"book": "2600"});
    let failed = client.submit(&json!({"url": url, "labels": labels, "lane": "bulk"}));
    let old = client.wait_until_final(&failed, LIMIT);
    assert_fields(
        &old,
        json!({"status": "failed", "links.retry": format!("/v1/jobs/{failed}/retry")}),
    );

    site.put("/page", Page::new("text/plain", "now it is there"));
    let first = retry_job(client, &failed, &[]);
    let job = client.wait_until_final(&first, LIMIT);
    assert_fields(&job, json!({"status": "succeeded", "totals.words": 4}));
    assert_fields(&job, json!({"labels": labels, "lane": "bulk"}));
    assert_eq!(job["source"]["url"], url, "{job}");
    assert_ne!(job["trace_id"], old["trace_id"]);
    assert_eq!(client.get(&format!("/v1/jobs/{failed}")).json(), old, "the old job is unchanged");

    // A succeeded job can also be retried. Each retry creates a new job, unless it repeats an
    // idempotency key.
    let second = retry_job(client, &first, &[]);
    let third = retry_job(client, &first, &[]);
    assert_ne!(second, third);
    let named = [("idempotency-key", "once"), ("prefer", "wait=30")];
    let answers = [send_retry(client, &first, &named), send_retry(client, &first, &named)];
    for answer in &answers {
        assert_answer(answer, 200, json!({"status": "succeeded"}));
    }
    assert_eq!(answers[0].json()["job_id"], answers[1].json()["job_id"]);
    send_retry(client, &first, &[("idempotency-key", "")])
        .expect_problem(400, "invalid_idempotency_key");
}

#[test]
fn a_text_can_be_retried_only_while_it_is_stored() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let done = client.submit(&json!({"text": "a b c"}));
    client.wait_until_final(&done, LIMIT);
    admin.wait_until_idle();
    send_retry(client, &done, &[]).expect_problem(410, "source_gone");

    // A cancelled job whose message no worker has received yet.
    for lane in ["interactive", "bulk"] {
        admin.pause_consumer(lane, "2100-01-01T00:00:00Z");
    }
    let waiting = client.submit(&json!({"text": "a b c"}));
    send_retry(client, &waiting, &[]).expect_problem(409, "job_not_finished");
    client.send("POST", &format!("/v1/jobs/{waiting}/cancel"), &[], &[]);
    let new = retry_job(client, &waiting, &[]);
    for lane in ["interactive", "bulk"] {
        admin.pause_consumer(lane, "2000-01-01T00:00:00Z");
    }
    assert_eq!(client.wait_until_final(&new, LIMIT)["totals"]["words"], 3);
}

#[test]
fn a_dead_letter_keeps_the_text_of_its_job() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a b c"}));
    let (message, _) = admin
        .last_message("JOBS", &format!("jobs.interactive.public.{job_id}"))
        .expect("a message");
    // The state after a worker has dead-lettered the job.
    admin.publish(&format!("dead.interactive.public.{job_id}"), &message);
    admin.remove_message("JOBS", &format!("jobs.interactive.public.{job_id}"));
    client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    let new = retry_job(client, &job_id, &[]);
    let (message, _) =
        admin.last_message("JOBS", &format!("jobs.interactive.public.{new}")).expect("a message");
    let message: Value = serde_json::from_str(&message).expect("JSON");
    assert_fields(&message, json!({"source.text": "a b c", "retry_of": job_id}));

    // The dead letter of an earlier job with the same id is not used. The job is failed instead of
    // cancelled, because the sweeper removes the messages of cancelled jobs.
    admin.rewrite_record(&new, |record| record["status"] = json!("failed"));
    let mut other = message;
    other["created_at"] = json!("2020-01-01T00:00:00Z");
    admin.publish(&format!("dead.interactive.public.{new}"), &other.to_string());
    assert_eq!(retry_job(client, &new, &[]).len(), new.len(), "its own message is queued");
    admin.remove_message("JOBS", &format!("jobs.interactive.public.{new}"));
    send_retry(client, &new, &[]).expect_problem(410, "source_gone");
}

#[test]
fn a_failed_document_can_be_retried_while_its_dead_letter_is_stored() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let text = "a b c d ".repeat(128 << 10);
    let plain = [("content-type", "text/plain")];
    let answer = client.send("POST", "/v1/jobs", &plain, text.as_bytes());
    let job_id = answer.json()["job_id"].as_str().expect("a job id").to_owned();
    let subject = format!("interactive.public.{job_id}");
    let (message, _) = admin.last_message("JOBS", &format!("jobs.{subject}")).expect("a message");
    // The state after a worker has dead-lettered the job.
    admin.rewrite_record(&job_id, |record| {
        record["status"] = json!("failed");
        record["dead_lettered"] = json!(true);
        record["finished_at"] = record["created_at"].clone();
    });
    admin.publish(&format!("dead.{subject}"), &message);
    admin.remove_message("JOBS", &format!("jobs.{subject}"));

    let new = retry_job(client, &job_id, &[]);
    let (copy, _) =
        admin.last_message("JOBS", &format!("jobs.interactive.public.{new}")).expect("a message");
    let object = |message: &str| {
        let message: Value = serde_json::from_str(message).expect("JSON");
        message["source"]["content"]["object"].as_str().expect("an object").to_owned()
    };
    assert_ne!(object(&copy), object(&message), "each job has its own document");
    let _worker = Worker::start(&stack.nats.address(), &[]);
    assert_eq!(client.wait_until_final(&new, LIMIT)["totals"]["words"], 4 * (128 << 10));

    // Deleting the dead letter deletes its document.
    let letter = format!("/v1/dead-letters/{job_id}");
    assert_eq!(client.send("DELETE", &letter, &[], &[]).status, 204);
    send_retry(client, &job_id, &[]).expect_problem(410, "source_gone");
}

#[test]
fn a_document_that_can_never_be_counted_is_not_stored() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let bytes = [("content-type", "application/octet-stream")];
    let answer = client.send("POST", "/v1/jobs", &bytes, b"%PDF-1.7 \x00\x01\x02");
    let job_id = answer.json()["job_id"].as_str().expect("a job id").to_owned();
    let job = client.wait_until_final(&job_id, LIMIT);
    assert_eq!(job["failure"]["code"], "unsupported_format", "{job}");
    admin.wait_until_idle();
    send_retry(client, &job_id, &[]).expect_problem(410, "source_gone");
}

#[test]
fn unknown_and_expired_jobs_cannot_be_retried() {
    let stack = Stack::start();
    let client = stack.client();
    let unknown = "0198f0c2-0000-7000-8000-000000000000";
    send_retry(client, unknown, &[]).expect_problem(404, "job_not_found");
    send_retry(client, "nonsense", &[]).expect_problem(400, "invalid_job_id");
    client.get(&format!("/v1/jobs/{unknown}/retry")).expect_problem(405, "method_not_allowed");
    let job_id = client.submit(&json!({"text": "a"}));
    client.wait_until_final(&job_id, LIMIT);
    assert_eq!(client.send("DELETE", &format!("/v1/jobs/{job_id}"), &[], &[]).status, 204);
    send_retry(client, &job_id, &[]).expect_problem(410, "result_expired");
}
