//! What each role may do works, and what it may not do is refused: over the wire, with its own
//! credentials, on the configuration that we ship.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::process::{Process, nats_server};
use wordmill_tests::stack::{Nats, password, service};
use wordmill_tests::{runtime, wait_for};

use crate::rights::{ANSWERED, JOB, NOBODY_HEARS, NOBODY_PUBLISHES, PUBLISHES_NOT, RECORD};

const LIMIT: Duration = Duration::from_secs(10);

/// A connection with a role's credentials, and what the server complained about on it.
struct Session {
    client: Client,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Session {
    fn open(nats: &Nats, role: &str) -> Self {
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&complaints);
        let options = ConnectOptions::with_user_and_password(role.to_owned(), password(role))
            .custom_inbox_prefix(format!("_INBOX_{role}"))
            .request_timeout(Some(LIMIT))
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    kept.lock().expect("complaints").push(error.to_string());
                }
                std::future::ready(())
            });
        let client = runtime().block_on(options.connect(nats.address())).expect("a connection");
        Self { client, complaints }
    }

    fn jetstream(&self) -> jetstream::Context {
        // It starts a task of its own.
        let _entered = runtime().enter();
        jetstream::new(self.client.clone())
    }

    /// Publishes, and waits until the server has refused it.
    fn is_refused_to_publish(&self, role: &str, subject: &str) {
        let sent = self.client.publish(subject.to_owned(), "{}".into());
        runtime().block_on(sent).expect("sent");
        self.wait_for_complaint(role, &format!("Publish to \"{subject}\""));
    }

    /// Subscribes, and waits until the server has refused it.
    fn is_refused_to_hear(&self, role: &str, subject: &str) {
        let subscription = runtime().block_on(self.client.subscribe(subject.to_owned()));
        self.wait_for_complaint(role, &format!("Subscription to \"{subject}\""));
        drop(subscription);
    }

    fn wait_for_complaint(&self, role: &str, about: &str) {
        wait_for(&format!("{role} is refused: {about}"), LIMIT, || {
            let complaints = self.complaints.lock().expect("complaints");
            let wanted = format!("Permissions Violation for {about}").to_lowercase();
            complaints.iter().any(|text| text.to_lowercase().contains(&wanted)).then_some(())
        });
    }

    /// Sends a request, which has to be answered, and not by an error.
    fn is_answered(&self, role: &str, subject: &str, payload: &str) {
        let payload = payload.to_owned().into();
        let answer = runtime().block_on(self.client.request(subject.to_owned(), payload));
        let complaints = self.complaints.lock().expect("complaints").clone();
        let answer =
            answer.unwrap_or_else(|error| panic!("{role}: {subject}: {error}: {complaints:?}"));
        let json: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
        assert!(json["error"].is_null(), "{role}: {subject}: {json}");
        let missing = matches!(answer.status.map(|status| status.as_u16()), Some(400..));
        assert!(!missing, "{role}: {subject}: {:?}", answer.status);
    }
}

#[test]
fn every_role_does_its_work_and_nothing_else() {
    let directory = TempDir::new().expect("a directory");
    let nats = Nats::start(directory.path());
    nats.provision(&[]);
    let admin = Session::open(&nats, "admin");
    admin.is_answered("admin", JOB, "{}");
    admin.is_answered("admin", RECORD, "{}");

    for (role, more) in PUBLISHES_NOT {
        let session = Session::open(&nats, role);
        for subject in NOBODY_PUBLISHES.iter().chain(*more) {
            session.is_refused_to_publish(role, subject);
        }
        for subject in NOBODY_HEARS {
            session.is_refused_to_hear(role, subject);
        }
        for (other, _) in PUBLISHES_NOT.iter().filter(|(other, _)| other != role) {
            session.is_refused_to_hear(role, &format!("_INBOX_{other}.>"));
        }
        if *role != "inspector" {
            session.is_refused_to_hear(role, "$JS.EVENT.ADVISORY.>");
        }
    }
    // Nothing of it had any effect.
    let left = |name: &str| runtime().block_on(messages(&admin.jetstream(), name));
    assert_eq!([left("JOBS"), left("KV_job_state")], [1, 1]);
    assert_eq!([left("DEAD_JOBS"), left("KV_leases"), left("OBJ_results")], [0, 0, 0]);
    assert_eq!([left("WEBHOOKS"), left("KV_webhook_state")], [0, 0]);

    for (role, subject, payload) in ANSWERED {
        Session::open(&nats, role).is_answered(role, subject, payload);
    }
    a_worker_takes_and_acknowledges(&nats);

    // A consumer of the inspector's own is told where to deliver: not into the queue.
    let inspector = Session::open(&nats, "inspector");
    let consumer = json!({"stream_name": "DEAD_JOBS", "config": {
        "name": "smuggler", "deliver_subject": "jobs.bulk.public.smuggled", "deliver_policy": "all",
        "ack_policy": "none", "replay_policy": "instant", "filter_subject": "dead.>",
        "inactive_threshold": 5_000_000_000_u64,
    }});
    let create = "$JS.API.CONSUMER.CREATE.DEAD_JOBS.smuggler.dead.>";
    inspector.is_answered("inspector", create, &consumer.to_string());
    let info = "$JS.API.STREAM.MSG.GET.JOBS";
    let smuggled = r#"{"last_by_subj":"jobs.bulk.public.smuggled"}"#;
    let answer = inspector.client.request(info, smuggled.into());
    let answer = runtime().block_on(answer).expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer["error"]["code"], 404, "{answer}");
}

/// Takes the job that waits in the bulk lane, and removes it by an acknowledgement.
fn a_worker_takes_and_acknowledges(nats: &Nats) {
    let worker = Session::open(nats, "worker");
    runtime().block_on(async {
        let inbox = worker.client.new_inbox();
        let mut deliveries = worker.client.subscribe(inbox.clone()).await.expect("subscribed");
        let ask = r#"{"batch":1,"no_wait":true}"#;
        let next = "$JS.API.CONSUMER.MSG.NEXT.JOBS.bulk";
        worker.client.publish_with_reply(next, inbox, ask.into()).await.expect("asked");
        let delivery = tokio::time::timeout(LIMIT, deliveries.next()).await.expect("an answer");
        let delivery = delivery.expect("a delivery");
        assert_eq!(delivery.subject.as_str(), "jobs.bulk.public.x", "{delivery:?}");
        let acknowledge = delivery.reply.expect("where to acknowledge");
        worker.client.request(acknowledge, "+ACK".into()).await.expect("acknowledged");
    });
    let admin = Session::open(nats, "admin");
    assert_eq!(
        runtime().block_on(messages(&admin.jetstream(), "JOBS")),
        1,
        "only the other lane's"
    );
}

async fn messages(jetstream: &jetstream::Context, name: &str) -> u64 {
    let stream = jetstream.get_stream(name).await.expect("the stream");
    stream.cached_info().state.messages
}

#[test]
fn nobody_gets_in_without_the_right_password_and_drift_is_told_before_it_is_corrected() {
    let directory = TempDir::new().expect("a directory");
    let nats = Nats::start(directory.path());
    let anonymous = runtime().block_on(async_nats::connect(nats.address()));
    assert!(anonymous.is_err(), "anonymous");
    for (user, word) in [("gateway", "wrong"), ("gateway", ""), ("nobody", "test-gateway")] {
        let options = ConnectOptions::with_user_and_password(user.to_owned(), word.to_owned());
        let refused = runtime().block_on(options.connect(nats.address()));
        assert!(refused.is_err(), "{user} with {word:?}");
    }

    let created = nats.provision(&[]);
    assert_eq!(created.matches(": created").count(), 11, "{created}");
    let jetstream = Session::open(&nats, "admin").jetstream();
    runtime().block_on(async {
        let found = jetstream.get_stream("JOBS").await.expect("the stream");
        let mut config = found.cached_info().config.clone();
        config.max_messages = 1000;
        jetstream.update_stream(config).await.expect("updated");
        let other = stream::Config { name: "OTHER".to_owned(), ..Default::default() };
        jetstream.create_stream(other).await.expect("created");
    });
    let max_messages = || {
        let found = runtime().block_on(jetstream.get_stream("JOBS")).expect("the stream");
        found.cached_info().config.max_messages
    };

    let told = nats.provision(&[]);
    assert!(told.contains("stream JOBS: differs\n  max_msgs is 1000, should be 2000000"), "{told}");
    assert_eq!(told.matches(": unchanged").count(), 10, "{told}");
    assert_eq!(max_messages(), 1000);

    let mut command = service("wordmill-nats", "admin", &nats.address(), &[]);
    let output = command.args(["provision", "--correct"]).output().expect("wordmill-nats runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(told.contains("stream JOBS: corrected\n  max_msgs is 1000"), "{told}");
    assert_eq!(max_messages(), 2_000_000);
    assert_eq!(nats.provision(&[]).matches(": unchanged").count(), 11);
    runtime().block_on(jetstream.get_stream("OTHER")).expect("what is not ours stays");
}

/// The three programs and the roles that they have.
const PROGRAMS: [(&str, &str); 3] =
    [("wordmill-nats", "admin"), ("wordmill-gateway", "gateway"), ("wordmill-worker", "worker")];

/// Each of the three programs ends by itself, not well, and says `sentence`, once.
fn all_refuse(address: &str, sentence: &str) {
    for (name, role) in PROGRAMS {
        let mut command = service(name, role, address, &[]);
        command.env("WORDMILL_LISTEN", "127.0.0.1:0").env("WORDMILL_WORKER_LISTEN", "127.0.0.1:0");
        if name == "wordmill-nats" {
            command.arg("provision");
        }
        let mut process = Process::start(name, command);
        let status = process.wait(LIMIT);
        assert!(!status.success(), "{name}: {}", process.output());
        wait_for(&format!("{name} says: {sentence}"), LIMIT, || {
            (process.output().matches(sentence).count() == 1).then_some(())
        });
    }
}

#[test]
fn a_server_without_jetstream_is_refused_in_one_sentence() {
    let directory = TempDir::new().expect("a directory");
    let users: Vec<String> = ["admin", "gateway", "worker"]
        .iter()
        .map(|role| format!("{{ user: {role}, password: {} }}", password(role)))
        .collect();
    let file = directory.path().join("plain.conf");
    let text = format!("authorization {{ users = [ {} ] }}\n", users.join(", "));
    std::fs::write(&file, text).expect("written");
    let mut command = Command::new(nats_server());
    command.arg("-c").arg(file).args(["--addr", "127.0.0.1", "--port", "-1"]);
    let server = Process::start("nats-server", command);
    let address = wait_for("nats-server listens", LIMIT, || {
        let output = server.output();
        let after = output.split("Listening for client connections on ").nth(1)?;
        output.contains("Server is ready").then_some(())?;
        Some(after.lines().next()?.trim().to_owned())
    });
    let sentence = format!(
        "nats-server at nats://{address} runs without JetStream: \
         start it with nats/server.conf or --jetstream"
    );
    all_refuse(&address, &sentence);
}

#[test]
fn a_server_that_is_too_old_is_refused_in_one_sentence() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || greet_as_old_server(&stream));
        }
    });
    let sentence = "nats-server 2.11.9 is too old: Wordmill needs 2.12 or newer";
    all_refuse(&address, sentence);
}

/// Speaks as much of the NATS protocol as a client needs to feel connected.
fn greet_as_old_server(stream: &TcpStream) -> Option<()> {
    let mut writer = stream;
    let info = json!({
        "server_id": "OLD", "server_name": "old", "version": "2.11.9", "proto": 1, "go": "go1.24",
        "host": "127.0.0.1", "port": 4222, "headers": true, "max_payload": 1_048_576,
        "jetstream": true, "auth_required": true, "client_id": 1,
    });
    write!(writer, "INFO {info}\r\n").ok()?;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if line.starts_with("PING") {
            writer.write_all(b"PONG\r\n").ok()?;
        }
    }
    Some(())
}
