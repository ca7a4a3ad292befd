//! Races between two services that process the same job. A proxy delays one of them at the critical
//! moment.

use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::{Proxy, Rule};
use wordmill_tests::site::Page;
use wordmill_tests::{LIMIT, wait_for};

/// Starts two gateways, each behind its own proxy to the broker.
fn start(settings: &[(&str, &str)]) -> ProxiedStack {
    ProxiedStack::start(Proxied::Gateways(2), settings)
}

/// Submits a job to the first gateway and drops its message, as if the gateway had crashed after
/// creating the record.
fn submit_without_message(stack: &ProxiedStack, body: &Value) -> String {
    let handle = stack.proxies[0].add_rule(Rule::discard("jobs."));
    let problem = submit_named(stack.client(), body).expect_problem(503, "broker_unavailable");
    handle.end();
    assert!(handle.count() > 0);
    assert_eq!(stack.admin.message_count("JOBS"), 0);
    problem["job_id"].as_str().expect("an id").to_owned()
}

fn submit_named(client: &Client, body: &Value) -> Answer {
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    client.send("POST", "/v1/jobs", &headers, body.to_string().as_bytes())
}

fn require_accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["job_id"].as_str().expect("an id").to_owned()
}

#[test]
fn two_gateways_that_repair_one_job_publish_one_message() {
    let stack = start(&[]);
    let body = json!({"text": "a b"});
    let job_id = submit_without_message(&stack, &body);
    let subject = format!("jobs.interactive.public.{job_id}");
    // In the first round the job's own message id is unused. In the second round the stream still
    // deduplicates it, although its message is removed, so the gateways publish with another id.
    for publishing in [format!("public.{job_id}"), format!("public.{job_id}.again")] {
        let rule = || Rule::hold("jobs.").containing(&format!("Nats-Msg-Id: {publishing}\r\n"));
        let held_messages = [0, 1].map(|n: usize| stack.proxies[n].add_rule(rule()));
        std::thread::scope(|scope| {
            let repeats = [0, 1].map(|n| {
                let client = &stack.gateways[n].client;
                let body = &body;
                scope.spawn(move || submit_named(client, body))
            });
            wait_for("both gateways are about to publish", LIMIT, || {
                held_messages.iter().all(|handle| handle.count() > 0).then_some(())
            });
            stack.proxies.iter().for_each(Proxy::release);
            for repeat in repeats {
                // On a busy machine the request may time out before the proxy releases its message.
                let answer = repeat.join().expect("an answer");
                assert!(matches!(answer.status, 202 | 503), "{answer:?}");
                assert_eq!(answer.json()["job_id"], job_id.as_str(), "{answer:?}");
            }
        });
        assert_eq!(require_accepted(&submit_named(stack.client(), &body)), job_id);
        assert_eq!(stack.admin.message_count("JOBS"), 1, "{publishing}");
        stack.admin.remove_message("JOBS", &subject);
    }
}

/// Waits until the deduplication window of all current message ids has passed.
fn wait_until_message_ids_expire(admin: &Admin) {
    let first = "jobs.probe.public.first";
    let second = "jobs.probe.public.second";
    let publish = |subject| admin.publish_with(subject, "", &[("Nats-Msg-Id", "probe")]);
    publish(first);
    let before = admin.last_sequence("JOBS");
    wait_for("a message id can be used again", LIMIT, || {
        publish(second);
        (admin.last_sequence("JOBS") > before).then_some(())
    });
    [first, second].iter().for_each(|subject| admin.remove_message("JOBS", subject));
}

#[test]
fn a_message_that_arrives_after_its_job_is_final_is_not_run() {
    let stack = start(&[]);
    stack.admin.reconfigure("JOBS", |config| {
        config.duplicate_window = Duration::from_millis(100);
    });
    let body = json!({"url": stack.site.put("/once", Page::new("text/plain", "only once"))});
    let held_messages = stack.proxies[0].add_rule(Rule::hold("jobs."));
    let problem = submit_named(stack.client(), &body).expect_problem(503, "broker_unavailable");
    assert!(held_messages.count() > 0);
    // Meanwhile the other gateway repairs the job, and a worker finishes it.
    let job_id = require_accepted(&submit_named(&stack.gateways[1].client, &body));
    assert_eq!(problem["job_id"], job_id.as_str());
    let _worker = stack.start_direct_worker(&[]);
    let job = stack.gateways[1].client.wait_until_final(&job_id, LIMIT);
    stack.admin.wait_until_idle();
    let path = format!("/v1/jobs/{job_id}");
    let etag = stack.gateways[1].client.get(&path).header("etag").map(str::to_owned);

    wait_until_message_ids_expire(&stack.admin);
    let records = stack.admin.message_count("KV_job_state");
    let before = stack.admin.last_sequence("JOBS");
    stack.proxies[0].release();
    wait_for("the stream stores the late message", LIMIT, || {
        (stack.admin.last_sequence("JOBS") > before).then_some(())
    });
    stack.admin.wait_until_idle();
    let late = stack.gateways[1].client.get(&path);
    assert_eq!(late.json(), job);
    assert_eq!(late.header("etag"), etag.as_deref());
    assert_eq!(stack.admin.message_count("KV_job_state"), records);
    assert_eq!(stack.site.hits("/once"), 1);
}

#[test]
fn the_sweeper_does_not_end_a_job_that_a_repeated_request_enqueues() {
    let sweeper = [("WORDMILL_SWEEP_INTERVAL", "200ms"), ("WORDMILL_SWEEP_GRACE", "3s")];
    let stack = start(&sweeper);
    // Delays the sweeper, on either gateway, when it is about to fail the job.
    let lost = || Rule::hold("$KV.job_state.").containing(r#""code":"lost""#);
    let held_messages = [0, 1].map(|n: usize| stack.proxies[n].add_rule(lost()));
    let body = json!({"text": "a b"});
    let job_id = submit_without_message(&stack, &body);
    wait_for("the sweeper is about to fail the job", LIMIT, || {
        held_messages.iter().any(|handle| handle.count() > 0).then_some(())
    });
    assert_eq!(require_accepted(&submit_named(stack.client(), &body)), job_id);
    stack.proxies.iter().for_each(Proxy::release);
    let _worker = stack.start_direct_worker(&[]);
    assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["totals"]["words"], 2);
    stack.admin.wait_until_idle();
}

#[test]
fn a_job_cancelled_while_a_delivery_reads_it_gets_no_result() {
    let stack = start(&[]);
    let site = &stack.site;
    let client = &stack.gateways[1].client;
    // The worker receives an outdated record, as from a lagging replica.
    let held_messages =
        stack.proxies[0].add_rule(Rule::hold_answers("$JS.API.DIRECT.GET.KV_job_state."));
    let _worker = stack.start_proxied_worker(&[]);
    let page = site.put("/page", Page::new("text/plain", "a b"));
    let job_id = client.submit_url(&page);
    wait_for("the record is read", LIMIT, || (held_messages.count() > 0).then_some(()));
    let path = format!("/v1/jobs/{job_id}");
    let cancelled = client.send("POST", &format!("{path}/cancel"), &[], &[]);
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    stack.proxies[0].release();
    stack.admin.wait_until_idle();
    let now = client.get(&path);
    assert_eq!(now.json(), cancelled.json());
    assert_eq!(now.header("etag"), cancelled.header("etag"));
}
