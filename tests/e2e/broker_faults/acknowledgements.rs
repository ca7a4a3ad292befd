//! Acknowledgements that the broker refuses or never receives. The operator is notified, and no job
//! is lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::{Direction, Rule};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{
    Gateway, Nats, Stack, Worker, shipped_configuration, wait_until_ready,
};
use wordmill_tests::{LIMIT, wait_for};

use crate::webhooks::delivery::{FAST_RETRIES, wait_until_settled};

/// Ack wait of most tests, short so that messages are redelivered soon.
const ACK_WAIT: Duration = Duration::from_secs(2);
/// The provisioned ack wait, long enough that no redelivery happens during a test.
const ACK_WAIT_LONG: Duration = Duration::from_secs(30);

/// Returns the number of acknowledgement checks of a queue with this outcome.
fn check_count(worker: &Worker, queue: &str, outcome: &str) -> f64 {
    let labels = [("queue", queue), ("outcome", outcome)];
    let metrics = Metrics::fetch(&worker.health);
    metrics.sum("wordmill_acknowledgement_checks_total", &labels).expect("a number")
}

/// Waits until the worker is not ready and returns the reason.
fn wait_until_unready(worker: &Worker) -> String {
    wait_for("the worker is not ready", LIMIT, || {
        let answer = worker.health.get("/readyz");
        if answer.status != 503 {
            return None;
        }
        let body = answer.json();
        assert_eq!(body["status"], "waiting", "{body}");
        Some(body["reason"].as_str().expect("a reason").to_owned())
    })
}

/// Submits a job and waits until it has succeeded.
fn run_job(client: &Client, text: &str) {
    let job_id = client.submit(&json!({"text": text}));
    assert_eq!(client.wait_until_final(&job_id, LIMIT)["status"], "succeeded");
}

/// Starts a worker behind a proxy, and a gateway with a direct connection to the broker. The
/// consumers' ack wait is `ack_wait`.
fn start(ack_wait: Duration, settings: &[(&str, &str)]) -> (Worker, ProxiedStack) {
    let stack = ProxiedStack::start(Proxied::Workers, settings).with_ack_wait(ack_wait);
    let worker = stack.start_proxied_worker(settings);
    (worker, stack)
}

/// Writes a configuration with acknowledgement subjects v2 in which only the administrator may
/// publish to acknowledgement subjects.
fn write_configuration_without_ack_rights(directory: &Path) -> PathBuf {
    let shipped = std::fs::read_to_string(shipped_configuration()).expect("the configuration");
    let others: Vec<&str> = shipped.lines().filter(|line| !line.contains("$JS.ACK.")).collect();
    assert!(others.len() < shipped.lines().count(), "there are rights to remove");
    let path = directory.join("without-acknowledgements.conf");
    let text = format!("{}\nfeature_flags {{ js_ack_fc_v2: true }}\n", others.join("\n"));
    std::fs::write(&path, text).expect("a file");
    path
}

#[test]
fn refused_acknowledgements_make_the_worker_unready() {
    let directory = TempDir::new().expect("a directory");
    let store = TempDir::new().expect("a second directory");
    let refusing = write_configuration_without_ack_rights(directory.path());
    let mut nats = Nats::start_configured(store.path(), &refusing, Vec::new());
    nats.provision(&[]);
    let admin = Admin::connect(&nats);
    admin.set_ack_wait(ACK_WAIT);
    let gateway = Gateway::start(&nats.address(), &[]);
    let mut worker = Worker::start(&nats.address(), &[]);
    wait_until_ready(&gateway.client);
    wait_until_ready(&worker.health);

    run_job(&gateway.client, "tea for two");
    let reason = wait_until_unready(&worker);
    assert!(reason.contains("acknowledgements of JOBS"), "{reason}");
    assert!(reason.contains("Permissions Violation"), "{reason}");
    assert!(reason.contains("$JS.ACK."), "{reason}");
    assert_eq!(check_count(&worker, "jobs", "confirmed"), 0.0);
    // Each redelivery repeats the check, so the worker is unready as long as the fault lasts.
    wait_for("another check fails", LIMIT, || {
        (check_count(&worker, "jobs", "unconfirmed") >= 2.0).then_some(())
    });
    assert_eq!(worker.health.get("/readyz").status, 503);
    assert_eq!(admin.message_count("JOBS"), 1);

    nats.process.stop();
    nats.restart_configured(&shipped_configuration());
    admin.wait_until_idle();
    wait_for("a check is confirmed", LIMIT, || {
        (check_count(&worker, "jobs", "confirmed") >= 1.0).then_some(())
    });
    wait_until_ready(&worker.health);
    worker.process.wait_for_log("the broker confirms acknowledgements again", LIMIT);
}

#[test]
fn lost_acknowledgements_make_the_worker_unready() {
    let (worker, stack) = &start(ACK_WAIT, &[]);

    let lost_messages =
        stack.proxy().add_rule(Rule::discard("$JS.ACK.").in_direction(Direction::ToServer));
    run_job(stack.client(), "tea for two");
    let reason = wait_until_unready(worker);
    assert!(reason.contains("acknowledgements of JOBS"), "{reason}");
    assert!(lost_messages.count() >= 1);
    lost_messages.end();
    // The redelivery on the same connection is acknowledged, and the check is confirmed.
    wait_until_ready(&worker.health);
    stack.admin.wait_until_idle();
    assert!(check_count(worker, "jobs", "confirmed") >= 1.0);
}

#[test]
fn an_unanswered_acknowledgement_is_not_repeated() {
    let (worker, stack) = &start(ACK_WAIT_LONG, &[]);

    let answers =
        stack.proxy().add_rule(Rule::discard_answers("$JS.ACK.").in_direction(Direction::ToServer));
    run_job(stack.client(), "tea for two");
    let reason = wait_until_unready(worker);
    assert!(reason.contains("acknowledgements of JOBS"), "{reason}");
    stack.admin.wait_until_idle();
    assert_eq!(answers.count(), 1);
    assert!(reason.contains("no answer"), "{reason}");
    // The acknowledgement of the worker's next job, more than a second later, is checked again.
    answers.end();
    run_job(stack.client(), "two for tea");
    wait_until_ready(&worker.health);
    assert_eq!(check_count(worker, "jobs", "unconfirmed"), 1.0);
}

#[test]
fn acknowledgements_without_a_consumer_make_the_worker_unready() {
    let stack = Stack::start();
    let client = stack.client();
    let worker = &stack.workers[0];

    let site = Site::start();
    let slow = Page::new("text/plain", "two words").after(Duration::from_secs(1));
    let job_id = client.submit_url(&site.put("/page", slow));
    wait_for("the job runs", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{job_id}")).json();
        (job["status"] == "running").then_some(())
    });
    Admin::connect(&stack.nats).delete_consumer("interactive");
    assert_eq!(client.wait_until_final(&job_id, LIMIT)["status"], "succeeded");
    let reason = wait_until_unready(worker);
    assert!(reason.contains("acknowledgements of JOBS"), "{reason}");
    assert!(reason.contains("no consumer receives acknowledgements (status 503)"), "{reason}");
}

#[test]
fn webhook_acknowledgements_are_checked_separately() {
    let (worker, stack) = &start(ACK_WAIT, &FAST_RETRIES);

    let lost_messages = stack
        .proxy()
        .add_rule(Rule::discard("$JS.ACK.WEBHOOKS.").in_direction(Direction::ToServer));
    let hook = json!({"url": stack.receiver.url("/hook")});
    let job_id = stack.client().submit(&json!({"text": "tea for two", "webhook": hook}));
    assert_eq!(wait_until_settled(stack.client(), &job_id)["status"], "delivered");
    let reason = wait_until_unready(worker);
    assert!(reason.contains("acknowledgements of WEBHOOKS"), "{reason}");
    assert_eq!(check_count(worker, "jobs", "unconfirmed"), 0.0);
    assert!(check_count(worker, "jobs", "confirmed") >= 1.0);
    lost_messages.end();
    wait_until_ready(&worker.health);
    assert!(check_count(worker, "webhooks", "confirmed") >= 1.0);
    assert_eq!(stack.receiver.requests("/hook").len(), 1);
}

#[test]
fn many_acknowledgements_are_confirmed_by_few_checks() {
    const JOBS: usize = 300;
    let stack = ProxiedStack::start(Proxied::Workers, &[]);
    let admin = &stack.admin;
    let acknowledgements = stack
        .proxy()
        .add_rule(Rule::pass("$JS.ACK.").in_direction(Direction::ToServer).containing("+ACK"));
    admin.publish_jobs("interactive", JOBS, "tea for two");
    let worker = stack.start_proxied_worker(&[]);
    let start = Instant::now();
    admin.wait_until_idle();
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(acknowledgements.count(), JOBS, "one for each job");
    let confirmed = wait_for("a check is confirmed", LIMIT, || {
        let confirmed = check_count(&worker, "jobs", "confirmed");
        (confirmed > 0.0).then_some(confirmed)
    });
    // One check per second and the first one. The rest is a margin for the time before and after
    // the measurement.
    assert!(confirmed <= seconds + 3.0, "{confirmed} checks in {seconds} s");
    assert_eq!(check_count(&worker, "jobs", "unconfirmed"), 0.0);
    assert_eq!(worker.health.get("/readyz").status, 200);
}

#[test]
fn a_connection_lost_during_a_check_raises_no_alarm() {
    let (worker, stack) = &start(ACK_WAIT, &[]);

    let lost_messages =
        stack.proxy().add_rule(Rule::discard("$JS.ACK.").in_direction(Direction::ToServer));
    let job_id = stack.client().submit(&json!({"text": "tea for two"}));
    wait_for("the acknowledgement is lost", LIMIT, || (lost_messages.count() > 0).then_some(()));
    lost_messages.end();
    stack.proxy().restore();
    assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["status"], "succeeded");
    stack.admin.wait_until_idle();
    wait_for("a check is confirmed", LIMIT, || {
        (check_count(worker, "jobs", "confirmed") >= 1.0).then_some(())
    });
    assert_eq!(check_count(worker, "jobs", "unconfirmed"), 0.0);
    wait_until_ready(&worker.health);
}
