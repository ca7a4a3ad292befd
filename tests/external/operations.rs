//! Runs the commands for dead letters in docs/operations.md as written, in one shell session.

use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::admin::Admin;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, password};
use wordmill_tests::{LIMIT, repository, wait_for};

use crate::nats_cli::cli;

/// Separates the outputs of two blocks.
const END: &str = "=== end of block ===";

/// Returns the command blocks of a page, which may be indented as part of a list.
fn blocks(page: &str) -> Vec<String> {
    let mut lines = page.lines().map(str::trim_start);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        if line == "```sh" {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(body.join("\n"));
        }
    }
    blocks
}

/// Runs blocks in one shell, each with the role in its comment, and returns their outputs.
fn run(blocks: &[String], stack: &Stack) -> Vec<String> {
    let home = TempDir::new().expect("a directory");
    std::os::unix::fs::symlink(cli(), home.path().join("nats")).expect("a link");
    let mut script = String::from("set -eu\nPATH=\"$PWD:$PATH\"\n");
    for role in ["inspector", "admin"] {
        let server = stack.nats.address();
        let password = password(role);
        script += &format!(
            "nats context add {role} --server nats://{server} --user {role} \
             --password {password} --inbox-prefix _INBOX_{role} >context\n"
        );
    }
    for block in blocks {
        let role = if block.contains("# as admin") { "admin" } else { "inspector" };
        script += &format!("export NATS_CONTEXT={role}\n{block}\necho '{END}'\n");
    }
    let script = script.replace("http://127.0.0.1:8080", &stack.client().url(""));
    let session = Command::new("bash")
        .args(["-c", &script])
        .current_dir(home.path())
        .env("HOME", home.path())
        .env("XDG_CONFIG_HOME", home.path().join("config"))
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&session.stdout).into_owned();
    let errors = String::from_utf8_lossy(&session.stderr);
    assert!(session.status.success(), "{text}\n{errors}");
    text.split(END).map(|output| output.trim().to_owned()).collect()
}

#[test]
fn the_documented_commands_for_dead_letters_work() {
    let stack = Stack::with(1, 1, &[("WORDMILL_ATTEMPTS", "1")]);
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let url = site.put("/busy", Page::status("503 Service Unavailable"));
    let create_dead_letter = |lane: &str| {
        let before = admin.message_count("DEAD_JOBS");
        let job_id = stack.client().submit(&json!({"url": url, "lane": lane}));
        wait_for("the dead letter is stored", LIMIT, || {
            (admin.message_count("DEAD_JOBS") > before).then_some(())
        });
        job_id
    };
    let first = create_dead_letter("interactive");
    let bulk = create_dead_letter("bulk");
    let newest = create_dead_letter("interactive");
    // A replayed job must succeed.
    site.put("/busy", Page::new("text/plain", "a b"));

    let page = std::fs::read_to_string(repository().join("docs/operations.md")).expect("the page");
    let page =
        page.split("\n## ").find(|part| part.starts_with("Dead letters")).expect("the section");
    let blocks = blocks(page);
    let outputs = run(&blocks, &stack);
    let [list, one, as_stream, dry, replayed, deleted, by_admin] = &outputs[..7] else {
        panic!("{outputs:?}");
    };
    assert_eq!(blocks.len(), 7, "number of blocks");

    let read = |text: &str| -> Value { serde_json::from_str(text).expect("JSON") };
    let ids: Vec<Value> = read(list)["data"]
        .as_array()
        .expect("dead letters")
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    assert_eq!(ids, [&newest, &bulk, &first].map(|id| json!(id)), "{list}");
    assert_eq!(read(one)["id"], newest.as_str(), "{one}");
    for shown in [format!("dead.bulk.public.{bulk}"), format!("Nats-Msg-Id: public.{newest}")] {
        assert!(as_stream.contains(&shown), "{as_stream}");
    }
    assert!(dry.contains(&bulk) && !dry.contains(&newest), "{dry}");
    assert!(replayed.contains(r#""outcome": "replayed""#), "{replayed}");
    assert!(deleted.ends_with("204"), "{deleted}");
    assert!(by_admin.contains("Purged 1 messages"), "{by_admin}");
    assert_eq!(admin.message_count("DEAD_JOBS"), 0);
    admin.wait_until_idle();
    assert_eq!(site.hits("/busy"), 4, "only the newest job was replayed");
}
