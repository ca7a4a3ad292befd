//! Runs the command `wordmill` as a shell does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::client::Client;
use crate::process::{Process, binary};

/// The command with its server, environment and working directory.
pub struct Wordmill {
    server: String,
    environment: Vec<(String, String)>,
    folder: PathBuf,
}

/// Output and exit code of one run.
#[derive(Debug)]
pub struct CommandOutput {
    /// Exit code. After a signal, 128 plus its number, as in a shell.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Wordmill {
    /// Returns the command for a gateway. It runs in `folder`.
    pub fn for_client(client: &Client, folder: &Path) -> Self {
        Self::for_server(&client.url(""), folder)
    }

    /// Returns the command for the URL of a server.
    pub fn for_server(server: &str, folder: &Path) -> Self {
        Self { server: server.to_owned(), environment: Vec::new(), folder: folder.to_owned() }
    }

    /// Sets an environment variable of the command.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Returns the command without the `WORDMILL_*` variables of the test process.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("wordmill"));
        command.args(arguments);
        self.prepare(&mut command);
        command
    }

    /// Returns a bash script that finds `wordmill` in its `PATH`.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        let path = binary("wordmill");
        let folder = path.parent().expect("a folder").display().to_string();
        command.args(["-c", &format!("PATH={folder}:$PATH\n{script}")]);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("WORDMILL_") {
                command.env_remove(key);
            }
        }
        command.env("WORDMILL_URL", &self.server);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
    }

    /// Runs the command with empty standard input.
    pub fn run(&self, arguments: &[&str]) -> CommandOutput {
        run_command(self.command(arguments).stdin(Stdio::null()))
    }

    /// Runs the command with `input` as its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> CommandOutput {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("wordmill runs");
        let mut pipe = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // The command may exit before it has read all input.
        let writing = std::thread::spawn(move || drop(pipe.write_all(&input)));
        let output = child.wait_with_output().expect("the command exits");
        writing.join().expect("the writer ends");
        CommandOutput::of(&output)
    }

    /// Starts the command in the background, for example to signal it.
    pub fn start(&self, arguments: &[&str]) -> Process {
        Process::start("wordmill", self.command(arguments))
    }
}

/// Runs a command and returns its output.
pub fn run_command(command: &mut Command) -> CommandOutput {
    CommandOutput::of(&command.output().expect("the command runs"))
}

impl CommandOutput {
    fn of(output: &std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).unwrap_or_else(|error| panic!("not UTF-8: {error}"))
        };
        let status = output.status;
        let code = status
            .code()
            .or_else(|| Some(128 + status.signal()?))
            .expect("an exit code or a signal");
        let ran = Self { code, stdout: text(&output.stdout), stderr: text(&output.stderr) };
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        ran
    }

    /// Asserts exit code 0 and an empty standard error, and returns the standard output.
    pub fn expect_success(&self) -> &str {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.stderr.as_str(), "", "{self:?}");
        &self.stdout
    }

    /// Asserts the exit code, and that standard error contains each of `messages`. Returns
    /// standard output.
    pub fn expect_failure(&self, code: i32, messages: &[&str]) -> &str {
        assert_eq!(self.code, code, "{self:?}");
        for message in messages {
            assert!(self.stderr.contains(message), "{message:?} is not in {self:?}");
        }
        &self.stdout
    }

    /// Parses standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// Returns the lines of standard output.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}
