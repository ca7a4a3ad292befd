//! Deletion and expiry of jobs: a deleted or expired job is not run, and is reported as gone.

use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

const UNKNOWN: &str = "/v1/jobs/0198f0c2-0000-7000-8000-000000000000";

fn delete(client: &Client, path: &str) -> wordmill_tests::client::Answer {
    client.send("DELETE", path, &[], b"")
}

/// Returns the time to live of the record's last revision.
fn record_ttl(admin: &Admin, job_id: &str) -> Option<String> {
    let (_, headers) =
        admin.last_message("KV_job_state", &format!("$KV.job_state.public.{job_id}"))?;
    headers.into_iter().find(|(name, _)| name == "Nats-TTL").map(|(_, value)| value)
}

/// Marks a queued job as cancelled by rewriting its record, without the gateway. The record gets
/// this time to live.
fn cancel_behind_gateway(admin: &Admin, job_id: &str, ttl: &str) {
    let subject = format!("$KV.job_state.public.{job_id}");
    let (record, _) = admin.last_message("KV_job_state", &subject).expect("the record");
    let mut record: Value = serde_json::from_str(&record).expect("JSON");
    assert_eq!(record["status"], "queued", "{record}");
    record["status"] = json!("cancelled");
    record["finished_at"] = record["created_at"].clone();
    admin.publish_with(&subject, &record.to_string(), &[("Nats-TTL", ttl)]);
}

#[test]
fn a_deleted_job_is_gone_with_its_result() {
    let stack = Stack::start();
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let words: Vec<String> = (0..12_000).map(|n| format!("word{n:05}")).collect();
    let large = client.submit(&json!({"text": words.join(" ")}));
    let small = client.submit(&json!({"text": "a b"}));
    for id in [&large, &small] {
        client.wait_until_final(id, LIMIT);
    }
    admin.wait_until_idle();
    assert!(admin.message_count("OBJ_results") >= 2);
    for id in [&large, &small] {
        let path = format!("/v1/jobs/{id}");
        let answer = delete(client, &path);
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(answer.text, "", "{answer:?}");
        delete(client, &path).expect_problem(410, "result_expired");
        client.get(&path).expect_problem(410, "result_expired");
        client.get(&format!("{path}/result")).expect_problem(410, "result_expired");
        let tombstone_ttl = record_ttl(&admin, id).expect("the tombstone expires");
        assert_eq!(tombstone_ttl, (30 * 24 * 3600).to_string(), "in 30 days");
    }
    assert_eq!(admin.message_count("OBJ_results"), 0, "all chunks of the result are removed");
    delete(client, UNKNOWN).expect_problem(404, "job_not_found");
    delete(client, "/v1/jobs/17").expect_problem(400, "invalid_job_id");
}

#[test]
fn only_finished_jobs_are_deleted() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let site = Site::start();
    let slow = Page::new("text/plain", "two words").after(Duration::from_secs(3));
    let job_id = client.submit_url(&site.put("/slow", slow));
    let path = format!("/v1/jobs/{job_id}");
    let problem = delete(client, &path).expect_problem(409, "job_not_finished");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("queued")), "{problem}");
    let _worker = Worker::start(&stack.nats.address(), &[]);
    wait_for("the job runs", LIMIT, || {
        (client.get(&path).json()["status"] == "running").then_some(())
    });
    delete(client, &path).expect_problem(409, "job_not_finished");
    assert_eq!(client.wait_until_final(&job_id, LIMIT)["totals"]["words"], 2);
    assert_eq!(delete(client, &path).status, 204);
}

#[test]
fn a_cancelled_job_is_not_run_even_if_its_record_is_gone() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let page = |path: &str| site.put(path, Page::new("text/plain", "not to be read"));
    let [unexpired, deleted, expired] =
        ["/kept", "/deleted", "/expired"].map(|path| client.submit_url(&page(path)));
    cancel_behind_gateway(&admin, &unexpired, "1h");
    cancel_behind_gateway(&admin, &deleted, "1h");
    cancel_behind_gateway(&admin, &expired, "1s");
    assert_eq!(delete(client, &format!("/v1/jobs/{deleted}")).status, 204);
    wait_for("the record expires", LIMIT, || {
        (client.get(&format!("/v1/jobs/{expired}")).status != 200).then_some(())
    });
    assert_eq!(admin.message_count("JOBS"), 3, "the messages are still queued");
    for id in [&deleted, &expired] {
        client.get(&format!("/v1/jobs/{id}")).expect_problem(410, "result_expired");
        client.get(&format!("/v1/jobs/{id}/result")).expect_problem(410, "result_expired");
        delete(client, &format!("/v1/jobs/{id}")).expect_problem(410, "result_expired");
    }
    client.get(UNKNOWN).expect_problem(404, "job_not_found");

    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    admin.wait_until_idle();
    assert_eq!(site.connections(), 0, "no job was run");
    assert_eq!(client.get(&format!("/v1/jobs/{unexpired}")).json()["status"], "cancelled");
    for id in [&deleted, &expired] {
        client.get(&format!("/v1/jobs/{id}")).expect_problem(410, "result_expired");
    }
}

#[test]
fn only_final_revisions_and_their_large_results_expire() {
    let mut stack = Stack::with(1, 0, &[("WORDMILL_RESULT_TTL", "2s")]);
    let client = stack.gateways[0].client.clone();
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let words: Vec<String> = (0..12_000).map(|n| format!("word{n:05}")).collect();
    let slow = Page::new("text/plain", words.join(" ")).after(Duration::from_secs(1));
    let good = client.submit_url(&site.put("/slow", slow));
    let url =
        site.put("/busy", Page::status("503 Service Unavailable").header("Retry-After", "600"));
    let retried = client.submit_url(&url);
    let failed = client.submit_url(&site.put("/missing", Page::status("404 Not Found")));
    for id in [&good, &retried, &failed] {
        assert_eq!(record_ttl(&admin, id), None, "queued");
    }
    let settings = [("WORDMILL_RESULT_TTL", "2s")];
    stack.workers.push(Worker::start(&stack.nats.address(), &settings));
    let status = |id: &str, wanted: &str, ttl_expected: &str| {
        wait_for(&format!("a revision with status {wanted}"), LIMIT, || {
            let subject = format!("$KV.job_state.public.{id}");
            let (record, headers) = admin.last_message("KV_job_state", &subject)?;
            let record: Value = serde_json::from_str(&record).ok()?;
            let is_written =
                record["status"] == wanted && !record["attempts"].as_array()?.is_empty();
            let ttl = headers.into_iter().find(|(name, _)| name == "Nats-TTL");
            is_written.then(|| {
                assert_eq!(ttl.map(|(_, ttl)| ttl).unwrap_or_default(), ttl_expected, "{wanted}")
            })
        });
    };
    status(&failed, "failed", "2");
    status(&good, "running", "");
    status(&good, "succeeded", "2");
    status(&retried, "queued", "");
    let objects = admin.message_count("OBJ_results");
    assert!(objects >= 2);
    for id in [&good, &failed] {
        let path = format!("/v1/jobs/{id}");
        let gone = wait_for("the record expires", LIMIT, || {
            let answer = client.get(&path);
            (answer.status != 200).then_some(answer)
        });
        gone.expect_problem(410, "result_expired");
        client.get(&format!("{path}/result")).expect_problem(410, "result_expired");
    }
    assert_eq!(admin.message_count("OBJ_results"), objects, "objects outlive records");
    let job = client.get(&format!("/v1/jobs/{retried}")).json();
    assert_eq!(job["status"], "queued", "an unfinished job does not expire: {job}");
}
