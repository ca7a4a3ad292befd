//! Attempts to bypass permissions with reply subjects and push consumers.
//!
//! The server checks the subject of a message but not its reply subject, and JetStream publishes
//! its answer to any reply subject. A push consumer delivers to any subject in its configuration.
//! Neither may extend the rights of `sweeper` or `inspector`. `gateway` and `worker` share the
//! account of the streams, for which the documentation promises no such isolation.

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::session::Session;
use wordmill_tests::stack::{ACK_SUBJECTS_V2, Nats, extended_configuration};
use wordmill_tests::{LIMIT, runtime, wait_for};

/// Subject of a final record, which must not change.
const FINAL: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000a";
/// Subject of a message whose body would create a stream if it were sent as a request.
const CONFIGURATION: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000b";
/// Subject of a tombstone, as a deleted job leaves it. Its empty body would purge or delete a
/// stream if it were sent as a request.
const EMPTY: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000c";
/// Subject without a message. The answer to a read of it has no body.
const MISSING: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000d";
/// Subject of a job that no client has submitted.
const FORGED_JOB: &str = "jobs.bulk.victim.0198f0c2-0000-7000-8000-00000000000e";
const PURGE: &str = "$JS.API.STREAM.PURGE.KV_webhook_state";
const DELETE: &str = "$JS.API.STREAM.DELETE.OBJ_results";
const CREATE: &str = "$JS.API.STREAM.CREATE.EVIL";

/// Reply subjects that no answer may reach.
const TARGETS: &[&str] = &[
    FINAL,
    FORGED_JOB,
    PURGE,
    DELETE,
    CREATE,
    "$JS.API.STREAM.MSG.DELETE.KV_job_state",
    "$JS.API.STREAM.PURGE.JOBS",
    "$JS.API.CONSUMER.DELETE.JOBS.interactive",
    "$JS.API.CONSUMER.MSG.NEXT.JOBS.bulk",
    "$JS.API.CONSUMER.RESET.JOBS.bulk",
    "$JS.API.CONSUMER.RESET.WEBHOOKS.webhooks",
    "dead.bulk.victim.x",
    "webhooks.victim.x",
    "$KV.webhook_state.victim.x",
    "$O.results.M.x",
    "$O.documents.C.x",
];
/// Targets that `sweeper` may write with its own rights.
const SWEEPER_MAY: &[&str] = &[FINAL, "webhooks.victim.x"];

/// State of the broker: messages and last sequence of each stream, the final record, and the
/// progress of the queues' consumers. Leases are excluded because the roles write them.
#[derive(Debug, PartialEq)]
struct Snapshot {
    streams: BTreeMap<String, (u64, u64)>,
    consumers: Vec<Value>,
    final_record: String,
}

/// Fields of a consumer's state that must not change.
const CONSUMER_STATE: &[&str] = &[
    "name",
    "delivered",
    "ack_floor",
    "num_ack_pending",
    "num_redelivered",
    "num_waiting",
    "num_pending",
];

impl Snapshot {
    fn of(admin: &Session) -> Self {
        runtime().block_on(async {
            let jetstream = admin.jetstream();
            let streams: Vec<_> = jetstream.streams().try_collect().await.expect("streams");
            let records = jetstream.get_stream("KV_job_state").await.expect("records");
            let record = records.get_last_raw_message_by_subject(FINAL).await.expect("a record");
            let others = streams.iter().filter(|stream| stream.config.name != "KV_leases");
            let level = |state: &async_nats::jetstream::stream::State| {
                (state.messages, state.last_sequence)
            };
            Self {
                streams: others.map(|s| (s.config.name.clone(), level(&s.state))).collect(),
                consumers: consumer_states(admin).await,
                final_record: String::from_utf8_lossy(&record.payload).into_owned(),
            }
        })
    }
}

/// Returns the state of every consumer of the queues.
async fn consumer_states(admin: &Session) -> Vec<Value> {
    let mut states = Vec::new();
    for stream in ["JOBS", "WEBHOOKS"] {
        let list = format!("$JS.API.CONSUMER.LIST.{stream}");
        let answer = admin.client.request(list, "".into()).await.expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
        for consumer in answer["consumers"].as_array().expect("consumers") {
            let member = |name: &&str| {
                let mut value = consumer[*name].clone();
                // A pull request changes only the time of the last activity.
                value.as_object_mut().map(|value| value.remove("last_active"));
                ((*name).to_owned(), value)
            };
            states.push(CONSUMER_STATE.iter().map(member).collect());
        }
    }
    states
}

/// A server with a message in every stream, and one job with an unacknowledged delivery.
struct Fixture {
    nats: Nats,
    admin: Session,
    /// Acknowledgement subject of that delivery.
    acknowledgement: String,
    _directory: TempDir,
}

impl Fixture {
    fn new(settings: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let configuration = extended_configuration(directory.path(), settings);
        let nats = Nats::start_configured(directory.path(), &configuration, Vec::new());
        nats.provision(&[]);
        let admin = Session::open(&nats, "admin");
        for (subject, payload) in [
            (FINAL, r#"{"status":"succeeded"}"#),
            (CONFIGURATION, r#"{"name":"EVIL","subjects":["evil"]}"#),
            ("jobs.interactive.public.x", "{}"),
            ("jobs.bulk.public.x", "{}"),
            ("dead.bulk.public.x", "{}"),
            ("webhooks.public.x", "{}"),
            ("$KV.webhook_state.public.x", "{}"),
            ("$KV.leases.worker.x", "{}"),
            ("$O.results.M.y", "{}"),
            ("$O.documents.C.y", "+TERM"),
        ] {
            admin.assert_answered("admin", subject, payload);
        }
        let mut purge_header = HeaderMap::new();
        purge_header.insert("KV-Operation", "PURGE");
        let tombstone = admin.client.request_with_headers(EMPTY, purge_header, "".into());
        runtime().block_on(tombstone).expect("a tombstone");
        let acknowledgement = receive_job(&Session::open(&nats, "worker"));
        Self { nats, admin, acknowledgement, _directory: directory }
    }

    /// Undoes the effects of [`assert_reply_takes_effect`]: recreates the deleted stream, removes
    /// the created one, and stores the purged message again.
    fn restore(&self) {
        self.nats.provision(&[]);
        self.admin.assert_answered("admin", "$JS.API.STREAM.DELETE.EVIL", "");
        self.admin.assert_answered("admin", "$KV.webhook_state.public.x", "{}");
    }

    /// Publishes to `target` directly, and sends every request with `target` as its reply subject
    /// or as its trace destination.
    fn send_all_requests(&self, session: &Session, target: &str) {
        runtime().block_on(async {
            for payload in ["", "{}", "+ACK"] {
                let sent = session.client.publish(target.to_owned(), payload.into()).await;
                sent.expect("the message is sent");
            }
            for (subject, payload) in requests_with_replies() {
                let reply = target.to_owned();
                let payload = payload.into();
                let sent = session.client.publish_with_reply(subject, reply, payload).await;
                sent.expect("the message is sent");
                let mut trace = HeaderMap::new();
                trace.insert("Nats-Trace-Dest", target);
                let sent = session.client.publish_with_headers(subject, trace, "".into()).await;
                sent.expect("the message is sent");
            }
            session.client.flush().await.expect("the message is sent");
        });
        // The answers to these requests show that the server has received the messages above. A
        // later effect is still found by the comparison for the next target.
        for (subject, payload) in [
            ("$JS.API.STREAM.INFO.JOBS", ""),
            ("$JS.API.DIRECT.GET.KV_job_state", r#"{"seq":1,"next_by_subj":"$KV.job_state.>"}"#),
            ("$JS.API.STREAM.INFO.JOBS", ""),
        ] {
            session.assert_answered("a role", subject, payload);
        }
    }
}

/// Pulls the interactive job like a worker and returns the acknowledgement subject of its delivery.
fn receive_job(worker: &Session) -> String {
    runtime().block_on(async {
        let inbox = worker.client.new_inbox();
        let mut deliveries = worker.client.subscribe(inbox.clone()).await.expect("a subscription");
        let next = "$JS.API.CONSUMER.MSG.NEXT.JOBS.interactive";
        let pull_request = r#"{"batch":1,"no_wait":true}"#;
        worker
            .client
            .publish_with_reply(next, inbox, pull_request.into())
            .await
            .expect("the message is sent");
        let delivery = tokio::time::timeout(LIMIT, deliveries.next()).await.expect("an answer");
        delivery.expect("a delivery").reply.expect("a reply subject").to_string()
    })
}

/// Returns requests that at least one role may make, with every kind of answer: a stored body, an
/// empty one, none, JSON, several in a row, a publish acknowledgement.
fn requests_with_replies() -> Vec<(&'static str, String)> {
    let direct = "$JS.API.DIRECT.GET.KV_job_state";
    let next = |subject: &str| json!({"seq": 1, "next_by_subj": subject}).to_string();
    let last = |subject: &str| json!({"last_by_subj": subject}).to_string();
    vec![
        ("$JS.API.DIRECT.GET.KV_leases", next("$KV.leases.worker.*")),
        ("$JS.API.DIRECT.GET.JOBS", next("jobs.>")),
        ("$JS.API.DIRECT.GET.OBJ_documents", next("$O.documents.C.*")),
        (direct, next(CONFIGURATION)),
        (direct, last(CONFIGURATION)),
        (direct, next(EMPTY)),
        (direct, last(EMPTY)),
        (direct, last(MISSING)),
        (direct, json!({"seq": 1, "next_by_subj": "$KV.job_state.>", "batch": 4}).to_string()),
        ("$JS.API.STREAM.MSG.GET.KV_job_state", last(CONFIGURATION)),
        ("$JS.API.STREAM.INFO.JOBS", String::new()),
        ("$JS.API.STREAM.LIST", String::new()),
        ("$JS.API.CONSUMER.INFO.JOBS.bulk", String::new()),
        ("$JS.API.INFO", String::new()),
        ("$KV.leases.sweeper", "{}".to_owned()),
    ]
}

fn assert_no_reply_reaches_a_stream(settings: &str) {
    let fixture = Fixture::new(settings);
    let inspector = Session::open(&fixture.nats, "inspector");
    let sweeper = Session::open(&fixture.nats, "sweeper");
    let before = Snapshot::of(&fixture.admin);
    let acknowledgement = fixture.acknowledgement.as_str();
    for target in TARGETS.iter().copied().chain([acknowledgement]) {
        fixture.send_all_requests(&inspector, target);
        assert_eq!(Snapshot::of(&fixture.admin), before, "inspector: {target}");
        if !SWEEPER_MAY.contains(&target) {
            fixture.send_all_requests(&sweeper, target);
            assert_eq!(Snapshot::of(&fixture.admin), before, "sweeper: {target}");
        }
    }
    // The same requests take effect inside the account of the streams. This shows that none of the
    // requests above was refused for another reason, and that the documentation of these two roles
    // is correct.
    for role in ["gateway", "worker"] {
        let session = Session::open(&fixture.nats, role);
        for (target, stored) in [
            (FINAL, CONFIGURATION),
            (FORGED_JOB, CONFIGURATION),
            (CREATE, CONFIGURATION),
            (PURGE, EMPTY),
            (DELETE, EMPTY),
        ] {
            assert_reply_takes_effect(&fixture, &session, role, target, stored);
        }
        // The acknowledgement of a publish is also an answer.
        assert_request_takes_effect(&fixture, &session, role, FORGED_JOB, "$KV.job_state.public.x");
        fixture.restore();
    }
}

/// Reads a stored body with `target` as the reply subject and waits until a stream has changed.
fn assert_reply_takes_effect(
    fixture: &Fixture,
    session: &Session,
    role: &str,
    target: &str,
    stored: &str,
) {
    let read = format!("$JS.API.DIRECT.GET.KV_job_state.{stored}");
    assert_request_takes_effect(fixture, session, role, target, &read);
}

/// Sends a request with `target` as the reply subject and waits for its effect: a new message in
/// `JOBS` for [`FORGED_JOB`], any change of the snapshot for other targets.
fn assert_request_takes_effect(
    fixture: &Fixture,
    session: &Session,
    role: &str,
    target: &str,
    request: &str,
) {
    let queued = |snapshot: &Snapshot| snapshot.streams.get("JOBS").copied();
    let before = Snapshot::of(&fixture.admin);
    let sent = session.client.publish_with_reply(request.to_owned(), target.to_owned(), "".into());
    runtime().block_on(sent).expect("the message is sent");
    wait_for(&format!("{role}: {target} takes effect by {request}"), LIMIT, || {
        let now = Snapshot::of(&fixture.admin);
        let has_effect =
            if target == FORGED_JOB { queued(&now) != queued(&before) } else { now != before };
        has_effect.then_some(())
    });
}

#[test]
fn no_reply_reaches_a_stream_of_another_account() {
    assert_no_reply_reaches_a_stream("");
}

#[test]
fn no_reply_reaches_a_stream_with_ack_subjects_v2() {
    assert_no_reply_reaches_a_stream(ACK_SUBJECTS_V2);
}

#[test]
fn no_other_account_may_create_a_consumer() {
    let fixture = Fixture::new("");
    let before = Snapshot::of(&fixture.admin);
    for role in ["inspector", "sweeper"] {
        let session = Session::open(&fixture.nats, role);
        for (stream, filter) in [
            ("KV_job_state", EMPTY),
            ("KV_job_state", "$KV.job_state.>"),
            ("DEAD_JOBS", "dead.>"),
            ("OBJ_documents", "$O.documents.C.y"),
            ("OBJ_results", "$O.results.M.y"),
        ] {
            let target = "$JS.API.CONSUMER.MSG.NEXT.JOBS.bulk";
            let consumer = push_consumer(stream, filter, target, "explicit").to_string();
            let create = format!("$JS.API.CONSUMER.CREATE.{stream}.smuggler.{filter}");
            let sent = session.client.publish(create.clone(), consumer.into());
            runtime().block_on(sent).expect("the message is sent");
            session.wait_for_refusal(role, &format!("Publish to \"{create}\""));
        }
    }
    assert_eq!(Snapshot::of(&fixture.admin), before);
}

/// Inside the account of the streams, a push consumer can take jobs from the workers. This is why
/// no other account may create a consumer.
#[test]
fn a_push_consumer_can_take_jobs_from_the_workers() {
    let fixture = Fixture::new("");
    let before = consumer_states_now(&fixture);
    let request = r#"{"batch":9,"no_wait":true}"#;
    fixture.admin.assert_answered("admin", "$O.documents.C.z", request);
    let target = "$JS.API.CONSUMER.MSG.NEXT.JOBS.bulk";
    let consumer = push_consumer("OBJ_documents", "$O.documents.C.z", target, "explicit");
    let create = "$JS.API.CONSUMER.CREATE.OBJ_documents.smuggler.$O.documents.C.z";
    fixture.admin.assert_answered("admin", create, &consumer.to_string());
    wait_for("the push consumer has received a job", LIMIT, || {
        (consumer_states_now(&fixture) != before).then_some(())
    });
}

fn consumer_states_now(fixture: &Fixture) -> Vec<Value> {
    runtime().block_on(consumer_states(&fixture.admin))
}

/// Returns the configuration of a push consumer.
fn push_consumer(stream: &str, filter: &str, deliver: &str, ack_policy: &str) -> Value {
    json!({"stream_name": stream, "config": {
        "name": "smuggler", "deliver_subject": deliver, "deliver_policy": "all",
        "ack_policy": ack_policy, "replay_policy": "instant", "filter_subject": filter,
        "inactive_threshold": 60_000_000_000_u64,
    }})
}
