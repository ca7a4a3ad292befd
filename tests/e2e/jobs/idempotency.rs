//! Jobs with an idempotency key or an id of the client: a repeated request starts no second job.

use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

const NAMED: &str = "0198f0c2-0000-7000-8000-00000000abcd";

fn post_with_key(client: &Client, key: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.send("POST", "/v1/jobs", &headers, body.to_string().as_bytes())
}

fn put_job(client: &Client, id: &str, body: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    client.send("PUT", &format!("/v1/jobs/{id}"), &headers, body.to_string().as_bytes())
}

fn require_accepted(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{answer:?}");
    let id = answer.json()["job_id"].as_str().expect("a job id").to_owned();
    assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{id}").as_str()), "{answer:?}");
    assert_eq!(answer.header("retry-after").is_some(), status == 202, "{answer:?}");
    id
}

#[test]
fn a_repeated_request_returns_the_same_job_and_another_body_is_refused() {
    let stack = Stack::with(2, 0, &[]);
    let client = stack.client();
    let other = &stack.gateways[1].client;
    let admin = Admin::connect(&stack.nats);
    let body = json!({"text": "a b", "labels": {"x": "y"}, "options": {"rule": "unicode"}});
    // A request with explicit defaults is the same as one that omits them.
    let same = json!({"lane": "interactive", "labels": {"x": "y"}, "text": "a b"});

    let job_id = require_accepted(&post_with_key(client, "k1", &body), 202);
    assert_eq!(require_accepted(&post_with_key(other, "\"k1\"", &same), 202), job_id);
    assert_eq!(require_accepted(&put_job(client, NAMED, &body), 202), NAMED);
    assert_eq!(require_accepted(&put_job(other, NAMED, &same), 202), NAMED);
    assert_ne!(require_accepted(&post_with_key(client, "k2", &body), 202), job_id);
    assert_eq!(admin.message_count("JOBS"), 3);

    for different in [
        json!({"text": "a c", "labels": {"x": "y"}}),
        json!({"text": "a b"}),
        json!({"text": "a b", "labels": {"x": "y"}, "lane": "bulk"}),
    ] {
        post_with_key(client, "k1", &different).expect_problem(422, "idempotency_key_reused");
        put_job(client, NAMED, &different).expect_problem(422, "idempotency_key_reused");
    }
    // A `PUT` with the id of a job that was submitted without one is refused.
    let plain = client.submit(&json!({"text": "a b"}));
    put_job(client, &plain, &json!({"text": "a b"})).expect_problem(422, "idempotency_key_reused");
    for key in ["", "\"\"", "a b", "\"a", &"k".repeat(256)] {
        post_with_key(client, key, &body).expect_problem(400, "invalid_idempotency_key");
    }
    put_job(client, "17", &body).expect_problem(400, "invalid_job_id");
    assert_eq!(admin.message_count("JOBS"), 4);
}

#[test]
fn concurrent_submissions_with_one_key_create_one_job() {
    let stack = Stack::with(2, 0, &[]);
    for round in 0..5 {
        let key = format!("round-{round}");
        let ids: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let client = &stack.gateways[n % 2].client;
                    let key = &key;
                    scope.spawn(move || {
                        require_accepted(&post_with_key(client, key, &json!({"text": "a"})), 202)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("an answer")).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(Admin::connect(&stack.nats).message_count("JOBS"), round + 1);
    }
}

#[test]
fn a_repeated_request_repairs_a_record_without_message() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let body = json!({"text": "to be or not to be"});
    let job_id = require_accepted(&post_with_key(stack.client(), "k", &body), 202);
    let subject = format!("jobs.interactive.public.{job_id}");
    let (message, _) = admin.last_message("JOBS", &subject).expect("the message");

    // In the first round the stream still deduplicates the id of the removed message. In the second
    // round its deduplication window has passed.
    for window in [Duration::from_secs(120), Duration::from_millis(100)] {
        admin.reconfigure("JOBS", |config| config.duplicate_window = window);
        admin.remove_message("JOBS", &subject);
        assert_eq!(admin.message_count("JOBS"), 0);
        wait_for("the repeated request publishes the job again", LIMIT, || {
            let answer = post_with_key(stack.client(), "k", &body);
            // Both message ids are in use until the deduplication window has passed.
            if answer.status == 503 {
                assert_eq!(answer.json()["job_id"], job_id.as_str(), "{answer:?}");
                return None;
            }
            assert_eq!(require_accepted(&answer, 202), job_id);
            (admin.message_count("JOBS") == 1).then_some(())
        });
        assert_eq!(admin.last_message("JOBS", &subject).expect("the message").0, message);
    }
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["totals"]["words"], 6);
    admin.wait_until_idle();
}

#[test]
fn nothing_runs_twice_after_a_broker_restart() {
    let mut stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    admin.reconfigure("JOBS", |config| config.duplicate_window = Duration::from_millis(100));
    let site = Site::start();
    let body = json!({"url": site.put("/once", Page::new("text/plain", "only once"))});
    let job_id = require_accepted(&post_with_key(stack.client(), "k", &body), 202);
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    admin.wait_until_idle();

    stack.nats.process.kill();
    stack.nats.restart();
    let repeated = wait_for("the repeated request is answered", LIMIT, || {
        let answer = post_with_key(stack.client(), "k", &body);
        (answer.status != 503).then_some(answer)
    });
    assert_eq!(require_accepted(&repeated, 200), job_id);
    assert_eq!(repeated.json(), job);
    assert_eq!(Admin::connect(&stack.nats).message_count("JOBS"), 0);
    assert_eq!(site.hits("/once"), 1);
}

#[test]
fn a_refused_job_can_be_repeated_and_an_expired_one_cannot() {
    let stack = Stack::with(1, 0, &[("WORDMILL_RESULT_TTL", "1s")]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    admin.reconfigure("JOBS", |config| config.max_messages = 1);
    client.submit(&json!({"text": "first"}));
    let body = json!({"text": "a b c"});
    for _ in 0..2 {
        post_with_key(client, "k", &body).expect_problem(503, "queue_full");
        put_job(client, NAMED, &body).expect_problem(503, "queue_full");
    }
    client.get(&format!("/v1/jobs/{NAMED}")).expect_problem(404, "job_not_found");

    admin.reconfigure("JOBS", |config| config.max_messages = 10);
    let job_id = require_accepted(&post_with_key(client, "k", &body), 202);
    assert_eq!(require_accepted(&put_job(client, NAMED, &body), 202), NAMED);
    let worker = Worker::start(&stack.nats.address(), &[("WORDMILL_RESULT_TTL", "1s")]);
    wait_until_ready(&worker.health);
    for (id, path) in [(&job_id, "a"), (&NAMED.to_owned(), "b")] {
        wait_for(&format!("job {path} expires"), LIMIT, || {
            (client.get(&format!("/v1/jobs/{id}")).status == 410).then_some(())
        });
    }
    post_with_key(client, "k", &body).expect_problem(410, "result_expired");
    put_job(client, NAMED, &body).expect_problem(410, "result_expired");
    admin.wait_until_idle();
}

#[test]
fn a_repeated_request_settles_an_unconfirmed_job() {
    let stack = ProxiedStack::start(Proxied::Gateways(1), &[]);
    let client = stack.client();
    let admin = &stack.admin;

    // The record is stored but its acknowledgement is lost, so the message was not published.
    stack.proxy().mute();
    let body = json!({"text": "to be or not to be"});
    let problem = post_with_key(client, "k", &body).expect_problem(503, "broker_unavailable");
    let job_id = problem["job_id"].as_str().expect("the id").to_owned();
    assert_eq!(admin.message_count("KV_job_state"), 1);
    assert_eq!(admin.message_count("JOBS"), 0);

    stack.proxy().restore();
    wait_until_ready(client);
    assert_eq!(require_accepted(&post_with_key(client, "k", &body), 202), job_id);
    assert_eq!(admin.message_count("JOBS"), 1);
}
