//! Child processes: start, output, signals and cleanup.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::{pause, repository, setting, wait_for};

/// Maximum wait for a process to exit after a signal.
const STOP_MAX: Duration = Duration::from_secs(30);

/// Maximum wait for the remaining output of an exited process. Its children may keep the pipe open
/// for longer.
const OUTPUT_MAX: Duration = Duration::from_secs(1);

/// A child process and its output.
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command` and stores its output line by line.
    pub fn start(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot start {name} ({command:?}): {error}; was it built?")
        });
        let lines = Arc::new(Mutex::new(Vec::new()));
        let outputs: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|out| Box::new(out) as _),
            child.stderr.take().map(|err| Box::new(err) as _),
        ];
        let read = |output| {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.lock().expect("lines").push(line);
                }
            })
        };
        let readers = outputs.into_iter().flatten().map(read).collect();
        Self { name: name.to_owned(), child, lines, readers }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the peak resident set size of the process, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the status of the process");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number") << 10
    }

    /// Returns the ids of all descendants whose command line contains `program`. Includes exited
    /// processes that their parent has not waited for.
    pub fn descendants(&self, program: &str) -> Vec<Pid> {
        let command = ["-A", "-ww", "-o", "pid=,ppid=,args="];
        let output = Command::new("ps").args(command).output().expect("ps runs").stdout;
        let output = String::from_utf8_lossy(&output);
        let processes: Vec<(i32, i32, &str)> = output
            .lines()
            .filter_map(|line| {
                let (id, rest) = line.trim_start().split_once(' ')?;
                let (parent, command) = rest.trim_start().split_once(' ')?;
                Some((id.parse().ok()?, parent.parse().ok()?, command))
            })
            .collect();
        let mut parents = vec![i32::try_from(self.child.id()).expect("a process id")];
        let mut pids = Vec::new();
        while let Some(parent) = parents.pop() {
            for (id, _, command) in processes.iter().filter(|process| process.1 == parent) {
                parents.push(*id);
                pids.extend(Pid::from_raw(*id).filter(|_| command.contains(program)));
            }
        }
        pids
    }

    /// Returns all output so far.
    pub fn output(&self) -> String {
        self.lines.lock().expect("lines").join("\n")
    }

    /// Waits for a JSON log line with this message, and returns it. Panics if the process exits
    /// first.
    pub fn wait_for_log(&mut self, message: &str, limit: Duration) -> Value {
        let name = self.name.clone();
        wait_for(&format!("{name} logs {message:?}\n{}", self.output()), limit, || {
            let has_ended = self.exit_status().is_some();
            let lines = self.lines.lock().expect("lines").clone();
            let line = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|event| event["message"] == message);
            if line.is_none() && has_ended {
                panic!("{name} has exited:\n{}", self.output());
            }
            line
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        // The process may have exited already.
        let _ = kill_process(id, signal);
    }

    /// Sends a signal to the process group, as a terminal does. The command must have created a
    /// process group.
    pub fn signal_group(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        // The processes may have exited already.
        let _ = kill_process_group(id, signal);
    }

    /// Returns the exit status, or `None` while the process runs. After the exit, waits up to
    /// `OUTPUT_MAX` for the remaining output.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("the child can be polled")?;
        let end = Instant::now() + OUTPUT_MAX;
        while !self.readers.iter().all(JoinHandle::is_finished) && Instant::now() < end {
            pause(Duration::from_millis(1));
        }
        Some(status)
    }

    /// Waits until the process has exited, and panics after `limit`.
    pub fn wait_for_exit(&mut self, limit: Duration) -> ExitStatus {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(Instant::now() < end, "{} is still running:\n{}", self.name, self.output());
            pause(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM and waits until the process has exited.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_exit(STOP_MAX)
    }

    /// Sends SIGKILL, as a simulated crash, and waits until the process has exited.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait_for_exit(STOP_MAX);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines.lock().expect("lines");
            let last = lines.len().saturating_sub(40);
            eprintln!("--- last output of {} ---\n{}", self.name, lines[last..].join("\n"));
        }
        // SIGTERM first, because coverage data is written only at a regular exit.
        self.signal(Signal::TERM);
        let end = Instant::now() + STOP_MAX;
        while self.exit_status().is_none() {
            if Instant::now() > end {
                self.signal(Signal::KILL);
                let _ = self.child.wait();
                return;
            }
            pause(Duration::from_millis(5));
        }
    }
}

/// Version of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The version under test.
    Current,
    /// A version with one more option and failure code, built by `make next` for upgrade tests.
    Next,
}

/// Returns the path of a binary under test.
pub fn binary(name: &str) -> PathBuf {
    binary_of(Version::Current, name)
}

/// Returns the path of a binary of this version.
pub fn binary_of(version: Version, name: &str) -> PathBuf {
    let (variable, default, target) = match version {
        Version::Current => ("WORDMILL_BIN_DIR", "target/debug", "build"),
        Version::Next => ("WORDMILL_NEXT_BIN_DIR", "target/next", "next"),
    };
    let directory = setting(variable).map_or_else(|| repository().join(default), PathBuf::from);
    let path = directory.join(name);
    assert!(path.exists(), "{} is not built: run `make {target}`", path.display());
    path
}

/// Returns the path of nats-server. Installs it into `.tools` if necessary.
pub fn nats_server() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let installer = repository().join("nats/install-server");
        let output = Command::new(&installer)
            .stderr(Stdio::inherit())
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", installer.display()));
        assert!(output.status.success(), "cannot install nats-server");
        PathBuf::from(String::from_utf8(output.stdout).expect("a path").trim())
    })
    .clone()
}
