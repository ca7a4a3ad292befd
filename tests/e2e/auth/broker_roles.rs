//! Rights of each role: permitted requests succeed and all others are refused, over the wire, with
//! the credentials of the role and the shipped configuration.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::process::{Process, nats_server};
use wordmill_tests::session::Session;
use wordmill_tests::stack::{
    ACK_SUBJECTS_V2, Nats, extended_configuration, password, service_command, shipped_configuration,
};
use wordmill_tests::{LIMIT, runtime, wait_for};

use crate::auth::broker_rights::{
    ANSWERED_REQUESTS, FORBIDDEN_TO_PUBLISH, FORBIDDEN_TO_PUBLISH_BY_ROLE, FORBIDDEN_TO_SUBSCRIBE,
    JOB, RECORD,
};

#[test]
fn every_role_has_exactly_its_rights() {
    assert_every_role_has_exactly_its_rights("");
}

#[test]
fn every_role_has_exactly_its_rights_with_ack_subjects_v2() {
    assert_every_role_has_exactly_its_rights(ACK_SUBJECTS_V2);
}

fn assert_every_role_has_exactly_its_rights(settings: &str) {
    let directory = TempDir::new().expect("a directory");
    let configuration = extended_configuration(directory.path(), settings);
    let nats = Nats::start_configured(directory.path(), &configuration, Vec::new());
    nats.provision(&[]);
    let admin = Session::open(&nats, "admin");
    admin.assert_answered("admin", JOB, "{}");
    admin.assert_answered("admin", RECORD, "{}");

    for (role, more) in FORBIDDEN_TO_PUBLISH_BY_ROLE {
        let session = Session::open(&nats, role);
        for subject in FORBIDDEN_TO_PUBLISH.iter().chain(*more) {
            session.assert_publish_refused(role, subject);
        }
        for subject in FORBIDDEN_TO_SUBSCRIBE {
            session.assert_subscribe_refused(role, subject);
        }
        for (other, _) in FORBIDDEN_TO_PUBLISH_BY_ROLE.iter().filter(|(other, _)| other != role) {
            session.assert_subscribe_refused(role, &format!("_INBOX_{other}.>"));
        }
        if *role != "inspector" {
            session.assert_subscribe_refused(role, "$JS.EVENT.ADVISORY.>");
        }
    }
    // None of the refused requests had an effect.
    let left = |name: &str| runtime().block_on(message_count(&admin.jetstream(), name));
    assert_eq!([left("JOBS"), left("KV_job_state")], [1, 1]);
    assert_eq!([left("DEAD_JOBS"), left("KV_leases"), left("OBJ_results")], [0, 0, 0]);
    assert_eq!([left("WEBHOOKS"), left("KV_webhook_state")], [0, 0]);

    for (role, subject, payload) in ANSWERED_REQUESTS {
        Session::open(&nats, role).assert_answered(role, subject, payload);
    }
    assert_worker_receives_and_acknowledges(&nats, settings == ACK_SUBJECTS_V2);
}

/// Pulls the job of the bulk lane and removes it with an acknowledgement.
fn assert_worker_receives_and_acknowledges(nats: &Nats, expects_version_2: bool) {
    let worker = Session::open(nats, "worker");
    runtime().block_on(async {
        let inbox = worker.client.new_inbox();
        let mut deliveries = worker.client.subscribe(inbox.clone()).await.expect("a subscription");
        let pull_request = r#"{"batch":1,"no_wait":true}"#;
        let next = "$JS.API.CONSUMER.MSG.NEXT.JOBS.bulk";
        worker
            .client
            .publish_with_reply(next, inbox, pull_request.into())
            .await
            .expect("the message is sent");
        let delivery = tokio::time::timeout(LIMIT, deliveries.next()).await.expect("an answer");
        let delivery = delivery.expect("a delivery");
        assert_eq!(delivery.subject.as_str(), "jobs.bulk.public.x", "{delivery:?}");
        let acknowledge = delivery.reply.expect("a reply subject");
        let is_version_2 = acknowledge.split('.').nth(4) == Some("JOBS");
        assert_eq!(is_version_2, expects_version_2, "{acknowledge}");
        worker.client.request(acknowledge, "+ACK".into()).await.expect("an acknowledgement");
    });
    let admin = Session::open(nats, "admin");
    assert_eq!(
        runtime().block_on(message_count(&admin.jetstream(), "JOBS")),
        1,
        "only the interactive job is left"
    );
}

async fn message_count(jetstream: &jetstream::Context, name: &str) -> u64 {
    let stream = jetstream.get_stream(name).await.expect("the stream");
    stream.cached_info().state.messages
}

#[test]
fn a_wrong_password_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let nats = Nats::start(directory.path());
    let anonymous = runtime().block_on(async_nats::connect(nats.address()));
    assert!(anonymous.is_err(), "anonymous");
    for (user, word) in [("gateway", "wrong"), ("gateway", ""), ("nobody", "test-gateway")] {
        let options = ConnectOptions::with_user_and_password(user.to_owned(), word.to_owned());
        let refused = runtime().block_on(options.connect(nats.address()));
        assert!(refused.is_err(), "{user} with {word:?}");
    }
}

#[test]
fn drift_of_the_topology_is_reported_before_it_is_corrected() {
    let directory = TempDir::new().expect("a directory");
    let nats = Nats::start(directory.path());
    let created = nats.provision(&[]);
    assert_eq!(created.matches(": created").count(), 11, "{created}");
    let jetstream = Session::open(&nats, "admin").jetstream();
    runtime().block_on(async {
        let stream = jetstream.get_stream("JOBS").await.expect("the stream");
        let mut config = stream.cached_info().config.clone();
        config.max_messages = 1000;
        jetstream.update_stream(config).await.expect("the stream is updated");
        let other = stream::Config { name: "OTHER".to_owned(), ..Default::default() };
        jetstream.create_stream(other).await.expect("the stream is created");
    });
    let max_messages = || {
        let stream = runtime().block_on(jetstream.get_stream("JOBS")).expect("the stream");
        stream.cached_info().config.max_messages
    };

    let report = nats.provision(&[]);
    assert!(
        report.contains("stream JOBS: differs\n  max_msgs: 1000, expected 2000000"),
        "{report}"
    );
    assert_eq!(report.matches(": unchanged").count(), 10, "{report}");
    assert_eq!(max_messages(), 1000);

    let mut command = service_command("wordmill-nats", "admin", &nats.address(), &[]);
    let output = command.args(["provision", "--correct"]).output().expect("wordmill-nats runs");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(report.contains("stream JOBS: corrected\n  max_msgs is 1000"), "{report}");
    assert_eq!(max_messages(), 2_000_000);
    assert_eq!(nats.provision(&[]).matches(": unchanged").count(), 11);
    runtime().block_on(jetstream.get_stream("OTHER")).expect("an unknown stream is unchanged");
}

/// Returns the lines of an account in the shipped configuration.
fn account_configuration(name: &str) -> String {
    let shipped = std::fs::read_to_string(shipped_configuration()).expect("a configuration");
    let begin = shipped.find(&format!("\n  {name} {{\n")).expect("the account");
    let end = shipped[begin..].find("\n  }\n").expect("its end");
    shipped[begin..begin + end].to_owned()
}

/// Returns the text between two markers of each line that has both.
fn between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    let parts = text.lines().filter_map(|line| line.split_once(before)?.1.split_once(after));
    parts.map(|(part, _)| part).collect()
}

/// Imports are the boundary between the accounts. Permissions only make the server report a
/// refusal. A request with a permission but without an import would time out, and an import without
/// a permission could never be used.
#[test]
fn an_account_imports_exactly_what_its_user_may_publish() {
    for (name, also_imported) in [("SWEEPER", Some("$JS.API.INFO")), ("INSPECTOR", None)] {
        let account = account_configuration(name);
        let (user, imports) = account.split_once("imports = [").expect("imports");
        let publish = user.split_once("subscribe").expect("subscribe permissions").0;
        let mut may_publish = between(publish, "    \"", "\"");
        may_publish.extend(also_imported);
        let services = between(imports, "service: { account: WORDMILL, subject: \"", "\"");
        assert_eq!(services, may_publish, "{name}");
        assert!(services.len() > 9, "{name}: {services:?}");
    }
}

/// The three programs and their roles.
const PROGRAMS: [(&str, &str); 3] =
    [("wordmill-nats", "admin"), ("wordmill-gateway", "gateway"), ("wordmill-worker", "worker")];

/// Asserts that each of the three programs fails at startup and logs `sentence` exactly once.
fn assert_all_programs_refuse(address: &str, sentence: &str) {
    for (name, role) in PROGRAMS {
        let mut command = service_command(name, role, address, &[]);
        command.env("WORDMILL_LISTEN", "127.0.0.1:0").env("WORDMILL_WORKER_LISTEN", "127.0.0.1:0");
        if name == "wordmill-nats" {
            command.arg("provision");
        }
        let mut process = Process::start(name, command);
        let status = process.wait_for_exit(LIMIT);
        assert!(!status.success(), "{name}: {}", process.output());
        wait_for(&format!("{name} logs: {sentence}"), LIMIT, || {
            (process.output().matches(sentence).count() == 1).then_some(())
        });
    }
}

#[test]
fn a_server_without_jetstream_is_refused_with_one_message() {
    let directory = TempDir::new().expect("a directory");
    let users: Vec<String> = ["admin", "gateway", "worker"]
        .iter()
        .map(|role| format!("{{ user: {role}, password: {} }}", password(role)))
        .collect();
    let file = directory.path().join("plain.conf");
    let text = format!("authorization {{ users = [ {} ] }}\n", users.join(", "));
    std::fs::write(&file, text).expect("the file is written");
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
    assert_all_programs_refuse(&address, &sentence);
}

#[test]
fn an_outdated_server_is_refused_with_one_message() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || greet_as_old_server(&stream));
        }
    });
    let sentence = "nats-server 2.11.9 is too old: Wordmill needs 2.12 or newer";
    assert_all_programs_refuse(&address, sentence);
}

/// Implements the part of the NATS protocol that a client needs to connect: INFO and PONG.
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
