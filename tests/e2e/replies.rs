//! Ways around permissions. A server checks the subject of a message, never its reply subject, and
//! JetStream publishes its answer to the reply subject unchecked. A consumer delivers to whatever
//! subject it names. Neither may give `sweeper` or `inspector` more than their rights; `gateway` and
//! `worker` share the account of the streams, where the documents promise nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::session::Session;
use wordmill_tests::stack::{ACK_SUBJECTS_V2, Nats, Stack, extended_configuration};
use wordmill_tests::{runtime, wait_for};

const LIMIT: Duration = Duration::from_secs(10);

/// A final record, which nothing may change.
const FINAL: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000a";
/// A stored body that creates a stream if it becomes a request.
const CONFIGURATION: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000b";
/// A stored empty body, as every deleted job leaves one: the request that purges or deletes.
const EMPTY: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000c";
/// A subject that was never written. The answer to a read has no body.
const MISSING: &str = "$KV.job_state.public.0198f0c2-0000-7000-8000-00000000000d";
/// A job that no client has submitted.
const FORGED_JOB: &str = "jobs.bulk.victim.0198f0c2-0000-7000-8000-00000000000e";
const PURGE: &str = "$JS.API.STREAM.PURGE.KV_webhook_state";
const DELETE: &str = "$JS.API.STREAM.DELETE.OBJ_results";
const CREATE: &str = "$JS.API.STREAM.CREATE.EVIL";

/// Where an answer must not arrive.
const TARGETS: &[&str] = &[
    FINAL,
    FORGED_JOB,
    PURGE,
    DELETE,
    CREATE,
    "$JS.API.STREAM.MSG.DELETE.KV_job_state",
    "$JS.API.STREAM.PURGE.JOBS",
    "$JS.API.CONSUMER.DELETE.JOBS.interactive",
    "dead.bulk.victim.x",
    "webhooks.victim.x",
    "$KV.webhook_state.victim.x",
    "$O.results.M.x",
    "$O.documents.C.x",
];
/// The targets that `sweeper` may write by itself.
const SWEEPER_MAY: &[&str] = &[FINAL, "webhooks.victim.x"];

/// What the streams hold: messages and last sequence of each, how many consumers the queues have,
/// and the final record. Leases are left out, since the roles write them.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    streams: BTreeMap<String, (u64, u64)>,
    queue_consumers: usize,
    final_record: String,
}

impl Snapshot {
    fn of(admin: &Session) -> Self {
        runtime().block_on(async {
            let jetstream = admin.jetstream();
            let streams: Vec<_> = jetstream.streams().try_collect().await.expect("streams");
            let is_queue = |name: &str| matches!(name, "JOBS" | "WEBHOOKS");
            let queues = streams.iter().filter(|stream| is_queue(&stream.config.name));
            let queue_consumers = queues.map(|stream| stream.state.consumer_count).sum();
            let records = jetstream.get_stream("KV_job_state").await.expect("records");
            let record = records.get_last_raw_message_by_subject(FINAL).await.expect("a record");
            let others = streams.iter().filter(|stream| stream.config.name != "KV_leases");
            let level = |state: &async_nats::jetstream::stream::State| {
                (state.messages, state.last_sequence)
            };
            Self {
                streams: others.map(|s| (s.config.name.clone(), level(&s.state))).collect(),
                queue_consumers,
                final_record: String::from_utf8_lossy(&record.payload).into_owned(),
            }
        })
    }
}

/// A server with something in every stream, and one job whose delivery is not acknowledged.
struct Setting {
    nats: Nats,
    admin: Session,
    /// Where the delivery of that job is acknowledged.
    acknowledgement: String,
    _directory: TempDir,
}

impl Setting {
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
            admin.is_answered("admin", subject, payload);
        }
        let mut marker = HeaderMap::new();
        marker.insert("KV-Operation", "PURGE");
        let marked = admin.client.request_with_headers(EMPTY, marker, "".into());
        runtime().block_on(marked).expect("a marker");
        let acknowledgement = take_a_job(&Session::open(&nats, "worker"));
        Self { nats, admin, acknowledgement, _directory: directory }
    }

    /// Puts back what [`takes_effect`] has changed.
    fn restore(&self) {
        self.nats.provision(&[]);
        self.admin.is_answered("admin", "$JS.API.STREAM.DELETE.EVIL", "");
        self.admin.is_answered("admin", "$KV.webhook_state.public.x", "{}");
    }

    /// Publishes to `target` plainly, and by every request whose answer could go there.
    fn try_everything(&self, session: &Session, target: &str) {
        runtime().block_on(async {
            for payload in ["", "{}", "+ACK"] {
                let sent = session.client.publish(target.to_owned(), payload.into()).await;
                sent.expect("sent");
            }
            for (subject, payload) in carriers() {
                let (reply, payload) = (target.to_owned(), payload.into());
                let sent = session.client.publish_with_reply(subject, reply, payload).await;
                sent.expect("sent");
                let mut trace = HeaderMap::new();
                trace.insert("Nats-Trace-Dest", target);
                let sent = session.client.publish_with_headers(subject, trace, "".into()).await;
                sent.expect("sent");
            }
            session.client.flush().await.expect("sent");
        });
        // Requests are served in order, so what was asked before has been dealt with.
        for (subject, payload) in [
            ("$JS.API.STREAM.INFO.JOBS", ""),
            ("$JS.API.DIRECT.GET.KV_job_state", r#"{"seq":1,"next_by_subj":"$KV.job_state.>"}"#),
            ("$JS.API.STREAM.INFO.JOBS", ""),
        ] {
            session.is_answered("a role", subject, payload);
        }
    }
}

/// Takes the interactive job as a worker does, and returns where its delivery is acknowledged.
fn take_a_job(worker: &Session) -> String {
    runtime().block_on(async {
        let inbox = worker.client.new_inbox();
        let mut deliveries = worker.client.subscribe(inbox.clone()).await.expect("subscribed");
        let next = "$JS.API.CONSUMER.MSG.NEXT.JOBS.interactive";
        let ask = r#"{"batch":1,"no_wait":true}"#;
        worker.client.publish_with_reply(next, inbox, ask.into()).await.expect("asked");
        let delivery = tokio::time::timeout(LIMIT, deliveries.next()).await.expect("an answer");
        delivery.expect("a delivery").reply.expect("a reply subject").to_string()
    })
}

/// Requests that some role may make, and whose answers have different bodies: a stored one, an empty
/// one, none, JSON, several in a row, a publish acknowledgement.
fn carriers() -> Vec<(&'static str, String)> {
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
        ("$JS.API.CONSUMER.MSG.NEXT.DEAD_JOBS.reader", r#"{"batch":1,"no_wait":true}"#.to_owned()),
        ("$KV.leases.sweeper", "{}".to_owned()),
    ]
}

fn no_reply_reaches_a_stream(settings: &str) {
    let setting = Setting::new(settings);
    let inspector = Session::open(&setting.nats, "inspector");
    let reader = json!({"stream_name": "DEAD_JOBS", "config": {
        "name": "reader", "ack_policy": "none", "deliver_policy": "all", "filter_subject": "dead.>",
        "replay_policy": "instant", "inactive_threshold": 60_000_000_000_u64,
    }});
    let create = "$JS.API.CONSUMER.CREATE.DEAD_JOBS.reader.dead.>";
    inspector.is_answered("inspector", create, &reader.to_string());
    let sweeper = Session::open(&setting.nats, "sweeper");
    let before = Snapshot::of(&setting.admin);
    let acknowledgement = setting.acknowledgement.as_str();
    for target in TARGETS.iter().copied().chain([acknowledgement]) {
        setting.try_everything(&inspector, target);
        assert_eq!(Snapshot::of(&setting.admin), before, "inspector: {target}");
        if !SWEEPER_MAY.contains(&target) {
            setting.try_everything(&sweeper, target);
            assert_eq!(Snapshot::of(&setting.admin), before, "sweeper: {target}");
        }
    }
    // The same requests take effect inside the account of the streams: none of the above was refused
    // for another reason, and this is what the documents say of these two passwords.
    for role in ["gateway", "worker"] {
        let session = Session::open(&setting.nats, role);
        for (target, stored) in [
            (FINAL, CONFIGURATION),
            (FORGED_JOB, CONFIGURATION),
            (CREATE, CONFIGURATION),
            (PURGE, EMPTY),
            (DELETE, EMPTY),
        ] {
            takes_effect(&setting, &session, role, target, stored);
        }
        setting.restore();
    }
}

/// Reads a stored body with `target` as the reply subject, and waits until a stream has changed.
fn takes_effect(setting: &Setting, session: &Session, role: &str, target: &str, stored: &str) {
    let before = Snapshot::of(&setting.admin);
    let read = format!("$JS.API.DIRECT.GET.KV_job_state.{stored}");
    let sent = session.client.publish_with_reply(read, target.to_owned(), "".into());
    runtime().block_on(sent).expect("sent");
    wait_for(&format!("{role}: {target} takes effect"), LIMIT, || {
        (Snapshot::of(&setting.admin) != before).then_some(())
    });
}

#[test]
fn no_reply_reaches_a_stream_from_another_account() {
    no_reply_reaches_a_stream("");
}

#[test]
fn no_reply_reaches_a_stream_from_another_account_with_acknowledgements_of_version_2() {
    no_reply_reaches_a_stream(ACK_SUBJECTS_V2);
}

/// The configuration of a push consumer.
fn push_consumer(stream: &str, filter: &str, deliver: &str) -> Value {
    json!({"stream_name": stream, "config": {
        "name": "smuggler", "deliver_subject": deliver, "deliver_policy": "all",
        "ack_policy": "none", "replay_policy": "instant", "filter_subject": filter,
        "inactive_threshold": 60_000_000_000_u64,
    }})
}

#[test]
fn no_consumer_of_the_inspector_delivers_into_a_stream() {
    let setting = Setting::new("");
    let inspector = Session::open(&setting.nats, "inspector");
    let before = Snapshot::of(&setting.admin);
    for target in TARGETS {
        // A push consumer delivers where a client subscribes to exactly its deliver subject.
        // Nobody in the account of the streams may do that.
        for role in ["gateway", "worker", "admin"] {
            Session::open(&setting.nats, role).is_refused_to_hear(role, target);
        }
        let create = format!("$JS.API.CONSUMER.CREATE.KV_job_state.smuggler.{EMPTY}");
        let consumer = push_consumer("KV_job_state", EMPTY, target).to_string();
        let answer = inspector.client.request(create, consumer.into());
        runtime().block_on(answer).expect("an answer");
        let read = "$JS.API.STREAM.INFO.KV_job_state";
        inspector.is_answered("inspector", read, "");
        assert_eq!(Snapshot::of(&setting.admin), before, "{target}");
        let delete = "$JS.API.CONSUMER.DELETE.KV_job_state.smuggler".to_owned();
        let answer = inspector.client.request(delete, "".into());
        runtime().block_on(answer).expect("an answer");
    }
}

#[test]
fn a_client_that_waits_does_not_believe_an_event_that_the_inspector_forged() {
    let stack = Stack::with(1, 0, &[]);
    let job = stack.client().submit(&json!({"text": "one two"}));
    let path = format!("/v1/jobs/{job}");
    let mut forged = stack.client().get(&path).json();
    forged["status"] = json!("succeeded");
    // A document's bytes are its owner's choice: here they are the record of somebody's job.
    let admin = Session::open(&stack.nats, "admin");
    admin.is_answered("admin", "$O.documents.C.forged", &forged.to_string());

    let inspector = Session::open(&stack.nats, "inspector");
    let events = format!("events.$KV.job_state.public.{job}");
    let mut heard = runtime().block_on(inspector.client.subscribe(events.clone())).expect("heard");
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| stack.client().get(&format!("{path}?wait=3")).json());
        wait_for("the gateway listens to the job", LIMIT, || {
            let metrics = stack.client().get("/metrics").text;
            metrics.lines().any(|line| line == "wordmill_clients_waiting 1").then_some(())
        });
        let create = "$JS.API.CONSUMER.CREATE.OBJ_documents.smuggler.$O.documents.C.forged";
        let consumer = push_consumer("OBJ_documents", "$O.documents.C.forged", &events);
        inspector.is_answered("inspector", create, &consumer.to_string());
        let delivered = runtime()
            .block_on(async { tokio::time::timeout(LIMIT, heard.next()).await })
            .expect("delivered in time");
        assert!(delivered.is_some());
        waiting.join().expect("an answer")
    });
    assert_eq!(waiting["status"], "queued", "{waiting}");
}
