//! A broker that stops, restarts, is full, or does not answer.

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Nats, Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

/// The documented maximum of 3 s, with a margin for busy machines.
const ANSWER_MAX: Duration = Duration::from_secs(4);

fn assert_unavailable(client: &Client) {
    let started = Instant::now();
    let submitted = client.post("/v1/jobs", &json!({"text": "a b"}));
    submitted.expect_problem(503, "broker_unavailable");
    assert!(started.elapsed() < ANSWER_MAX, "{:?}", started.elapsed());

    let started = Instant::now();
    let polled = client.get("/v1/jobs/0198f0c2-0000-7000-8000-000000000000");
    polled.expect_problem(503, "broker_unavailable");
    assert!(started.elapsed() < ANSWER_MAX, "{:?}", started.elapsed());
}

fn waiting_reason(client: &Client) -> String {
    let answer = client.get("/readyz");
    assert_eq!(answer.status, 503, "{answer:?}");
    let body = answer.json();
    let reason = if body["reason"].is_string() { &body["reason"] } else { &body["detail"] };
    reason.as_str().expect("a reason").to_owned()
}

fn assert_counts_text(client: &Client) {
    let job_id = client.submit(&json!({"text": "a b"}));
    let job = client.wait_until_final(&job_id, LIMIT);
    assert_eq!(job["totals"]["words"], 2, "{job}");
}

#[test]
fn services_wait_for_a_broker_and_for_its_provisioning() {
    let directory = TempDir::new().expect("a directory");
    let mut nats = Nats::start(directory.path());
    nats.process.stop();
    let gateway = Gateway::start(&nats.address(), &[]);
    let worker = Worker::start(&nats.address(), &[]);
    for client in [&gateway.client, &worker.health] {
        assert!(waiting_reason(client).contains("no connection"), "{}", waiting_reason(client));
        assert_eq!(client.get("/livez").status, 200);
    }
    assert_unavailable(&gateway.client);

    nats.restart();
    for client in [&gateway.client, &worker.health] {
        wait_for("the services report the missing streams", LIMIT, || {
            waiting_reason(client).contains("run wordmill-nats provision").then_some(())
        });
    }
    nats.provision(&[]);
    wait_until_ready(&gateway.client);
    wait_until_ready(&worker.health);
    assert_counts_text(&gateway.client);
}

#[test]
fn a_broker_crash_only_delays_jobs() {
    let mut stack = Stack::start();
    let site = Site::start();
    let slow = Page::new("text/plain", "slow but sure").after(Duration::from_secs(4));
    let job_id = stack.client().submit_url(&site.put("/slow", slow));
    wait_for("the page is requested", LIMIT, || (site.hits("/slow") > 0).then_some(()));

    stack.nats.process.kill();
    assert_unavailable(stack.client());
    wait_for("neither service is ready", LIMIT, || {
        (stack.client().get("/readyz").status == 503
            && stack.workers[0].health.get("/readyz").status == 503)
            .then_some(())
    });
    stack.nats.restart();
    wait_until_ready(stack.client());
    wait_until_ready(&stack.workers[0].health);
    assert_counts_text(stack.client());
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_eq!(job["totals"]["words"], 3, "{job}");
    Admin::connect(&stack.nats).wait_until_idle();
}

#[test]
fn an_unconfirmed_submission_returns_the_id_of_the_job() {
    let stack = ProxiedStack::start(Proxied::Gateways(1), &[]);
    let client = stack.client();

    stack.proxy().mute();
    let started = Instant::now();
    let answer = client.post("/v1/jobs", &json!({"text": "to be or not to be"}));
    assert!(started.elapsed() < ANSWER_MAX, "{:?}", started.elapsed());
    let problem = answer.expect_problem(503, "broker_unavailable");
    let job_id = problem["job_id"].as_str().expect("the id of the unconfirmed job").to_owned();

    stack.proxy().restore();
    wait_until_ready(client);
    let job = client.get(&format!("/v1/jobs/{job_id}"));
    assert_eq!(job.json()["status"], "queued", "{job:?}");
    // The message is stored once, regardless of the number of retries.
    assert_eq!(stack.admin.message_count("JOBS"), 1);

    let _worker = Worker::start(&stack.nats.address(), &[]);
    assert_eq!(client.wait_until_final(&job_id, LIMIT)["totals"]["words"], 6);
}

#[test]
fn a_cut_connection_is_restored() {
    let stack = ProxiedStack::start(Proxied::Gateways(1), &[]);
    let client = stack.client();
    let _worker = stack.start_proxied_worker(&[]);
    assert_counts_text(client);

    stack.proxy().cut();
    assert_unavailable(client);
    stack.proxy().restore();
    wait_until_ready(client);
    assert_counts_text(client);
}

#[test]
fn a_full_queue_refuses_jobs_and_leaves_nothing_behind() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    admin.reconfigure("JOBS", |config| config.max_messages = 2);
    let accepted: Vec<String> =
        (0..2).map(|_| stack.client().submit(&json!({"text": "a"}))).collect();
    let records = admin.message_count("KV_job_state");
    for _ in 0..3 {
        let refused = stack.client().post("/v1/jobs", &json!({"text": "a"}));
        let problem = refused.expect_problem(503, "queue_full");
        assert!(problem.get("job_id").is_none(), "{problem}");
    }
    // Polls still work. Refused jobs leave only tombstones, which expire.
    for job_id in &accepted {
        let job = stack.client().get(&format!("/v1/jobs/{job_id}"));
        assert_eq!(job.json()["status"], "queued", "{job:?}");
    }
    assert_eq!(admin.message_count("JOBS"), 2);
    assert_eq!(admin.message_count("KV_job_state"), records + 3);

    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    for job_id in &accepted {
        assert_eq!(stack.client().wait_until_final(job_id, LIMIT)["status"], "succeeded");
    }
    admin.wait_until_idle();
    assert_counts_text(stack.client());
}

#[test]
fn a_deleted_queue_refuses_jobs() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    admin.delete_stream("JOBS");
    let refused = stack.client().post("/v1/jobs", &json!({"text": "a"}));
    let problem = refused.expect_problem(503, "broker_unavailable");
    assert!(problem.get("job_id").is_none(), "the job is definitely not queued: {problem}");
    stack.nats.provision(&[]);
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    assert_counts_text(stack.client());
}
