//! Runs the commands of `nats/README.md` as written, with the real `nats` CLI, as the inspector.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::process::Process;
use wordmill_tests::stack::{Stack, Worker, password, wait_until_ready};
use wordmill_tests::{LIMIT, repository, wait_for};

/// Beginning of each command block, and texts that both the page and the real output must show. A
/// `~` matches the id of the current job.
const EXPECTED_OUTPUTS: &[(&str, &[&str])] = &[
    ("BROKER=", &[]),
    ("nats context add", &[]),
    ("submit()", &[]),
    (
        "nats stream report",
        &["Consumers │ Messages", "│ JOBS             │ File    │           │ 2         │ 1 "],
    ),
    ("nats consumer report JOBS", &["Ack Pending │ Redelivered │ Unprocessed", "│ 1 / 100%"]),
    (
        "nats consumer info JOBS interactive",
        &["Outstanding Acks: 0", "Unprocessed Messages: 1", "Waiting Pulls: 0 of maximum 512"],
    ),
    ("nats stream info JOBS", &["WorkQueue", "2,000,000", "8.0 GiB", "7d0h0m0s", "Messages: 1"]),
    ("nats stream subjects JOBS", &["│ jobs.interactive.public.~ │ 1"]),
    (
        "nats stream get JOBS",
        &[
            "Item: JOBS#1",
            "traceparent: 00-",
            "Nats-Msg-Id: public.~",
            r#""source":{"kind":"text""#,
        ],
    ),
    ("nats kv get job_state", &[r#""job_id": "~""#, r#""status": "queued""#, r#""book": "cats""#]),
    ("nats stream subjects KV_job_state", &["$KV.job_state.public.~"]),
    ("DOCUMENT=", &["│ $O.documents.C.", "│ 3 "]),
    ("nats sub 'events", &["events.$KV.job_state.public.~", "Status: succeeded", "Nats-Sequence:"]),
    ("nats sub --headers-only", &["Wordmill-Status: queued", "Wordmill-Status: succeeded"]),
    ("nats stream subjects DEAD_JOBS", &["│ dead.interactive.public.~ │ 1"]),
    (
        "nats stream get DEAD_JOBS",
        &["Wordmill-Failure-Code: fetch_connect", "Wordmill-Attempts: 2", "Nats-Msg-Id: public.~"],
    ),
    ("BIG=", &[]),
    ("nats stream subjects OBJ_results", &["$O.results.C.~_", "│ 1 "]),
    ("CHUNK=", &[r#"{"word0":1,"word1":1,"word10":1"#]),
    ("nats events", &["JetStream API Access", "$JS.API.STREAM.INFO.JOBS", "User: worker"]),
    ("nats kv put", &[r#"Permissions Violation for Publish to "$KV.job_state.public.~""#]),
    ("nats pub", &[r#"Permissions Violation for Publish to "jobs.interactive.public.~""#]),
];

/// A command block of the page, and the output that is printed below it.
struct Block {
    commands: String,
    output: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if !matches!(line, "```sh" | "```text") {
            continue;
        }
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let body = body.join("\n");
        if line == "```sh" {
            blocks.push(Block { commands: body, output: String::new() });
        } else {
            blocks.last_mut().expect("an output follows its commands").output = body;
        }
    }
    blocks
}

/// A shell that keeps its variables across blocks. It has its own home directory, and the CLI in
/// its `PATH`.
struct Shell {
    home: TempDir,
}

impl Shell {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        std::os::unix::fs::symlink(cli(), home.path().join("nats")).expect("a link");
        std::fs::write(home.path().join("variables"), "").expect("the file is written");
        Self { home }
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        let script = format!("set -e; PATH=\"$PWD:$PATH\"; . ./variables\n{script}");
        command.args(["-c", &script]).current_dir(self.home.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("NATS_") {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a block, and returns whether it succeeded, and its output.
    fn run(&self, commands: &str) -> (bool, String) {
        let keep = "{ declare -p BROKER GATEWAY JOB BIG CHUNK; declare -f submit; } \
                    >variables 2>/dev/null || true";
        let output = self.command(&format!("{commands}\n{keep}")).output().expect("bash runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Starts a block that runs until it is killed.
    fn start(&self, commands: &str) -> Process {
        Process::start("nats", self.command(&format!("exec {commands}")))
    }

    fn variable(&self, name: &str) -> String {
        let (_, text) = self.run(&format!("echo \"${name}\""));
        text.trim().to_owned()
    }
}

/// Returns the path of the CLI. Installs it if necessary.
pub(crate) fn cli() -> PathBuf {
    let installer = repository().join("nats/install-cli");
    let output =
        Command::new(&installer).stderr(Stdio::inherit()).output().expect("the installer runs");
    assert!(output.status.success(), "cannot install the nats CLI, see above");
    Path::new(String::from_utf8(output.stdout).expect("a path").trim()).to_owned()
}

/// Asserts that both the page and `output` show `facts`, with the job `id`.
fn assert_shown(block: &Block, output: &str, facts: &[&str], id: &str) {
    for fact in facts {
        let mut parts = fact.split('~');
        assert!(
            parts.all(|part| block.output.contains(part)),
            "the page does not show {fact:?} below {}",
            block.commands
        );
        let fact = fact.replace('~', id);
        assert!(
            output.contains(&fact),
            "{fact:?} is not in the output of {}:\n{output}",
            block.commands
        );
    }
}

#[test]
fn the_commands_of_the_nats_readme_work() {
    let page = std::fs::read_to_string(repository().join("nats/README.md")).expect("the page");
    let settings = [("WORDMILL_ATTEMPTS", "2"), ("WORDMILL_RETRY_BASE", "50ms")];
    let stack = Stack::with(1, 0, &settings);
    let address = stack.nats.address();
    let client = stack.client();
    let shell = Shell::new();
    let mut worker = None;
    let mut job_id = String::new();
    let blocks = blocks(&page);
    for block in &blocks {
        let (_, facts) = EXPECTED_OUTPUTS
            .iter()
            .find(|(begin, _)| block.commands.starts_with(begin))
            .unwrap_or_else(|| panic!("no entry of EXPECTED_OUTPUTS matches {}", block.commands));
        match block.commands.as_str() {
            // The addresses of `make run` are replaced with those of the test.
            commands if commands.starts_with("BROKER=") => {
                let gateway = client.url("");
                let ours = format!("BROKER=nats://{address}\nGATEWAY={gateway}");
                assert!(shell.run(&ours).0, "the variables were not set");
                continue;
            }
            commands if commands.starts_with("nats stream subjects DEAD") => {
                let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
                let url = format!("http://{}/", closed.local_addr().expect("an address"));
                drop(closed);
                job_id = client.submit_url(&url);
                assert_eq!(client.wait_until_final(&job_id, LIMIT)["dead_lettered"], true);
            }
            commands if commands.starts_with("nats kv put") => job_id = shell.variable("JOB"),
            _ => {}
        }
        let commands = block.commands.replace("dev-inspector", &password("inspector"));
        if !commands.starts_with("nats sub") && !commands.starts_with("nats events") {
            let (succeeded, output) = shell.run(&commands);
            let refused = output.contains("Permissions Violation");
            assert_eq!(succeeded, !refused, "{commands}:\n{output}");
            let may_be_refused = ["nats kv put", "nats pub"].iter();
            let expected = may_be_refused.clone().any(|begin| commands.starts_with(begin));
            assert_eq!(refused, expected, "{commands}:\n{output}");
            if commands.starts_with("submit()") {
                job_id = shell.variable("JOB");
            } else if commands.starts_with("BIG=") {
                job_id = shell.variable("BIG");
                assert_eq!(client.wait_until_final(&job_id, LIMIT)["status"], "succeeded");
            }
            assert_shown(block, &output, facts, &job_id);
            continue;
        }

        let live = shell.start(&commands);
        wait_for(&format!("{commands} listens"), LIMIT, || {
            ["Subscribing", "Listening"]
                .iter()
                .any(|word| live.output().contains(word))
                .then_some(())
        });
        wait_until_subscribed(&stack);
        if commands.starts_with("nats events") {
            worker = Some(Worker::start(&address, &settings));
        } else if worker.is_none() {
            let first = Worker::start(&address, &settings);
            wait_until_ready(&first.health);
            worker = Some(first);
        } else if commands.contains("--headers-only") {
            client.submit(&json!({"text": "tea for two"}));
        }
        wait_for(&format!("{commands} shows {facts:?}"), LIMIT, || {
            let output = live.output();
            facts.iter().all(|fact| output.contains(&fact.replace('~', &job_id))).then_some(())
        });
        assert_shown(block, &live.output(), facts, &job_id);
    }
    assert_eq!(
        blocks.len(),
        EXPECTED_OUTPUTS.len(),
        "EXPECTED_OUTPUTS must have one entry for each block of the page"
    );
}

/// Waits until the server has processed an announced subscription.
fn wait_until_subscribed(stack: &Stack) {
    // The CLI prints the announcement before it subscribes. These requests take longer than the
    // subscription.
    for _ in 0..20 {
        stack.client().get("/readyz");
    }
    wordmill_tests::pause(Duration::from_millis(300));
}
