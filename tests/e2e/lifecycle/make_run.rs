//! `make run` restarts crashed services, and stops if a restart would not help.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::client::Client;
use wordmill_tests::process::{Process, binary, nats_server};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::{LIMIT, port, repository, wait_for};

const PROGRAMS: [&str; 3] = ["nats-server", "wordmill-gateway", "wordmill-worker"];

/// A run of the script that `make run` starts, with one worker and its own ports.
struct Run {
    process: Process,
    client: Client,
    ports: [u16; 3],
    _data: TempDir,
}

impl Run {
    fn start(settings: &[(&str, &str)]) -> Self {
        let data = TempDir::new().expect("a directory");
        let ports @ [gateway, nats, worker] = [(); 3].map(|()| port::reserve());
        let mut command = Command::new("python3");
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy();
            if name.starts_with("WORDMILL_") || name.starts_with("OTEL_") {
                command.env_remove(key);
            }
        }
        command
            .arg(repository().join("deploy/local/run.py"))
            .env("PORT", gateway.to_string())
            .env("NATS_PORT", nats.to_string())
            .env("WORDMILL_WORKER_LISTEN", format!("127.0.0.1:{worker}"))
            .env("WORKERS", "1")
            .env("DATA_DIR", data.path())
            .env("BIN_DIR", binary("wordmill-gateway").parent().expect("a directory"))
            .env("NATS_SERVER", nats_server())
            .env_remove("TRACE")
            .envs(settings.iter().copied());
        let process = Process::start("make run", command);
        let client = Client::new(&format!("127.0.0.1:{gateway}"));
        Self { process, client, ports, _data: data }
    }

    fn start_and_wait() -> Self {
        let mut run = Self::start(&[]);
        run.wait_for_line("ready");
        run
    }

    /// Waits for the output line `text`, which may follow the name of a service.
    fn wait_for_line(&mut self, text: &str) {
        let named = format!("| {text}");
        wait_for(&format!("the line {text:?}"), LIMIT, || {
            let has_ended = self.process.exit_status().is_some();
            let output = self.process.output();
            let is_printed = output.lines().any(|line| line == text || line.ends_with(&named));
            assert!(is_printed || !has_ended, "no line {text:?}:\n{output}");
            is_printed.then_some(())
        });
    }

    /// Waits for a process of `program` other than `previous`, kills it, and returns its id.
    fn kill_program(&mut self, program: &str, previous: Option<Pid>) -> Pid {
        let id = wait_for(&format!("{program} runs"), LIMIT, || {
            assert!(self.process.exit_status().is_none(), "{}", self.process.output());
            self.process.descendants(program).into_iter().find(|id| Some(*id) != previous)
        });
        kill_process(id, Signal::KILL).expect("the service can be killed");
        id
    }

    /// Kills a service, and asserts that the crash is reported once and that a new process replaces
    /// it.
    fn assert_restarts(&mut self, program: &str, name: &str) {
        let killed = self.kill_program(program, None);
        self.wait_for_line(&format!("{name} died (killed by SIGKILL); restarting in 1 s"));
        self.wait_for_line(&format!("{name} is ready again"));
        let running = self.process.descendants(program);
        assert_eq!(running.len(), 1, "{running:?}");
        assert_ne!(running, [killed]);
        assert_eq!(
            self.process.descendants("").len(),
            PROGRAMS.len(),
            "only the new process exists"
        );
        assert_eq!(self.count_lines(" died "), 1, "{}", self.process.output());
    }

    /// Submits a job and waits until it has succeeded.
    fn run_job(&self) {
        let job_id = self.client.submit(&json!({"text": "two words"}));
        self.assert_succeeds(&job_id);
    }

    fn assert_succeeds(&self, job_id: &str) {
        let job = self.client.wait_until_final(job_id, LIMIT);
        assert_eq!(job["totals"]["words"], 2, "{job}");
    }

    /// Returns the number of output lines that contain `text`.
    fn count_lines(&self, text: &str) -> usize {
        self.process.output().lines().filter(|line| line.contains(text)).count()
    }
}

#[test]
fn a_killed_worker_is_restarted_and_runs_the_next_job() {
    let mut run = Run::start_and_wait();
    run.assert_restarts("wordmill-worker", "worker 1");
    run.run_job();
    assert!(run.process.stop().success());
}

#[test]
fn a_killed_gateway_is_restarted_and_answers_again() {
    let mut run = Run::start_and_wait();
    let job_id = run.client.submit(&json!({"text": "two words"}));
    run.assert_restarts("wordmill-gateway", "gateway");
    run.assert_succeeds(&job_id);
    run.run_job();
    assert!(run.process.stop().success());
}

#[test]
fn a_killed_nats_server_is_restarted_and_loses_no_job() {
    let mut run = Run::start_and_wait();
    let site = Site::start();
    // The page arrives while the broker is down.
    let page = Page::new("text/plain", "two words").after(Duration::from_millis(500));
    let job_id = run.client.submit_url(&site.put("/page", page));
    wait_for("the page is requested", LIMIT, || (site.hits("/page") > 0).then_some(()));
    run.assert_restarts("nats-server", "nats");
    run.assert_succeeds(&job_id);
    run.run_job();
    assert!(run.process.stop().success());
}

#[test]
fn the_third_crash_of_a_service_ends_the_run() {
    let mut run = Run::start_and_wait();
    let children = run.process.descendants("");
    assert_eq!(children.len(), PROGRAMS.len(), "{children:?}");
    let first = run.kill_program("wordmill-worker", None);
    let second = run.kill_program("wordmill-worker", Some(first));
    run.kill_program("wordmill-worker", Some(second));
    run.wait_for_line("worker 1 died 3 times within 60 s (last: killed by SIGKILL): stopping");
    run.wait_for_line("stopped");
    assert_eq!(run.process.wait_for_exit(LIMIT).code(), Some(1));
    assert_eq!(run.count_lines("restarting in 1 s"), 1, "{}", run.process.output());
    assert_eq!(run.count_lines("restarting in 2 s"), 1, "{}", run.process.output());
    for child in children {
        assert!(kill_process(child, Signal::CONT).is_err(), "process {child:?} is left");
    }
    for port in run.ports {
        TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    }
}

#[test]
fn ctrl_c_ends_a_run_that_waits_for_a_restart() {
    let mut run = Run::start_and_wait();
    let first = run.kill_program("wordmill-worker", None);
    run.kill_program("wordmill-worker", Some(first));
    run.wait_for_line("worker 1 died (killed by SIGKILL); restarting in 2 s");
    let starts = run.count_lines("worker listening");
    run.process.signal(Signal::INT);
    run.wait_for_line("stopped");
    assert!(run.process.wait_for_exit(LIMIT).success());
    assert_eq!(run.count_lines("worker listening"), starts, "{}", run.process.output());
    assert_eq!(run.count_lines("restarting"), 2, "{}", run.process.output());
}

#[test]
fn invalid_settings_end_the_run_immediately() {
    let mut run = Run::start(&[("WORDMILL_SLOTS", "many")]);
    run.wait_for_line("worker 1 has invalid settings (exit code 64): stopping");
    assert_eq!(run.process.wait_for_exit(LIMIT).code(), Some(64));
    let output = run.process.output();
    assert!(output.contains("WORDMILL_SLOTS"), "{output}");
    assert_eq!(run.count_lines("restarting"), 0, "{output}");
}
