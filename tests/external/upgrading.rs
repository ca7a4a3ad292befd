//! Runs the commands of `docs/upgrading.md` as written, on a server and on a cluster with the data
//! of a version without accounts.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::cluster::Cluster;
use wordmill_tests::stack::{
    Gateway, Nats, ROLES, Worker, password, provision, shipped_configuration, wait_until_ready,
};
use wordmill_tests::{LIMIT, repository, setting, wait_for};

/// Writes a configuration in which every role is a user of the account `$G`.
fn without_accounts(directory: &Path) -> PathBuf {
    let user = |role| format!("{{ user: {role}, password: {} }}", password(role));
    let users = ROLES.map(user).join(", ");
    let path = directory.join("without-accounts.conf");
    let text =
        format!("max_payload: 4MB\njetstream {{}}\nauthorization {{ users = [ {users} ] }}\n");
    std::fs::write(&path, text).expect("the file is written");
    path
}

/// Runs command block `number` of the page, counted from 1, with the `nats` CLI in the `PATH`.
/// Returns its output.
fn run(number: usize, directory: &Path, variables: &[(&str, &str)]) -> String {
    let page = std::fs::read_to_string(repository().join("docs/upgrading.md")).expect("the page");
    let block = page.split("```sh\n").nth(number).expect("a block");
    let commands = block.split("```").next().expect("the end of the block");
    let cli =
        PathBuf::from(setting("NATS_CLI").expect("NATS_CLI must be set: run `make test-external`"));
    let folder = cli.parent().expect("a folder").display();
    let script = format!("PATH=\"{folder}:$PATH\"\n{commands}");
    let mut command = Command::new("bash");
    command.args(["-euc", &script]).current_dir(directory).env("HOME", directory);
    let output = command.envs(variables.iter().copied()).output().expect("bash runs");
    assert!(output.status.success(), "{commands}{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Submits a small job, and a large one whose document is in the object store.
fn submit(address: &str) -> [String; 2] {
    let gateway = Gateway::start(address, &[("WORDMILL_REPLICAS", replicas(address))]);
    wait_until_ready(&gateway.client);
    let small = gateway.client.submit(&json!({"text": "one two three"}));
    let text = "one two three ".repeat(20_000);
    let type_ = [("content-type", "text/plain")];
    let answer = gateway.client.send("POST", "/v1/jobs", &type_, text.as_bytes());
    [small, answer.json()["job_id"].as_str().expect("a job").to_owned()]
}

fn replicas(address: &str) -> &'static str {
    if address.contains(',') { "3" } else { "1" }
}

/// Provisions the topology, asserts that it is unchanged, and waits until the jobs have succeeded.
fn assert_upgrade_succeeded(address: &str, jobs: &[String; 2]) {
    let settings = [("WORDMILL_REPLICAS", replicas(address))];
    let report = provision(address, &settings);
    assert_eq!(report.matches(": unchanged").count(), 11, "{report}");
    let gateway = Gateway::start(address, &settings);
    let _worker = Worker::start(address, &settings);
    wait_until_ready(&gateway.client);
    for (job, words) in jobs.iter().zip([3, 60_000]) {
        assert_eq!(gateway.client.wait_until_final(job, LIMIT)["totals"]["words"], words);
    }
}

#[test]
fn upgrading_a_server_keeps_its_jobs() {
    let directory = TempDir::new().expect("a directory");
    let store = directory.path().to_str().expect("a path");
    let old = without_accounts(directory.path());
    let mut nats = Nats::start_configured(directory.path(), &old, Vec::new());
    nats.provision(&[]);
    let jobs = submit(&nats.address());
    nats.process.stop();
    run(1, directory.path(), &[("STORE", store)]);
    nats.restart_configured(&shipped_configuration());
    assert_upgrade_succeeded(&nats.address(), &jobs);
}

#[test]
fn upgrading_a_cluster_keeps_its_jobs() {
    let directory = TempDir::new().expect("a directory");
    let old = without_accounts(directory.path());
    let mut cluster = Cluster::configured(3, &old);
    cluster.provision(&[]);
    let addresses = cluster.addresses();
    let jobs = submit(&addresses.join(","));
    let broker = format!("nats://{}", addresses[0]);
    let mut variables = vec![("BROKER", broker.as_str()), ("ADMIN_PASSWORD", "test-admin")];
    let validated = run(2, directory.path(), &variables);
    assert_eq!(validated.matches("\nOK: ").count(), 8, "{validated}");
    // Variables that the block above exports for the blocks below.
    variables.extend([("NATS_URL", broker.as_str()), ("NATS_USER", "admin")]);
    variables.push(("NATS_PASSWORD", "test-admin"));
    run(3, directory.path(), &variables);
    cluster.restart_configured(&shipped_configuration());
    wait_for("all streams are restored", LIMIT, || {
        (!run(4, directory.path(), &variables).contains("not restored: ")).then_some(())
    });
    assert_upgrade_succeeded(&addresses.join(","), &jobs);
}
