//! A mixed load: jobs that stay queued, succeed, fail, need several attempts, become dead letters,
//! are cancelled, lose their message, or are submitted twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::admin::Admin;
use crate::client::Client;
use crate::receiver::Receiver;
use crate::site::{Page, Site};
use crate::stack::Stack;
use crate::{LIMIT, wait_for};

/// Trace id of the job that is submitted with a trace context, the only bulk job that succeeds.
pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Settings with which the load finishes within seconds.
pub const SETTINGS: &[(&str, &str)] = &[
    ("WORDMILL_ATTEMPTS", "2"),
    ("WORDMILL_RETRY_BASE", "50ms"),
    ("WORDMILL_SWEEP_INTERVAL", "200ms"),
    ("WORDMILL_SWEEP_GRACE", "3s"),
    ("WORDMILL_WEBHOOK_SECRETS", "0123456789abcdef0123456789abcdef"),
];

/// Submits two interactive jobs and a traced bulk job, which stay queued without a worker, and
/// returns their ids. Submits two more bulk jobs: one is cancelled, the other loses its message.
pub fn submit_queued_jobs(stack: &Stack) -> Vec<String> {
    let client = stack.client();
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let bulk = json!({"text": "and tea for all", "lane": "bulk"});
    let traced = client.send("POST", "/v1/jobs", &headers, bulk.to_string().as_bytes());
    assert_eq!(traced.status, 202, "{traced:?}");
    let mut waiting = vec![traced.json()["job_id"].as_str().expect("a job id").to_owned()];
    waiting
        .extend(["tea for two", "two for tea"].map(|text| client.submit(&json!({"text": text}))));
    let bulk = || client.submit(&bulk);
    let cancelled = bulk();
    let lost = bulk();
    let answer = client.post(&format!("/v1/jobs/{cancelled}/cancel"), &json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    Admin::connect(&stack.nats).remove_message("JOBS", &format!("jobs.bulk.public.{lost}"));
    waiting
}

/// Submits interactive jobs to running workers, waits until they are final, and returns their ids:
/// one succeeds at its second attempt, one fails with `fetch_http_4xx`, one becomes a dead letter,
/// and one has a webhook and an idempotency key and is submitted twice. Also requests an unknown
/// job.
pub fn run_mixed_jobs(client: &Client) -> Vec<String> {
    let site = Site::start();
    let requests = AtomicUsize::new(0);
    site.handle(move |path, _| match path {
        "/flaky" if requests.fetch_add(1, Ordering::Relaxed) > 0 => {
            Page::new("text/plain", "better")
        }
        "/absent" => Page::status("404 Not Found"),
        _ => Page::status("500 Internal Server Error"),
    });
    let mut jobs: Vec<String> =
        ["/flaky", "/absent", "/broken"].map(|path| client.submit_url(&site.url(path))).into();
    let receiver = Receiver::start();
    let once = json!({"text": "once", "webhook": {"url": receiver.url("/")}}).to_string();
    // The URL of the receiver also serves as an idempotency key, because it differs at each call.
    let key = receiver.url("/");
    let named = || {
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        client.send("POST", "/v1/jobs", &headers, once.as_bytes()).json()
    };
    jobs.push(named()["job_id"].as_str().expect("a job id").to_owned());
    let ends: Vec<_> = jobs.iter().map(|job| client.wait_until_final(job, LIMIT)).collect();
    assert_eq!(named()["job_id"], jobs[3], "a repeated request returns the same job");
    wait_for("the webhook is delivered", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{}", jobs[3])).json();
        (job["webhook"]["status"] == "delivered").then_some(())
    });
    let outcomes = ends.iter().map(|job| (&job["status"], &job["dead_lettered"]));
    let [succeeded, failed] = [json!("succeeded"), json!("failed")];
    let [yes, no] = [json!(true), json!(false)];
    let expected = [(&succeeded, &no), (&failed, &no), (&failed, &yes), (&succeeded, &no)];
    assert!(outcomes.eq(expected), "{ends:?}");
    let unknown = client.get("/v1/jobs/0198f0c2-0000-7000-8000-00000000dead");
    unknown.expect_problem(404, "job_not_found");
    jobs
}
