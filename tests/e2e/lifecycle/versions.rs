//! Services of two versions side by side, as they run during every upgrade and rollback.
//!
//! The next version is this one with one additional option, failure code and warning code
//! (`make next`): `"options": {"next": "count" | "fail" | "retry"}`, and `next_version`. It counts
//! jobs with this option by newer versions of the rule and of the extractor.

mod newer_codes;

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::admin::{Admin, job_message};
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::client::Client;
use wordmill_tests::command::Wordmill;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::process::Version;
use wordmill_tests::receiver::Receiver;
use wordmill_tests::stack::{Gateway, Nats, Stack, Worker, wait_until_ready};
use wordmill_tests::stream::EventStream;
use wordmill_tests::wait_for;

/// Maximum wait in most tests. An old worker returns a message for newer workers with a delay of 30
/// s.
const RETURN_TIME_MAX: Duration = Duration::from_secs(90);
const SETTINGS: &[(&str, &str)] = &[("WORDMILL_ATTEMPTS", "2"), ("WORDMILL_RETRY_BASE", "1s")];
const WEBHOOKS: (&str, &str) = ("WORDMILL_WEBHOOK_SECRETS", "0123456789abcdef0123456789abcdef");
/// The payload of a message that is not a job in any version.
const NONSENSE: &str = "not a job";
const NEWER_MESSAGES_METRIC: &str = "wordmill_newer_messages_total";

/// A broker without services.
struct Broker {
    nats: Nats,
    admin: Admin,
    _directory: TempDir,
}

impl Broker {
    fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let nats = Nats::start(directory.path());
        nats.provision(&[]);
        let admin = Admin::connect(&nats);
        Self { nats, admin, _directory: directory }
    }

    fn gateway(&self, version: Version) -> Gateway {
        let gateway = Gateway::start_version(version, &self.nats.address(), &[WEBHOOKS]);
        wait_until_ready(&gateway.client);
        gateway
    }

    fn worker(&self, version: Version, settings: &[(&str, &str)]) -> Worker {
        let settings = [SETTINGS, settings].concat();
        let worker = Worker::start_version(version, &self.nats.address(), &settings);
        wait_until_ready(&worker.health);
        worker
    }
}

fn newer_job(text: &str, next: &str) -> Value {
    json!({"text": text, "options": {"next": next}})
}

fn get_job(client: &Client, id: &str) -> Value {
    let answer = client.get(&format!("/v1/jobs/{id}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Returns a job from the list of jobs.
fn find_in_list(client: &Client, id: &str) -> Value {
    let list = client.get("/v1/jobs?limit=100").json();
    let job = list["data"].as_array().expect("jobs").iter().find(|job| job["job_id"] == id);
    job.unwrap_or_else(|| panic!("{id} is not in {list}")).clone()
}

/// Waits until a worker has returned `count` messages because of an unknown part. No job may become
/// a dead letter meanwhile.
fn wait_for_return(broker: &Broker, worker: &Worker, (queue, part): (&str, &str), count: f64) {
    let condition_name = format!("{count} messages of {queue} are returned because of {part}");
    wait_for(&condition_name, RETURN_TIME_MAX, || {
        if broker.admin.message_count("DEAD_JOBS") > 0 {
            let dead = broker.admin.all_messages("DEAD_JOBS");
            assert!(dead.iter().all(|letter| letter.payload == NONSENSE.as_bytes()), "{dead:?}");
        }
        let labels = [("queue", queue), ("part", part)];
        (Metrics::fetch(&worker.health).sum(NEWER_MESSAGES_METRIC, &labels)? >= count).then_some(())
    });
}

#[test]
fn jobs_of_a_newer_gateway_survive_its_rollback() {
    let broker = Broker::start();
    let mut old_worker = broker.worker(Version::Current, &[]);
    let mut new_gateway = broker.gateway(Version::Next);
    let waiting = new_gateway.client.submit(&newer_job("to be or not", "count"));
    let withdrawn = new_gateway.client.submit(&newer_job("to be", "count"));
    wait_for_return(&broker, &old_worker, ("jobs", "options"), 2.0);
    assert_eq!(broker.admin.message_count("DEAD_JOBS"), 0);
    assert_eq!(broker.admin.message_count("JOBS"), 2);
    let (_, unacknowledged) = broker.admin.pending_and_unacknowledged("interactive");
    assert_eq!(unacknowledged, 2, "both messages are redelivered later");

    // Other jobs run meanwhile.
    let plain = new_gateway.client.submit(&json!({"text": "a b c"}));
    assert_eq!(new_gateway.client.wait_until_final(&plain, RETURN_TIME_MAX)["totals"]["words"], 3);

    // Roll back to the current version, which does not support the option.
    new_gateway.process.stop();
    let old_gateway = broker.gateway(Version::Current);
    let client = &old_gateway.client;
    for shown in [get_job(client, &waiting), find_in_list(client, &waiting)] {
        assert_eq!(shown["status"], "queued", "{shown}");
        assert_eq!(shown["options"]["next"], "count", "{shown}");
        assert_eq!(shown["attempts"], json!([]), "{shown}");
    }
    let cancelled = client.post(&format!("/v1/jobs/{withdrawn}/cancel"), &json!({}));
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(cancelled.json()["options"]["next"], "count", "{cancelled:?}");
    let refused = client.post("/v1/jobs", &newer_job("to be", "count"));
    refused.expect_problem(422, "invalid_option");
    let plain = client.submit(&json!({"text": "a b"}));
    assert_eq!(client.wait_until_final(&plain, RETURN_TIME_MAX)["status"], "succeeded");

    // Upgrade again.
    old_worker.process.stop();
    let _new_worker = broker.worker(Version::Next, &[]);
    let done = client.wait_until_final(&waiting, RETURN_TIME_MAX);
    assert_eq!(done["status"], "succeeded", "{done}");
    assert_eq!(done["totals"]["words"], 4, "{done}");
    assert_eq!(array_length(&done["attempts"]), 1, "{done}");
    assert_eq!(client.result(&waiting)["totals"]["words"], 4);
    assert_eq!(get_job(client, &withdrawn)["status"], "cancelled");
    broker.admin.wait_until_idle();
    assert_eq!(broker.admin.message_count("DEAD_JOBS"), 0);
}

#[test]
fn a_rolled_back_worker_uses_no_attempt_of_a_newer_job() {
    let broker = Broker::start();
    let gateway = broker.gateway(Version::Next);
    let mut new_worker = broker.worker(Version::Next, &[]);
    let id = gateway.client.submit(&newer_job("to be", "retry"));
    wait_for("the first attempt has failed", RETURN_TIME_MAX, || {
        let job = get_job(&gateway.client, &id);
        (job["attempts"][0]["failure"]["code"] == "next_version").then_some(())
    });
    new_worker.process.stop();
    let mut old_worker = broker.worker(Version::Current, &[]);
    wait_for_return(&broker, &old_worker, ("jobs", "options"), 1.0);
    let job = get_job(&gateway.client, &id);
    assert_eq!(job["status"], "queued", "{job}");
    assert_eq!(array_length(&job["attempts"]), 1, "{job}");
    assert_eq!(broker.admin.message_count("DEAD_JOBS"), 0);

    old_worker.process.stop();
    let _new_worker = broker.worker(Version::Next, &[]);
    let done = gateway.client.wait_until_final(&id, RETURN_TIME_MAX);
    assert_eq!(array_length(&done["attempts"]), 2, "{done}");
    assert_fields(&done, json!({"failure.code": "next_version", "dead_lettered": true}));
}

/// Returns the message of a job with some fields replaced.
fn message_with_changes(id: &str, changes: &Value) -> String {
    let message = job_message("interactive", id, "a b");
    let mut message: Value = serde_json::from_str(&message).expect("JSON");
    message.as_object_mut().expect("an object").extend(changes.as_object().expect("one").clone());
    message.to_string()
}

#[test]
fn a_worker_returns_messages_that_only_a_newer_one_can_handle() {
    let broker = Broker::start();
    let gateway = broker.gateway(Version::Current);
    let [state, format, webhook_job] =
        ["a", "b", "c"].map(|text| gateway.client.submit(&json!({"text": text})));
    broker.admin.rewrite_record(&state, |record| record["status"] = json!("paused"));
    broker.admin.rewrite_record(&format, |record| {
        record["format"] = json!(2);
        record["attempts"] = json!({"none": true});
    });
    let lines = "{\"text\": \"a\"}\n{\"text\": \"a b\"}\n";
    let headers = [("content-type", "application/x-ndjson")];
    let batch = gateway.client.send("POST", "/v1/batches", &headers, lines.as_bytes()).json();
    let member = batch["lines"][0]["job_id"].as_str().expect("an id");
    broker.admin.rewrite_record(member, |record| record["status"] = json!("paused"));
    let id = |n: u32| format!("0198f0c2-0000-7000-8000-00000000000{n}");
    let changes = [
        json!({"format": 2, "job": "elsewhere"}),
        json!({"source": {"kind": "feed", "feed": "https://example.org/"}}),
        json!({"options": {"stem": true}}),
    ];
    for (n, changes) in (1..).zip(&changes) {
        let subject = format!("jobs.interactive.public.{}", id(n));
        broker.admin.publish(&subject, &message_with_changes(&id(n), changes));
    }
    broker.admin.publish("jobs.interactive.public.nonsense", NONSENSE);
    let newer_message = json!({"format": 2, "to": "receiver"}).to_string();
    broker.admin.publish(&format!("webhooks.public.{webhook_job}"), &newer_message);

    let worker = broker.worker(Version::Current, &[WEBHOOKS]);
    wait_for_return(&broker, &worker, ("jobs", "format"), 1.0);
    wait_for_return(&broker, &worker, ("jobs", "source"), 1.0);
    wait_for_return(&broker, &worker, ("jobs", "options"), 1.0);
    wait_for_return(&broker, &worker, ("jobs", "record"), 3.0);
    wait_for_return(&broker, &worker, ("webhooks", "format"), 1.0);
    gateway.client.wait_until_final(&webhook_job, RETURN_TIME_MAX);
    wait_for("only nonsense is a dead letter", RETURN_TIME_MAX, || {
        (broker.admin.message_count("DEAD_JOBS") == 1).then_some(())
    });
    wait_for("the other jobs and the batch are queued", RETURN_TIME_MAX, || {
        (broker.admin.message_count("JOBS") == 7).then_some(())
    });
    let batch = wait_for("the other member has succeeded", RETURN_TIME_MAX, || {
        let batch = get_job(&gateway.client, batch["batch_id"].as_str().expect("an id"));
        (batch["counts"]["succeeded"] == 1).then_some(batch)
    });
    assert_fields(&batch, json!({"status": "queued", "attempts": []}));
    assert_eq!(broker.admin.message_count("WEBHOOKS"), 1);
    let subject = format!("$KV.job_state.public.{state}");
    let (record, _) = broker.admin.last_message("KV_job_state", &subject).expect("a record");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    assert_fields(&record, json!({"status": "paused", "attempts": []}));
}

/// Adds values to a record that only a newer version supports.
fn add_newer_parts(record: &mut Value) {
    let failure = json!({"code": "fetch_quic", "detail": "No.", "retryable": true});
    record["options"]["stem"] = json!({"language": "en"});
    record["source"] = json!({"kind": "feed", "items": 3});
    record["failure"] = failure.clone();
    record["attempts"] = json!([{
        "number": 1, "worker": "newer", "run": "00000000-0000-4000-8000-000000000001",
        "started_at": "2026-01-01T00:00:00Z", "ended_at": null, "failure": failure,
    }]);
}

fn assert_shown(shown: &Value, status: &str) {
    assert_eq!(shown["status"], status, "{shown}");
    assert_eq!(shown["failure"]["code"], "fetch_quic", "{shown}");
    assert_eq!(shown["attempts"][0]["failure"]["code"], "fetch_quic", "{shown}");
    assert_eq!(shown["options"]["stem"], json!({"language": "en"}), "{shown}");
    assert_eq!(shown["source"], json!({"kind": "feed", "items": 3}), "{shown}");
}

#[test]
fn every_route_handles_a_status_of_a_newer_version() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let headers = [("content-type", "application/json"), ("idempotency-key", "same")];
    let body = json!({"text": "a b"}).to_string();
    let submit = || client.send("POST", "/v1/jobs", &headers, body.as_bytes());
    let id = submit().json()["job_id"].as_str().expect("an id").to_owned();
    admin.rewrite_record(&id, |record| {
        add_newer_parts(record);
        record["status"] = json!("paused");
        record["progress"] = json!({"stage": "unpack", "done_bytes": 1, "total_bytes": null});
    });
    let path = format!("/v1/jobs/{id}");
    assert_shown(&get_job(client, &id), "paused");
    assert_eq!(get_job(client, &id)["progress"]["stage"], "unpack");
    assert_shown(&client.get(&format!("{path}?wait=1")).json(), "paused");
    assert_shown(&find_in_list(client, &id), "paused");
    assert_shown(&submit().json(), "paused");
    for status in ["queued", "running", "failed"] {
        let list = client.get(&format!("/v1/jobs?status={status}")).json();
        assert_eq!(list["data"], json!([]), "{list}");
    }
    client.get("/v1/jobs?status=paused").expect_problem(400, "invalid_query");
    let event = EventStream::open(client, &id, &[]).next_job(RETURN_TIME_MAX).expect("an event");
    assert_eq!(event.id_and_status().1, "paused");
    client.get(&format!("{path}/result")).expect_problem(409, "job_not_finished");
    client.get(&format!("{path}/explain")).expect_problem(409, "job_not_finished");
    client.send("DELETE", &path, &[], &[]).expect_problem(409, "job_not_finished");
    client.post(&format!("{path}/retry"), &json!({})).expect_problem(409, "job_not_finished");
    client.post(&format!("{path}/webhook"), &json!({})).expect_problem(409, "job_not_finished");
    client.post(&format!("{path}/cancel"), &json!({})).expect_problem(503, "broker_unavailable");
    let older = client.get(&format!("/word-count/{id}")).json();
    assert_eq!(older["data"]["status"], "IN_PROGRESS", "{older}");
    assert_shown(&get_job(client, &id), "paused");

    let folder = TempDir::new().expect("a folder");
    let wordmill = Wordmill::for_client(client, folder.path());
    assert!(wordmill.run(&["status", &id]).expect_success().contains("paused"));
    assert!(wordmill.run(&["list", "-f", "json"]).expect_success().contains("paused"));
    wordmill.run(&["--timeout", "500ms", "wait", &id]).expect_failure(124, &["time limit reached"]);
}

#[test]
fn every_route_handles_a_failure_code_of_a_newer_version() {
    let stack = Stack::with(1, 0, &[WEBHOOKS]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let receiver = Receiver::start();
    let hook = json!({"url": receiver.url("/hook")});
    let id = client.submit(&json!({"text": "a b", "webhook": hook}));
    admin.rewrite_record(&id, |record| {
        add_newer_parts(record);
        record["status"] = json!("failed");
        record["finished_at"] = json!("2026-01-01T00:00:01Z");
    });
    let path = format!("/v1/jobs/{id}");
    assert_shown(&get_job(client, &id), "failed");
    assert_shown(&client.get(&format!("{path}?wait=60")).json(), "failed");
    assert_shown(&find_in_list(client, &id), "failed");
    let webhook_state = json!({"format": 1, "round": 0, "status": "deferred", "attempts": [],
        "next_attempt_at": null, "under_way": null});
    admin.publish(&format!("$KV.webhook_state.public.{id}"), &webhook_state.to_string());
    assert_eq!(get_job(client, &id)["webhook"]["status"], "deferred");
    let event = EventStream::open(client, &id, &[]).next_job(RETURN_TIME_MAX).expect("an event");
    assert_eq!(event.id_and_status().1, "failed");
    let problem = client.get(&format!("{path}/result")).expect_problem(409, "job_failed");
    assert_eq!(problem["failure"]["code"], "fetch_quic", "{problem}");
    client.post(&format!("{path}/cancel"), &json!({})).expect_problem(409, "already_finished");
    client.post(&format!("{path}/retry"), &json!({})).expect_problem(503, "broker_unavailable");
    let resent = client.post(&format!("{path}/webhook"), &json!({}));
    assert_eq!(resent.status, 202, "{resent:?}");
    let older = client.get(&format!("/word-count/{id}")).json();
    assert_eq!(older["data"]["status"], "FAIL", "{older}");
    let folder = TempDir::new().expect("a folder");
    let wordmill = Wordmill::for_client(client, folder.path());
    assert!(wordmill.run(&["wait", &id]).expect_failure(1, &["fetch_quic"]).contains("failed"));
    let worker = Worker::start(&stack.nats.address(), &[WEBHOOKS]);
    let request = receiver.wait_for_requests("/hook", 1, RETURN_TIME_MAX)[0].json();
    assert_eq!(request["data"]["failure"]["code"], "fetch_quic", "{request}");
    assert_eq!(request["data"]["source"]["kind"], "feed", "{request}");
    admin.wait_until_idle();
    drop(worker);
    assert_eq!(client.send("DELETE", &path, &[], &[]).status, 204);

    // A job that has a message but no record yet.
    let message = message_with_changes(&id, &json!({"options": {"stem": true}}));
    let id = "0198f0c2-0000-7000-8000-000000000009";
    let message = message.replace(&path["/v1/jobs/".len()..], id);
    admin.publish(&format!("jobs.interactive.public.{id}"), &message);
    assert_eq!(get_job(client, id)["options"], json!({"stem": true}));
    let cancelled = client.post(&format!("/v1/jobs/{id}/cancel"), &json!({}));
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    assert_eq!(cancelled.json()["options"], json!({"stem": true}), "{cancelled:?}");
}

#[test]
fn a_record_of_a_newer_format_is_answered_with_503() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let id = client.submit(&json!({"text": "a b"}));
    admin.rewrite_record(&id, |record| record["format"] = json!(2));
    let path = format!("/v1/jobs/{id}");
    for path in [&path, &format!("{path}/result"), &format!("{path}/events")] {
        let answer = client.get(path);
        answer.expect_problem(503, "broker_unavailable");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    client.post(&format!("{path}/cancel"), &json!({})).expect_problem(503, "broker_unavailable");
    let body = json!({"text": "a b"}).to_string();
    let headers = [("content-type", "application/json")];
    client.send("PUT", &path, &headers, body.as_bytes()).expect_problem(503, "broker_unavailable");
}
