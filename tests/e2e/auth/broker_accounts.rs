//! Broker accounts other than the shipped ones: the account `$G` of a version before accounts, and
//! a single account with one credential for all services.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::admin::Admin;
use wordmill_tests::cluster::Cluster;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::stack::{
    Gateway, Nats, Worker, password, service_command, shipped_configuration, wait_until_ready,
};
use wordmill_tests::{LIMIT, wait_for};

/// Writes a nats-server configuration and returns its path.
fn write_configuration(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("other.conf");
    let text = format!("max_payload: 4MB\njetstream {{ sync_interval: 1s }}\n{text}\n");
    std::fs::write(&path, text).expect("the file is written");
    path
}

/// Returns a configuration with all roles as users of the account `$G`, as in versions without
/// accounts.
fn configuration_without_accounts() -> String {
    let user = |role| format!("{{ user: {role}, password: {} }}", password(role));
    let users = ["gateway", "worker", "sweeper", "inspector", "admin"].map(user).join(", ");
    format!("authorization {{ users = [ {users} ] }}")
}

/// Runs `wordmill-nats provision` and returns whether it succeeded, with its output.
fn try_to_provision(address: &str) -> (bool, String) {
    let mut command =
        service_command("wordmill-nats", "admin", address, &[("WORDMILL_REPLICAS", "1")]);
    let output = command.arg("provision").output().expect("wordmill-nats runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn provision_requires_old_streams_to_be_moved_first() {
    let directory = TempDir::new().expect("a directory");
    let old = write_configuration(directory.path(), &configuration_without_accounts());
    let mut nats = Nats::start_configured(directory.path(), &old, Vec::new());
    nats.provision(&[]);
    let gateway = Gateway::start(&nats.address(), &[]);
    wait_until_ready(&gateway.client);
    let job = gateway.client.submit(&json!({"text": "one two three"}));
    drop(gateway);

    nats.process.stop();
    nats.restart_configured(&shipped_configuration());
    let (succeeded, refusal) = try_to_provision(&nats.address());
    assert!(!succeeded, "{refusal}");
    assert!(refusal.contains("Nothing was created"), "{refusal}");
    let created = Admin::connect(&nats).stream_names();
    assert!(created.is_empty(), "{created:?}");

    nats.process.stop();
    let moving = refusal.lines().find_map(|line| line.trim().strip_prefix("2. "));
    let moving = moving.expect("a command");
    let moved = Command::new("bash").args(["-ec", moving]).status().expect("bash runs");
    assert!(moved.success(), "{moving}");
    nats.restart();
    let (succeeded, report) = try_to_provision(&nats.address());
    assert!(succeeded, "{report}");
    assert_eq!(report.matches(": unchanged").count(), 11, "{report}");

    let gateway = Gateway::start(&nats.address(), &[]);
    let _worker = Worker::start(&nats.address(), &[]);
    wait_until_ready(&gateway.client);
    assert_eq!(gateway.client.wait_until_final(&job, LIMIT)["totals"]["words"], 3);
}

#[test]
fn provision_detects_streams_in_a_cluster_without_accounts() {
    let directory = TempDir::new().expect("a directory");
    let old = write_configuration(directory.path(), &configuration_without_accounts());
    let mut cluster = Cluster::configured(3, &old);
    cluster.provision(&[]);
    cluster.restart_unchecked(&shipped_configuration());
    let address = cluster.addresses().join(",");
    wait_for("provision refuses", LIMIT, || {
        // Before the servers have elected a leader, provisioning fails for another reason.
        let (succeeded, refusal) = try_to_provision(&address);
        assert!(!succeeded, "{refusal}");
        refusal.contains("nats backup restore stream").then_some(())
    });
    cluster.restart_configured(&old);
    let names = Admin::connect_to_any(&cluster.addresses()).stream_names();
    assert_eq!(names.len(), 8, "the old streams are unchanged: {names:?}");
}

#[test]
fn all_services_can_share_one_account_and_credential() {
    let directory = TempDir::new().expect("a directory");
    let account =
        "accounts { CUSTOMER { jetstream: enabled, users: [ { user: us, password: one } ] } }";
    let one = write_configuration(directory.path(), account);
    let nats = Nats::start_configured(directory.path(), &one, Vec::new());
    let settings = [
        ("WORDMILL_NATS_USER", "us"),
        ("WORDMILL_NATS_PASSWORD", "one"),
        ("WORDMILL_NATS_SWEEPER_USER", "us"),
        ("WORDMILL_NATS_SWEEPER_PASSWORD", "one"),
        ("WORDMILL_SWEEP_INTERVAL", "1s"),
    ];
    let created = nats.provision(&settings);
    assert_eq!(created.matches(": created").count(), 11, "{created}");
    let gateway = Gateway::start(&nats.address(), &settings);
    let worker = Worker::start(&nats.address(), &settings);
    wait_until_ready(&gateway.client);
    wait_until_ready(&worker.health);
    let text = "one two three ".repeat(20_000);
    let type_ = [("content-type", "text/plain")];
    let answer = gateway.client.send("POST", "/v1/jobs", &type_, text.as_bytes());
    let job = answer.json()["job_id"].as_str().expect("a job").to_owned();
    assert_eq!(gateway.client.wait_until_final(&job, LIMIT)["totals"]["words"], 60_000);
    assert_eq!(gateway.client.result(&job)["word_count"]["two"], 20_000);
    wait_for("the sweeper runs", LIMIT, || {
        let active = Metrics::fetch(&gateway.client).sum("wordmill_sweeper_active", &[]);
        (active == Some(1.0)).then_some(())
    });
}
