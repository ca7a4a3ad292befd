//! Secrets of the services in files (`<name>_FILE`).

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::LIMIT;
use wordmill_tests::stack::{
    Gateway, Nats, Worker, password, provision, service_command, wait_until_ready,
};

const WEBHOOK_SECRET: &str = "an-unguessable-secret-of-webhooks-0123456789";

/// Writes a secret, as `echo` does, and returns the path of the file.
fn write_secret(folder: &Path, name: &str, secret: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("{secret}\n")).expect("the file is written");
    path.to_str().expect("a path").to_owned()
}

#[test]
fn the_services_start_with_secrets_from_files() {
    let directory = TempDir::new().expect("a directory");
    let file = |role: &str| write_secret(directory.path(), role, &password(role));
    let [admin, gateway, worker, sweeper] = ["admin", "gateway", "worker", "sweeper"].map(file);
    let webhooks = write_secret(directory.path(), "webhooks", WEBHOOK_SECRET);
    // An empty variable is not set.
    let settings = |password| {
        [
            ("WORDMILL_NATS_PASSWORD", ""),
            ("WORDMILL_NATS_PASSWORD_FILE", password),
            ("WORDMILL_NATS_SWEEPER_PASSWORD", ""),
            ("WORDMILL_NATS_SWEEPER_PASSWORD_FILE", sweeper.as_str()),
            ("WORDMILL_WEBHOOK_SECRETS_FILE", webhooks.as_str()),
        ]
    };
    let nats = Nats::start(directory.path());
    provision(&nats.address(), &settings(&admin));
    let mut gateway = Gateway::start(&nats.address(), &settings(&gateway));
    let worker = Worker::start(&nats.address(), &settings(&worker));
    wait_until_ready(&gateway.client);
    wait_until_ready(&worker.health);
    // The sweeper has a connection of its own.
    gateway.process.wait_for_log("sweeper lease acquired", LIMIT);
    let job_id = gateway.client.submit(&json!({"text": "a b"}));
    let job = gateway.client.wait_until_final(&job_id, LIMIT);
    assert_eq!(job["status"], "succeeded", "{job}");
    for process in [&gateway.process, &worker.process] {
        let output = process.output();
        for secret in [password("gateway"), password("worker"), password("sweeper")] {
            assert!(!output.contains(&secret), "{output}");
        }
        assert!(!output.contains(WEBHOOK_SECRET), "{output}");
    }
}

#[test]
fn unusable_secret_files_are_reported_together() {
    let directory = TempDir::new().expect("a directory");
    let file = write_secret(directory.path(), "password", "hunter2-of-a-file");
    let folder = directory.path().to_str().expect("a path");
    for (program, role, arguments) in [
        ("wordmill-gateway", "gateway", &[][..]),
        ("wordmill-worker", "worker", &[]),
        ("wordmill-nats", "admin", &["provision"]),
    ] {
        let settings = [
            ("WORDMILL_NATS_PASSWORD_FILE", file.as_str()),
            ("WORDMILL_WEBHOOK_SECRETS_FILE", folder),
            ("WORDMILL_NATS_SWEEPER_PASSWORD_FILE", "/missing/password"),
            ("WORDMILL_REPLICAS", "2"),
        ];
        let mut command = service_command(program, role, "127.0.0.1:1", &settings);
        let output = command.args(arguments).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(64), "{program}: {output:?}");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let both = "WORDMILL_NATS_PASSWORD and WORDMILL_NATS_PASSWORD_FILE are both set";
        assert!(text.contains(both), "{program}: {text}");
        assert!(text.contains("WORDMILL_REPLICAS=2: "), "{program}: {text}");
        for secret in [password(role).as_str(), "hunter2"] {
            assert!(!text.contains(secret), "{program}: {text}");
        }
        let unreadable = format!("WORDMILL_WEBHOOK_SECRETS_FILE={folder}: cannot read the file: ");
        assert_eq!(text.contains(&unreadable), program != "wordmill-nats", "{program}: {text}");
        let missing = "WORDMILL_NATS_SWEEPER_PASSWORD_FILE=/missing/password: cannot read the file";
        assert_eq!(text.contains(missing), program == "wordmill-gateway", "{program}: {text}");
    }
}
