//! Webhooks during faults: hanging receivers, crashing workers, a full queue.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::Rule;
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::stack::{Stack, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

use crate::webhooks::delivery::{FAST_RETRIES, SECRET, get_webhook, wait_until_settled};

const BUSY: Reply = Reply::Status("503 Service Unavailable", "");
const OK: Reply = Reply::Status("204 No Content", "");
/// Settings with which a webhook waits longer than the test after two failed attempts.
const SLOW_RETRIES: [(&str, &str); 2] =
    [("WORDMILL_WEBHOOK_SECRETS", SECRET), ("WORDMILL_WEBHOOK_RETRY_MAX", "24h")];
/// Prefixes of the acknowledgement subjects of webhooks and of jobs.
const ACK: &str = "$JS.ACK.WEBHOOKS.";
const ACK_JOB: &str = "$JS.ACK.JOBS.";

/// Starts a gateway with a frequent sweeper, and a proxy for workers.
fn start() -> ProxiedStack {
    let sweeper = [("WORDMILL_SWEEP_INTERVAL", "200ms"), ("WORDMILL_SWEEP_GRACE", "3s")];
    let settings = [&FAST_RETRIES[..], &sweeper].concat();
    ProxiedStack::start(Proxied::Workers, &settings).with_ack_wait(Duration::from_secs(2))
}

fn submit_with_webhook(stack: &ProxiedStack, path: &str) -> String {
    let hook = json!({"url": stack.receiver.url(path)});
    stack.client().submit(&json!({"text": "a b", "webhook": hook}))
}

/// Waits until both queues are empty and returns the number of requests on a path.
fn count_requests_when_settled(stack: &ProxiedStack, path: &str) -> usize {
    stack.admin.wait_until_idle();
    wait_for("the webhook queue is empty", LIMIT, || {
        (stack.admin.message_count("WEBHOOKS") == 0).then_some(())
    });
    stack.receiver.requests(path).len()
}

fn attempt_count(webhook: &Value) -> usize {
    webhook["attempts"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_hanging_receiver_delays_neither_counting_nor_others() {
    let settings = [
        ("WORDMILL_WEBHOOK_SECRETS", SECRET),
        ("WORDMILL_WEBHOOK_SLOTS", "4"),
        ("WORDMILL_WEBHOOK_TIMEOUT", "60s"),
        ("WORDMILL_SLOTS", "2"),
        ("WORDMILL_SHUTDOWN_GRACE", "0s"),
    ];
    let stack = Stack::with(1, 1, &settings);
    let client = stack.client();
    // Slots are limited per host, regardless of the port.
    let dead = Receiver::start();
    let alive = Receiver::start_on("127.0.0.3:0");
    dead.set_replies("/hook", &[Reply::Hang]);
    let submit = |receiver: &Receiver| {
        client.submit(&json!({"text": "a b", "webhook": {"url": receiver.url("/hook")}}))
    };
    let hanging: Vec<String> = (0..30).map(|_| submit(&dead)).collect();
    dead.wait_for_requests("/hook", 2, LIMIT);
    let fine: Vec<String> = (0..10).map(|_| submit(&alive)).collect();
    for job_id in &fine {
        assert_eq!(wait_until_settled(client, job_id)["status"], "delivered");
    }
    for job_id in &hanging {
        assert_eq!(client.wait_until_final(job_id, LIMIT)["status"], "succeeded");
        assert_eq!(get_webhook(client, job_id)["status"], "waiting");
    }
    assert_eq!(alive.requests("/hook").len(), fine.len());
    assert_eq!(dead.requests("/hook").len(), 2, "a host gets at most half of the slots");
}

#[test]
fn a_webhook_survives_the_worker_that_enqueues_it() {
    let stack = start();
    for (path, rule) in [
        ("/not-ordered", Rule::discard("webhooks.")),
        ("/not-confirmed", Rule::discard_answers("webhooks.")),
        ("/not-acknowledged", Rule::discard(ACK_JOB).containing("+ACK")),
    ] {
        let handle = stack.proxy().add_rule(rule);
        // This worker has no secrets, so it delivers no webhooks itself.
        let mut first = stack.start_proxied_worker(&[]);
        let job_id = submit_with_webhook(&stack, path);
        wait_for("the fault takes effect", LIMIT, || (handle.count() > 0).then_some(()));
        first.process.kill();
        stack.proxy().release();
        let second = stack.start_direct_worker(&FAST_RETRIES);
        assert_eq!(wait_until_settled(stack.client(), &job_id)["status"], "delivered");
        assert_eq!(count_requests_when_settled(&stack, path), 1, "{path}");
        drop(second);
    }
}

#[test]
fn a_worker_crash_during_a_delivery_uses_one_attempt() {
    let stack = start();
    stack.receiver.set_replies("/hook", &[Reply::Hang, OK]);
    let mut first = stack
        .start_proxied_worker(&[&FAST_RETRIES[..], &[("WORDMILL_WEBHOOK_TIMEOUT", "2s")]].concat());
    let job_id = submit_with_webhook(&stack, "/hook");
    stack.receiver.wait_for_requests("/hook", 1, LIMIT);
    first.process.kill();
    let _second = stack.start_direct_worker(&FAST_RETRIES);
    let requests = stack.receiver.wait_for_requests("/hook", 2, LIMIT);
    let webhook = wait_until_settled(stack.client(), &job_id);
    assert_eq!(webhook["status"], "delivered", "{webhook}");
    assert_eq!(attempt_count(&webhook), 2, "{webhook}");
    assert_eq!(webhook["attempts"][0]["failure"]["code"], "worker_crashed", "{webhook}");
    assert!(requests.iter().all(|one| one.header("webhook-id") == job_id));
}

#[test]
fn a_resumed_worker_leaves_the_webhook_to_its_successor() {
    let stack = start();
    stack.receiver.set_replies("/hook", &[Reply::Hang, Reply::Hang, OK]);
    let timeout = |limit| [&FAST_RETRIES[..], &[("WORDMILL_WEBHOOK_TIMEOUT", limit)]].concat();
    let mut paused = stack.start_proxied_worker(&timeout("1s"));
    let job_id = submit_with_webhook(&stack, "/hook");
    stack.receiver.wait_for_requests("/hook", 1, LIMIT);
    paused.process.signal(Signal::STOP);
    // The message is redelivered, and the second worker begins an attempt.
    let _second = stack.start_direct_worker(&timeout("4s"));
    stack.receiver.wait_for_requests("/hook", 2, LIMIT);
    // The first attempt ends now. Its worker must not acknowledge the message of the second one.
    paused.process.signal(Signal::CONT);
    assert!(paused.process.stop().success());
    let webhook = wait_until_settled(stack.client(), &job_id);
    assert_fields(&webhook, json!({"status": "delivered"}));
    assert_eq!(attempt_count(&webhook), 3, "{webhook}");
}

#[test]
fn a_stopping_worker_withdraws_its_webhook_attempt() {
    let stack = start();
    stack.receiver.set_replies("/hook", &[Reply::Hang, OK]);
    let settings = [("WORDMILL_SHUTDOWN_GRACE", "0s"), ("WORDMILL_WEBHOOK_TIMEOUT", "60s")];
    let mut first = stack.start_proxied_worker(&[&FAST_RETRIES[..], &settings].concat());
    let job_id = submit_with_webhook(&stack, "/hook");
    stack.receiver.wait_for_requests("/hook", 1, LIMIT);
    assert!(first.process.stop().success());
    let webhook = get_webhook(stack.client(), &job_id);
    assert_fields(&webhook, json!({"status": "waiting"}));
    assert_eq!(attempt_count(&webhook), 0, "{webhook}");
    let _second = stack.start_direct_worker(&FAST_RETRIES);
    let webhook = wait_until_settled(stack.client(), &job_id);
    assert_fields(&webhook, json!({"status": "delivered"}));
    assert_eq!(attempt_count(&webhook), 1, "{webhook}");
}

#[test]
fn an_unconfirmed_delivery_is_not_repeated() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&FAST_RETRIES);
    let ends =
        Rule::discard_answers("$KV.webhook_state.").containing("\"under_way\":null").times(1);
    let handle = stack.proxy().add_rule(ends);
    let job_id = submit_with_webhook(&stack, "/hook");
    let webhook = wait_until_settled(stack.client(), &job_id);
    assert_fields(&webhook, json!({"status": "delivered"}));
    assert_eq!(attempt_count(&webhook), 1, "{webhook}");
    assert_eq!(count_requests_when_settled(&stack, "/hook"), 1);
    assert_eq!(handle.count(), 1);
}

#[test]
fn repeated_webhook_messages_deliver_a_webhook_once() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&SLOW_RETRIES);
    let job_id = submit_with_webhook(&stack, "/hook");
    let subject = format!("webhooks.public.{job_id}");
    let message = json!({"format": 1, "round": 0, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"});
    assert_eq!(wait_until_settled(stack.client(), &job_id)["status"], "delivered");
    // Without a message id the stream does not deduplicate, as after its deduplication window.
    for _ in 0..5 {
        stack.admin.publish(&subject, &message.to_string());
    }
    assert_eq!(count_requests_when_settled(&stack, "/hook"), 1);

    // The same holds while a webhook waits for its next attempt.
    stack.receiver.set_replies("/busy", &[BUSY]);
    let job_id = submit_with_webhook(&stack, "/busy");
    wait_for("the webhook waits for its third attempt", LIMIT, || {
        let webhook = get_webhook(stack.client(), &job_id);
        (attempt_count(&webhook) == 2 && webhook["attempts"][1]["status_code"] == 503).then_some(())
    });
    let returned = stack.proxy().add_rule(Rule::pass(ACK).containing("-NAK"));
    stack.admin.publish(&format!("webhooks.public.{job_id}"), &message.to_string());
    wait_for("the other message is returned", LIMIT, || (returned.count() > 0).then_some(()));
    assert_eq!(stack.receiver.requests("/busy").len(), 2);
    assert_eq!(attempt_count(&get_webhook(stack.client(), &job_id)), 2);

    // An invalid webhook message is dropped. One with a newer format stays queued. Neither delays
    // others.
    stack.admin.publish("webhooks.public.nonsense", "not a webhook message");
    stack.admin.publish("webhooks.public.newer", r#"{"format":99}"#);
    let unknown_job = "webhooks.public.0198f0c2-0000-7000-8000-000000000000";
    stack.admin.publish(unknown_job, &message.to_string());
    wait_for("three webhook messages are left", LIMIT, || {
        (stack.admin.message_count("WEBHOOKS") == 3).then_some(())
    });
}

#[test]
fn a_full_webhook_queue_delays_only_messages_of_jobs_with_webhooks() {
    let stack = start();
    stack.receiver.set_replies("/busy", &[BUSY]);
    let _worker = stack.start_proxied_worker(&SLOW_RETRIES);
    let first = submit_with_webhook(&stack, "/busy");
    stack.receiver.wait_for_requests("/busy", 1, LIMIT);
    stack.admin.reconfigure("WEBHOOKS", |config| config.max_messages = 1);
    let returned = stack.proxy().add_rule(Rule::pass(ACK_JOB).containing("-NAK"));
    let second = submit_with_webhook(&stack, "/hook");
    wait_for("the message is returned", LIMIT, || (returned.count() > 0).then_some(()));
    // The job still succeeds, and so do later ones.
    assert_eq!(stack.client().wait_until_final(&second, LIMIT)["status"], "succeeded");
    let other = stack.client().submit(&json!({"text": "a b c"}));
    assert_eq!(stack.client().wait_until_final(&other, LIMIT)["totals"]["words"], 3);
    assert!(stack.receiver.requests("/hook").is_empty());
    let path = format!("/v1/jobs/{second}/webhook");
    stack.client().send("POST", &path, &[], b"").expect_problem(503, "webhooks_full");
    assert_eq!(get_webhook(stack.client(), &second)["status"], "waiting");

    stack.admin.reconfigure("WEBHOOKS", |config| config.max_messages = 1000);
    assert_eq!(wait_until_settled(stack.client(), &second)["status"], "delivered");
    stack.admin.wait_until_idle();
    assert_eq!(stack.receiver.requests("/hook").len(), 1);
    assert_eq!(get_webhook(stack.client(), &first)["status"], "waiting");
}

#[test]
fn jobs_that_end_without_a_worker_have_webhooks() {
    let stack = start();
    let lost = submit_with_webhook(&stack, "/lost");
    let cancelled = submit_with_webhook(&stack, "/cancelled");
    stack.admin.remove_message("JOBS", &format!("jobs.interactive.public.{lost}"));
    let cancel = format!("/v1/jobs/{cancelled}/cancel");
    assert_eq!(stack.client().send("POST", &cancel, &[], b"").status, 200);
    let job = stack.client().wait_until_final(&lost, LIMIT);
    assert_eq!(job["failure"]["code"], "lost", "{job}");
    // The sweeper removes the message of the cancelled job.
    stack.admin.wait_until_idle();
    assert!(stack.receiver.requests("/lost").is_empty());
    let _worker = stack.start_direct_worker(&FAST_RETRIES);
    for (path, kind, job_id) in
        [("/lost", "job.failed", &lost), ("/cancelled", "job.cancelled", &cancelled)]
    {
        let request = stack.receiver.wait_for_requests(path, 1, LIMIT).remove(0).json();
        assert_fields(&request, json!({"type": kind, "data.job_id": job_id}));
        assert_eq!(wait_until_settled(stack.client(), job_id)["status"], "delivered");
        assert_eq!(count_requests_when_settled(&stack, path), 1);
    }
}

#[test]
fn webhooks_survive_a_restart_of_the_broker() {
    let settings = [("WORDMILL_WEBHOOK_SECRETS", SECRET), ("WORDMILL_WEBHOOK_RETRY_MAX", "3s")];
    let mut stack = Stack::with(1, 1, &settings);
    let receiver = Receiver::start();
    receiver.set_replies("/hook", &[BUSY, OK]);
    let hook = json!({"text": "a b", "webhook": {"url": receiver.url("/hook")}});
    let job_id = stack.client().submit(&hook);
    wait_for("the first attempt has ended", LIMIT, || {
        (get_webhook(stack.client(), &job_id)["attempts"][0]["status_code"] == 503).then_some(())
    });
    stack.nats.process.kill();
    stack.nats.restart();
    receiver.wait_for_requests("/hook", 2, LIMIT);
    wait_until_ready(stack.client());
    assert_eq!(wait_until_settled(stack.client(), &job_id)["status"], "delivered");
    // Webhooks of later jobs are also delivered.
    let job_id = stack.client().submit(&hook);
    assert_eq!(wait_until_settled(stack.client(), &job_id)["status"], "delivered");
}

#[test]
fn workers_without_secrets_leave_webhooks_to_others() {
    let stack = start();
    let _worker_without_secrets = stack.start_proxied_worker(&[]);
    let job_id = submit_with_webhook(&stack, "/hook");
    assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["status"], "succeeded");
    stack.admin.wait_until_idle();
    assert_eq!(stack.admin.message_count("WEBHOOKS"), 1);
    let _worker_with_secrets = stack.start_direct_worker(&FAST_RETRIES);
    assert_eq!(wait_until_settled(stack.client(), &job_id)["status"], "delivered");
    assert_eq!(count_requests_when_settled(&stack, "/hook"), 1);
}
