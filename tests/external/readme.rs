//! Runs the first steps of the README and the guide to the API as written, with `make run`.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use wordmill_tests::client::Client;
use wordmill_tests::process::Process;
use wordmill_tests::{port, repository, wait_for};

/// Separates the outputs of two blocks.
const END: &str = "=== end of block ===";

/// A command block of the page, and the output that is printed below it.
struct Block {
    commands: String,
    expected: Option<String>,
}

/// Returns the `sh` blocks, each with the `text` block that follows it. Blocks marked `bash` are
/// skipped, because they depend on the environment: `make run` itself, Docker, public pages.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("```") {
            continue;
        }
        let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let body = body.join("\n");
        match line {
            "```sh" => blocks.push(Block { commands: body, expected: None }),
            "```text" => {
                let last = blocks.last_mut().expect("an output follows its commands");
                last.expected = Some(body);
            }
            _ => {}
        }
    }
    blocks
}

/// Returns whether an output matches the page. A line `…` matches any number of lines, and `…`
/// within a line matches any text.
fn matches(expected: &[&str], actual: &[&str]) -> bool {
    let Some((first, rest)) = expected.split_first() else {
        return actual.is_empty();
    };
    if first.trim() == "…" {
        return (0..=actual.len()).any(|skipped| matches(rest, &actual[skipped..]));
    }
    let Some((line, actual)) = actual.split_first() else {
        return false;
    };
    let line_matches = match first.split_once('…') {
        None => first == line,
        Some((head, tail)) => line.starts_with(head) && line.ends_with(tail),
    };
    line_matches && matches(rest, actual)
}

fn make_run(port: u16, nats_port: u16, data: &TempDir) -> Process {
    make_run_with(port, nats_port, data, &[])
}

fn make_run_with(
    port: u16,
    nats_port: u16,
    data: &TempDir,
    settings: &[(&str, String)],
) -> Process {
    let mut command = Command::new("make");
    command
        .current_dir(repository())
        .arg("run")
        .env("PORT", port.to_string())
        .env("NATS_PORT", nats_port.to_string())
        .env("DATA_DIR", data.path())
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .process_group(0);
    // Remove the variables that cargo sets for tests, which would cause a rebuild.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let keeps = ["CARGO_HOME", "CARGO_TARGET_DIR"].contains(&name.as_str());
        if name.starts_with("CARGO") && !keeps || name.starts_with("WORDMILL_") || name == "BIN_DIR"
        {
            command.env_remove(name);
        }
    }
    Process::start("make run", command)
}

#[test]
fn the_first_steps_of_the_readme_work_as_printed() {
    assert_works_as_printed("README.md", 3);
}

#[test]
fn the_guide_to_the_api_works_as_printed() {
    assert_works_as_printed("docs/api.md", 16);
}

/// Runs the blocks of a page, and compares their outputs. The page must have at least `blocks_min`
/// blocks.
fn assert_works_as_printed(page: &str, blocks_min: usize) {
    let page = std::fs::read_to_string(repository().join(page)).expect("the page");
    let blocks = blocks(&page);
    assert!(blocks.len() >= blocks_min, "only {} blocks", blocks.len());
    let (port, nats_port, pages_port) = (port::reserve(), port::reserve(), port::reserve());
    let data = TempDir::new().expect("a directory");
    let mut run = make_run(port, nats_port, &data);
    wait_until_ready(&mut run);

    // All blocks run in one session. Only the ports differ from the page.
    let mut script = String::from("set -u\n");
    for block in &blocks {
        script += &format!("{}\necho '{END}'\n", block.commands);
    }
    let script = script
        .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
        .replace("8000", &pages_port.to_string());
    let session = Command::new("bash")
        .current_dir(repository())
        .args(["-c", &script])
        .output()
        .expect("bash runs");
    let text = String::from_utf8_lossy(&session.stdout).into_owned();
    let errors = String::from_utf8_lossy(&session.stderr);
    let outputs: Vec<&str> = text.split(END).map(str::trim).collect();
    for (block, output) in blocks.iter().zip(outputs) {
        let Some(expected) = &block.expected else {
            continue;
        };
        let expected_lines: Vec<&str> = expected.trim().lines().collect();
        let actual: Vec<&str> = output.lines().collect();
        let commands = &block.commands;
        assert!(
            matches(&expected_lines, &actual),
            "{commands}\nprints\n{output}\nexpected\n{expected}\n{errors}"
        );
    }
    stop(&mut run);
}

#[test]
fn a_second_run_finds_the_jobs_of_the_first() {
    let (port, nats_port) = (port::reserve(), port::reserve());
    let data = TempDir::new().expect("a directory");
    let client = Client::new(&format!("127.0.0.1:{port}"));
    let mut first = make_run(port, nats_port, &data);
    wait_until_ready(&mut first);
    let job_id = client.submit(&serde_json::json!({"text": "still here"}));
    client.wait_until_final(&job_id, Duration::from_secs(20));

    stop(&mut first);
    let mut second = make_run(port, nats_port, &data);
    wait_until_ready(&mut second);
    assert_eq!(client.wait_until_final(&job_id, Duration::from_secs(5))["totals"]["words"], 2);
    stop(&mut second);
}

#[test]
fn a_run_names_the_port_or_the_data_that_another_run_uses() {
    let (port, nats_port) = (port::reserve(), port::reserve());
    let data = TempDir::new().expect("a directory");
    let mut first = make_run(port, nats_port, &data);
    wait_until_ready(&mut first);

    let other = TempDir::new().expect("a directory");
    let mut same_ports = make_run(port, nats_port, &other);
    let status = same_ports.wait_for_exit(Duration::from_secs(60));
    let output = same_ports.output();
    assert!(!status.success(), "{output}");
    assert!(output.contains(&port.to_string()) && output.contains("make run PORT="), "{output}");
    let mut same_data = make_run(port::reserve(), port::reserve(), &data);
    assert!(!same_data.wait_for_exit(Duration::from_secs(60)).success());
    assert!(same_data.output().contains("DATA_DIR"), "{}", same_data.output());
    stop(&mut first);
}

#[test]
fn a_run_with_traces_shows_a_job_in_the_terminal() {
    let (port, nats_port) = (port::reserve(), port::reserve());
    let data = TempDir::new().expect("a directory");
    let [http, grpc, otlp] = [(); 3].map(|()| port::reserve().to_string());
    let settings = [
        ("TRACE", "1".to_owned()),
        ("JAEGER_PORT", http.clone()),
        ("JAEGER_GRPC_PORT", grpc),
        ("JAEGER_OTLP_PORT", otlp),
    ];
    let mut run = make_run_with(port, nats_port, &data, &settings);
    wait_until_ready(&mut run);
    assert!(run.output().contains(&format!("http://127.0.0.1:{http}")), "{}", run.output());
    let client = Client::new(&format!("127.0.0.1:{port}"));
    let job_id = client.submit(&serde_json::json!({"text": "one two three"}));
    let job = client.wait_until_final(&job_id, Duration::from_secs(20));
    let trace_id = job["trace_id"].as_str().expect("a trace id");
    let link = format!("http://127.0.0.1:{http}/trace/{trace_id}");
    assert_eq!(job["links"]["trace"], link, "{job}");
    for name in [job_id.as_str(), trace_id] {
        assert!(shown_trace(&http, name).contains(trace_id));
    }
    assert_jaeger_restarts(&mut run, &client, &http);
    stop(&mut run);
}

/// Kills Jaeger, and asserts that `make run` restarts it and that it receives the next trace.
fn assert_jaeger_restarts(run: &mut Process, client: &Client, http: &str) {
    let jaeger = run.descendants("jaeger.yaml");
    assert_eq!(jaeger.len(), 1, "{jaeger:?}");
    kill_process(jaeger[0], Signal::KILL).expect("Jaeger can be killed");
    wait_for("Jaeger is restarted", Duration::from_secs(60), || {
        assert!(run.exit_status().is_none(), "{}", run.output());
        run.output().contains("| jaeger is ready again").then_some(())
    });
    assert!(run.output().contains("| jaeger died (killed by SIGKILL); restarting in 1 s"));
    let job_id = client.submit(&serde_json::json!({"text": "one two three"}));
    client.wait_until_final(&job_id, Duration::from_secs(20));
    shown_trace(http, &job_id);
}

/// Returns the output of `make trace` for a job or a trace, once the trace is complete.
fn shown_trace(http: &str, name: &str) -> String {
    let shown = wait_for("all four spans are shown", Duration::from_secs(60), || {
        let mut command = Command::new("make");
        command.current_dir(repository()).arg("trace").env("JOB", name);
        let output = command.env("JAEGER_PORT", http).output().expect("make runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text.lines().count() >= 5).then_some(text)
    });
    for part in ["POST /v1/jobs", "  publish jobs", "    process jobs", "count words"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    shown
}

fn wait_until_ready(run: &mut Process) {
    wait_for("make run is ready", Duration::from_secs(600), || {
        assert!(run.exit_status().is_none(), "{}", run.output());
        run.output().lines().any(|line| line == "ready").then_some(())
    });
}

/// Stops the run like Ctrl-C in a terminal.
fn stop(run: &mut Process) {
    run.signal_group(Signal::INT);
    run.wait_for_exit(Duration::from_secs(60));
    wait_for("make run reports that it has stopped", Duration::from_secs(30), || {
        run.output().lines().any(|line| line.ends_with("| stopped")).then_some(())
    });
}
