//! The rows of the submission table in docs/reliability.md. They are forced by different or missing
//! answers of the broker to the two writes of a submission, the message and the record. The other
//! rows are tested in `outages` and `jobs::idempotency`.

use serde_json::{Value, json};
use wordmill_tests::admin::StoredMessage;
use wordmill_tests::assertions::{array_length, assert_answer, assert_fields};
use wordmill_tests::client::Client;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::{Forward, Rule};
use wordmill_tests::stack::Worker;
use wordmill_tests::{LIMIT, wait_for};

const JOBS: &str = "jobs.";
const RECORDS: &str = "$KV.job_state.";
/// The server's answer while another write of the same subject is in flight to the replicas.
const WRITE_IN_FLIGHT: &str =
    r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#;
/// An error that leaves open whether the message was stored.
const UNKNOWN_OUTCOME: &str =
    r#"{"error":{"code":500,"err_code":10158,"description":"unknown outcome"}}"#;

/// Starts a gateway behind a proxy, and no worker.
fn start() -> ProxiedStack {
    ProxiedStack::start(Proxied::Gateways(1), &[])
}

fn assert_queued(stack: &ProxiedStack, job_id: &str) {
    let job = stack.client().get(&format!("/v1/jobs/{job_id}"));
    assert_answer(&job, 200, json!({"status": "queued"}));
}

/// Starts a worker and asserts that each job succeeds in one attempt.
fn assert_all_done_in_one_attempt(stack: &ProxiedStack, ids: &[String]) {
    let _worker = Worker::start(&stack.nats.address(), &[]);
    for job_id in ids {
        let job = stack.client().wait_until_final(job_id, LIMIT);
        assert_eq!(job["totals"]["words"], 2, "{job}");
        assert_eq!(array_length(&job["attempts"]), 1, "{job}");
    }
    stack.admin.wait_until_idle();
}

fn newest_record(stack: &ProxiedStack) -> StoredMessage {
    stack.admin.all_messages("KV_job_state").pop().expect("a record or a tombstone")
}

fn two_words() -> Value {
    json!({"text": "a b"})
}

#[test]
fn a_worker_may_write_the_record_before_the_gateway() {
    let stack = start();
    let _worker = stack.start_direct_worker(&[]);
    let unconfirmed_count = || {
        stack.gateways[0].process.output().matches("the broker did not confirm a record").count()
    };
    // On a busy machine the record may be released too late to be refused. Then the round is
    // repeated.
    let refused = (0..10).any(|_| {
        let before = stack.admin.message_count("KV_job_state");
        let unconfirmed = unconfirmed_count();
        let held_messages = stack.proxy().add_rule(Rule::hold(RECORDS));
        let job_id = std::thread::scope(|scope| {
            let submitting = scope.spawn(|| stack.client().submit(&two_words()));
            wait_for("the worker has written the record", LIMIT, || {
                let written = stack.admin.message_count("KV_job_state") > before;
                (held_messages.count() == 1 && written).then_some(())
            });
            stack.proxy().release();
            submitting.join().expect("an id")
        });
        let job = stack.client().wait_until_final(&job_id, LIMIT);
        assert_fields(&job, json!({"status": "succeeded", "totals.words": 2}));
        assert_eq!(
            stack.admin.message_count("KV_job_state"),
            before + 1,
            "the gateway does not overwrite the record of the worker"
        );
        unconfirmed_count() == unconfirmed
    });
    assert!(refused, "the record was released too late in each round");
    stack.admin.wait_until_idle();
}

#[test]
fn a_job_is_accepted_despite_a_lost_or_unconfirmed_record() {
    let stack = start();
    let rules = [
        Rule::discard(RECORDS),
        Rule::discard_answers(RECORDS),
        Rule::answer(RECORDS, WRITE_IN_FLIGHT, Forward::No),
        Rule::answer(RECORDS, WRITE_IN_FLIGHT, Forward::Yes),
    ];
    let ids = rules.map(|rule| {
        let handle = stack.proxy().add_rule(rule);
        let job_id = stack.client().submit(&two_words());
        assert_eq!(handle.count(), 1);
        stack.proxy().release();
        assert_queued(&stack, &job_id);
        job_id
    });
    assert_eq!(stack.admin.message_count("JOBS"), 4);
    assert_eq!(stack.admin.message_count("KV_job_state"), 2);
    assert_all_done_in_one_attempt(&stack, &ids);
}

#[test]
fn a_waiting_submission_is_notified_of_the_final_record() {
    let stack = start();
    let _worker = stack.start_direct_worker(&[]);
    stack.proxy().add_rule(Rule::discard("$JS.API.DIRECT.GET."));
    let submit_and_wait = |fields: &[(&str, &str)]| {
        let json = ("content-type", "application/json");
        let headers = [&[json, ("prefer", "wait=60")], fields].concat();
        let body = two_words().to_string();
        let answer = stack.client().send("POST", "/v1/jobs", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("preference-applied"), Some("wait=60"));
        assert_eq!(answer.json()["totals"]["words"], 2, "{answer:?}");
    };
    submit_and_wait(&[]);
    submit_and_wait(&[("idempotency-key", "named")]);
    // The worker writes the record before the gateway knows the result of its own write.
    for lost in [Rule::discard(RECORDS), Rule::discard_answers(RECORDS)] {
        let handle = stack.proxy().add_rule(lost);
        submit_and_wait(&[]);
        assert_eq!(handle.count(), 1);
        handle.end();
    }
    stack.admin.wait_until_idle();
}

#[test]
fn a_job_too_large_for_the_queue_is_refused_and_rolled_back() {
    let stack = start();
    stack.admin.reconfigure("JOBS", |config| config.max_message_size = 2000);
    let refused = stack.client().post("/v1/jobs", &json!({"text": "word ".repeat(1000)}));
    let problem = refused.expect_problem(413, "input_too_large");
    assert!(problem.get("job_id").is_none(), "{problem}");
    assert_eq!(newest_record(&stack).payload, b"", "only a tombstone");
    assert_eq!(stack.admin.message_count("JOBS"), 0);
    let job_id = stack.client().submit(&two_words());
    assert_all_done_in_one_attempt(&stack, &[job_id]);
}

#[test]
fn the_record_of_a_refused_job_is_rolled_back_or_swept() {
    let sweeper = [("WORDMILL_SWEEP_INTERVAL", "200ms"), ("WORDMILL_SWEEP_GRACE", "3s")];
    let stack = ProxiedStack::start(Proxied::Gateways(1), &sweeper);
    stack.admin.reconfigure("JOBS", |config| config.max_messages = 1);
    stack.client().submit(&two_words());
    let refuse = |rule| {
        let handle = stack.proxy().add_rule(rule);
        stack.client().post("/v1/jobs", &two_words()).expect_problem(503, "queue_full");
        assert_eq!(handle.count(), 1);
        stack.proxy().release();
        newest_record(&stack)
    };
    // The record was written, but the write was not confirmed.
    assert_eq!(refuse(Rule::discard_answers(RECORDS).times(1)).payload, b"", "only a tombstone");
    // The record was not written, so there is nothing to roll back.
    let before = stack.admin.message_count("KV_job_state");
    refuse(Rule::discard(RECORDS).times(1));
    assert_eq!(stack.admin.message_count("KV_job_state"), before);
    // The rollback fails, so the sweeper ends the job.
    let left = refuse(Rule::discard(RECORDS).containing("KV-Operation"));
    let job_id = left.subject.rsplit('.').next().expect("an id");
    let job = stack.client().wait_until_final(job_id, LIMIT);
    assert_eq!(job["failure"]["code"], "lost", "{job}");
}

#[test]
fn a_refusal_after_an_unconfirmed_publish_leaves_the_outcome_open() {
    let stack = start();
    stack.admin.reconfigure("JOBS", |config| config.max_messages = 1);
    stack.client().submit(&two_words());
    // The first publish may have been stored before the queue was full.
    let handle = stack.proxy().add_rule(Rule::discard(JOBS).times(1));
    let answer = stack.client().post("/v1/jobs", &two_words());
    let problem = answer.expect_problem(503, "broker_unavailable");
    assert_eq!(handle.count(), 1);
    assert_queued(&stack, problem["job_id"].as_str().expect("the id of the unconfirmed job"));
}

#[test]
fn an_unconfirmed_message_is_sent_again_and_stored_once() {
    let stack = start();
    let rules = [
        Rule::discard(JOBS),
        Rule::discard_answers(JOBS),
        Rule::answer(JOBS, UNKNOWN_OUTCOME, Forward::No),
        Rule::answer(JOBS, UNKNOWN_OUTCOME, Forward::Yes),
    ];
    let ids = rules.map(|rule| {
        let handle = stack.proxy().add_rule(rule.times(1));
        let job_id = stack.client().submit(&two_words());
        assert_eq!(handle.count(), 1);
        stack.proxy().release();
        job_id
    });
    assert_eq!(stack.admin.message_count("JOBS"), 4);
    assert_eq!(stack.admin.message_count("KV_job_state"), 4);
    assert_all_done_in_one_attempt(&stack, &ids);
}

fn submit_named(client: &Client, key: &str) -> wordmill_tests::client::Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    client.send("POST", "/v1/jobs", &headers, two_words().to_string().as_bytes())
}

#[test]
fn a_job_with_a_key_is_recorded_once() {
    let stack = start();
    let rules = [
        Rule::discard(RECORDS),
        Rule::discard_answers(RECORDS),
        Rule::answer(RECORDS, WRITE_IN_FLIGHT, Forward::No),
        Rule::answer(RECORDS, WRITE_IN_FLIGHT, Forward::Yes),
    ];
    let mut ids = Vec::new();
    for (n, rule) in rules.into_iter().enumerate() {
        let handle = stack.proxy().add_rule(rule.times(1));
        let answer = submit_named(stack.client(), &format!("key-{n}"));
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(handle.count(), 1, "{answer:?}");
        stack.proxy().release();
        ids.push(answer.json()["job_id"].as_str().expect("an id").to_owned());
    }
    assert_eq!(stack.admin.message_count("JOBS"), 4);
    assert_eq!(stack.admin.message_count("KV_job_state"), 4);
    assert_all_done_in_one_attempt(&stack, &ids);
}

#[test]
fn a_full_queue_does_not_roll_back_an_unconfirmed_job() {
    let stack = start();
    stack.admin.reconfigure("JOBS", |config| config.max_messages = 1);
    stack.client().submit(&two_words());
    // The record exists. Whether the message is stored is unknown.
    let handle = stack.proxy().add_rule(Rule::discard(JOBS));
    let problem = submit_named(stack.client(), "k").expect_problem(503, "broker_unavailable");
    let job_id = problem["job_id"].as_str().expect("an id").to_owned();
    assert!(handle.count() > 0);
    stack.proxy().release();
    submit_named(stack.client(), "k").expect_problem(503, "queue_full");
    assert_queued(&stack, &job_id);
    stack.admin.reconfigure("JOBS", |config| config.max_messages = 10);
    assert_eq!(submit_named(stack.client(), "k").status, 202);
    assert_all_done_in_one_attempt(&stack, &[job_id]);
}
