//! Outcomes of jobs: small and large results, further attempts, dead letters, crashes, expiry.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

fn attempts(job: &Value) -> &Vec<Value> {
    job["attempts"].as_array().expect("attempts")
}

#[test]
fn a_histogram_too_large_for_the_record_is_complete() {
    let stack = Stack::start();
    let words: Vec<String> = (0..12_000).map(|n| format!("word{n:05}")).collect();
    let job_id = stack.client().submit(&json!({"text": words.join(" ")}));
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_eq!(job["totals"]["unique_words"], 12_000, "{}", job["totals"]);
    assert_eq!(job["top_words"].as_array().expect("top words").len(), 20);
    let admin = Admin::connect(&stack.nats);
    assert!(admin.message_count("OBJ_results") >= 2, "chunks and their metadata");
    let result = stack.client().result(&job_id);
    let counted = result["word_count"].as_object().expect("a histogram");
    assert_eq!(counted.keys().collect::<BTreeSet<_>>(), words.iter().collect::<BTreeSet<_>>());
    let top = stack.client().get(&format!("/v1/jobs/{job_id}/result?top=3")).json();
    assert_eq!(top["word_count"], json!({"word00000": 1, "word00001": 1, "word00002": 1}));
}

#[test]
fn only_transient_failures_are_retried() {
    let stack = Stack::start();
    let site = Site::start();
    let busy = site.put("/busy", Page::status("503 Service Unavailable"));
    let missing = site.put("/missing", Page::status("404 Not Found"));
    let image = site.put("/image", Page::new("image/png", b"\x89PNG\r\n\x1a\n".to_vec()));

    let busy = stack.client().wait_until_final(&stack.client().submit_url(&busy), LIMIT);
    assert_eq!(busy["failure"]["code"], "fetch_http_5xx", "{busy}");
    assert_eq!(attempts(&busy).len(), 3, "{busy}");
    assert_eq!(site.hits("/busy"), 3, "{busy}");
    assert!(attempts(&busy).iter().all(|one| one["failure"]["code"] == "fetch_http_5xx"));
    assert_eq!(busy["dead_lettered"], true, "{busy}");

    let missing = stack.client().wait_until_final(&stack.client().submit_url(&missing), LIMIT);
    assert_eq!(missing["failure"]["code"], "fetch_http_4xx", "{missing}");
    assert_eq!(attempts(&missing).len(), 1, "{missing}");
    assert_eq!(missing["dead_lettered"], false, "{missing}");

    let image = stack.client().wait_until_final(&stack.client().submit_url(&image), LIMIT);
    assert_eq!(image["failure"]["code"], "unsupported_format", "{image}");
    let path = format!("/v1/jobs/{}/result", image["job_id"].as_str().expect("an id"));
    let problem = stack.client().get(&path).expect_problem(409, "job_failed");
    assert_eq!(problem["failure"]["code"], "unsupported_format", "{problem}");

    let admin = Admin::connect(&stack.nats);
    admin.wait_until_idle();
    assert_eq!(admin.message_count("DEAD_JOBS"), 1);
    let id = busy["job_id"].as_str().expect("an id");
    let (message, headers) = admin
        .last_message("DEAD_JOBS", &format!("dead.interactive.public.{id}"))
        .expect("the dead letter");
    let message: Value = serde_json::from_str(&message).expect("JSON");
    assert_eq!(message["source"]["kind"], "url", "{message}");
    assert!(headers.contains(&("Wordmill-Failure-Code".into(), "fetch_http_5xx".into())));
    assert!(headers.contains(&("Wordmill-Attempts".into(), "3".into())));
}

#[test]
fn a_job_succeeds_after_its_host_recovers() {
    let stack = Stack::with(1, 1, &[("WORDMILL_RETRY_BASE", "1s")]);
    let site = Site::start();
    let url = site.put("/soon", Page::status("502 Bad Gateway"));
    let job_id = stack.client().submit_url(&url);
    let waiting = wait_for("the job waits for its second attempt", LIMIT, || {
        let job = stack.client().get(&format!("/v1/jobs/{job_id}")).json();
        job["next_attempt_at"].is_string().then_some(job)
    });
    assert_eq!(waiting["status"], "queued", "{waiting}");
    site.put("/soon", Page::new("text/plain", "here I am"));
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_fields(&job, json!({"status": "succeeded"}));
    assert_eq!(attempts(&job).len(), 2, "{job}");
    assert_eq!(attempts(&job)[1]["failure"], Value::Null, "{job}");
}

#[test]
fn a_job_whose_worker_is_killed_runs_on_another() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    admin.set_ack_wait(Duration::from_secs(3));
    let site = Site::start();
    let slow = Page::new("text/plain", "two words").after(Duration::from_secs(30));
    let job_id = stack.client().submit_url(&site.put("/page", slow));
    let mut first = Worker::start(&stack.nats.address(), &[]);
    let path = format!("/v1/jobs/{job_id}");
    wait_for("the job runs", LIMIT, || {
        (stack.client().get(&path).json()["status"] == "running").then_some(())
    });
    first.process.kill();
    site.put("/page", Page::new("text/plain", "two words"));
    let second = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&second.health);
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_eq!(job["totals"]["words"], 2, "{job}");
    assert_eq!(attempts(&job).len(), 2, "{job}");
    assert_eq!(attempts(&job)[0]["failure"]["code"], "worker_crashed", "{job}");
    admin.wait_until_idle();
}

#[test]
fn an_unreadable_message_becomes_a_dead_letter() {
    let stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    admin.publish("jobs.bulk.public.nonsense", "not a job");
    admin.publish("jobs.interactive.public.nothing", r#"{"format":1}"#);
    admin.wait_until_idle();
    wait_for("both are dead letters", LIMIT, || {
        (admin.message_count("DEAD_JOBS") == 2).then_some(())
    });
    let (payload, headers) =
        admin.last_message("DEAD_JOBS", "dead.bulk.unreadable.*").expect("the dead letter");
    assert_eq!(payload, "not a job");
    assert!(headers.iter().any(|(name, _)| name == "Wordmill-Failure-Detail"), "{headers:?}");
}

#[test]
fn expired_and_unknown_jobs_have_different_errors() {
    let stack = Stack::with(1, 1, &[("WORDMILL_RESULT_TTL", "1s")]);
    let job_id = stack.client().submit(&json!({"text": "soon gone"}));
    stack.client().wait_until_final(&job_id, LIMIT);
    let path = format!("/v1/jobs/{job_id}");
    let gone = wait_for("the record expires", LIMIT, || {
        let answer = stack.client().get(&path);
        (answer.status != 200).then_some(answer)
    });
    gone.expect_problem(410, "result_expired");
    stack.client().get(&format!("{path}/result")).expect_problem(410, "result_expired");
}
