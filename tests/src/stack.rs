//! The complete product: nats-server, provisioning, gateways and workers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Process, Version, binary_of, nats_server};
use crate::{port, repository, setting, wait_for};

/// Maximum wait for a process to start.
const START_MAX: Duration = Duration::from_secs(30);
/// Roles of the broker, as in `nats/server.conf`.
pub const ROLES: [&str; 5] = ["gateway", "worker", "sweeper", "inspector", "admin"];

/// Returns the password of a role in tests.
pub fn password(role: &str) -> String {
    format!("test-{role}")
}

/// A nats-server with its own port and store.
pub struct Nats {
    /// The process.
    pub process: Process,
    port: u16,
    directory: PathBuf,
    configuration: PathBuf,
    arguments: Vec<String>,
}

impl Nats {
    /// Starts a server with the shipped configuration and its store in `directory`.
    pub fn start(directory: &Path) -> Self {
        Self::start_with(directory, Vec::new())
    }

    /// Starts a server with additional command-line arguments.
    pub fn start_with(directory: &Path, arguments: Vec<String>) -> Self {
        Self::start_configured(directory, &shipped_configuration(), arguments)
    }

    /// Starts a server with another configuration file.
    pub fn start_configured(
        directory: &Path,
        configuration: &Path,
        arguments: Vec<String>,
    ) -> Self {
        let port = port::reserve();
        let process = spawn(directory, port, configuration, &arguments);
        let directory = directory.to_owned();
        let configuration = configuration.to_owned();
        let mut nats = Self { process, port, directory, configuration, arguments };
        nats.wait_until_ready();
        nats
    }

    /// Restarts a stopped or killed server with the same port, store and configuration.
    pub fn restart(&mut self) {
        self.process = spawn(&self.directory, self.port, &self.configuration, &self.arguments);
        self.wait_until_ready();
    }

    /// Restarts a stopped or killed server with another configuration file.
    pub fn restart_configured(&mut self, configuration: &Path) {
        configuration.clone_into(&mut self.configuration);
        self.restart();
    }

    fn wait_until_ready(&mut self) {
        wait_for("nats-server listens", START_MAX, || {
            assert!(self.process.exit_status().is_none(), "{}", self.process.output());
            self.process.output().contains("Server is ready").then_some(())
        });
    }

    /// Returns the client address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Provisions the topology, with settings such as `("WORDMILL_RESULT_TTL", "1s")`.
    pub fn provision(&self, settings: &[(&str, &str)]) -> String {
        provision(&self.address(), settings)
    }
}

/// Provisions the topology and returns the output. `nats` may contain several addresses, separated
/// by `,`.
pub fn provision(nats: &str, settings: &[(&str, &str)]) -> String {
    let mut command = service_command("wordmill-nats", "admin", nats, settings);
    let output = command.arg("provision").output().expect("wordmill-nats runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

/// Server setting that enables version 2 of acknowledgement subjects, the default from nats-server
/// 2.16.
pub const ACK_SUBJECTS_V2: &str = "feature_flags { js_ack_fc_v2: true }";

/// Writes the shipped server configuration, followed by `settings`, into `directory`. Returns the
/// path of the file.
pub fn extended_configuration(directory: &Path, settings: &str) -> PathBuf {
    let shipped = std::fs::read_to_string(shipped_configuration()).expect("a configuration");
    let path = directory.join("server.conf");
    std::fs::write(&path, format!("{shipped}\n{settings}\n")).expect("the file is written");
    path
}

/// Returns the path of the shipped server configuration. If `WORDMILL_BIN_DIR` contains a
/// `server.conf`, returns that file: an earlier build may need its own configuration.
pub fn shipped_configuration() -> PathBuf {
    let beside =
        setting("WORDMILL_BIN_DIR").map(|folder| PathBuf::from(folder).join("server.conf"));
    let beside = beside.filter(|path| path.exists());
    beside.unwrap_or_else(|| repository().join("nats/server.conf"))
}

fn spawn(directory: &Path, port: u16, configuration: &Path, arguments: &[String]) -> Process {
    let mut command = Command::new(nats_server());
    command.arg("-c").arg(configuration);
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
    command.arg("--store_dir").arg(directory);
    command.args(arguments);
    for role in ROLES {
        let name = format!("WORDMILL_NATS_{}_PASSWORD", role.to_uppercase());
        command.env(name, password(role));
    }
    Process::start("nats-server", command)
}

/// Returns the command of a service with the credentials of its role, and without the `WORDMILL_*`
/// and `OTEL_*` variables of the test process. `nats` may contain several addresses, separated by
/// `,`.
pub fn service_command(name: &str, role: &str, nats: &str, settings: &[(&str, &str)]) -> Command {
    version_command(Version::Current, name, role, nats, settings)
}

fn version_command(
    version: Version,
    name: &str,
    role: &str,
    nats: &str,
    settings: &[(&str, &str)],
) -> Command {
    let mut command = Command::new(binary_of(version, name));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("WORDMILL_") || name.starts_with("OTEL_") {
            command.env_remove(key);
        }
    }
    command
        .env("WORDMILL_NATS_URL", format!("nats://{}", nats.replace(',', ",nats://")))
        .env("WORDMILL_NATS_USER", role)
        .env("WORDMILL_NATS_PASSWORD", password(role))
        .envs(settings.iter().copied());
    command
}

/// A running gateway.
pub struct Gateway {
    /// The process.
    pub process: Process,
    /// A client of the gateway.
    pub client: Client,
}

impl Gateway {
    /// Starts a gateway, by default on a free port.
    pub fn start(nats: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_version(Version::Current, nats, settings)
    }

    /// Starts a gateway of this version.
    pub fn start_version(version: Version, nats: &str, settings: &[(&str, &str)]) -> Self {
        let sweeper = password("sweeper");
        let mut all = vec![
            ("WORDMILL_LISTEN", "127.0.0.1:0"),
            ("WORDMILL_NATS_SWEEPER_PASSWORD", sweeper.as_str()),
        ];
        all.extend(settings);
        let command = version_command(version, "wordmill-gateway", "gateway", nats, &all);
        let mut process = Process::start("gateway", command);
        let address = process.wait_for_log("gateway listening", START_MAX)["address"].clone();
        let client = Client::new(address.as_str().expect("an address"));
        Self { process, client }
    }
}

/// A running worker.
pub struct Worker {
    /// The process.
    pub process: Process,
    /// A client of the health endpoints.
    pub health: Client,
}

impl Worker {
    /// Starts a worker. By default, its health endpoints use a free port, it may fetch from
    /// loopback, and it retries after 50 ms.
    pub fn start(nats: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_version(Version::Current, nats, settings)
    }

    /// Starts a worker of this version.
    pub fn start_version(version: Version, nats: &str, settings: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("WORDMILL_FETCH_ALLOW", "127.0.0.0/8"),
            ("WORDMILL_RETRY_BASE", "50ms"),
            ("WORDMILL_WORKER_LISTEN", "127.0.0.1:0"),
        ];
        all.extend(settings);
        let command = version_command(version, "wordmill-worker", "worker", nats, &all);
        let mut process = Process::start("worker", command);
        let address = process.wait_for_log("worker listening", START_MAX)["address"].clone();
        let health = Client::new(address.as_str().expect("an address"));
        Self { process, health }
    }
}

/// Waits until `/readyz` of a service answers with 200.
pub fn wait_until_ready(client: &Client) {
    wait_for(&format!("{} is ready", client.url("/readyz")), START_MAX, || {
        (client.try_send("GET", "/readyz", &[], &[]).ok()?.status == 200).then_some(())
    });
}

/// A complete stack. When dropped, gateways and workers stop before the broker.
pub struct Stack {
    /// The gateways.
    pub gateways: Vec<Gateway>,
    /// The workers.
    pub workers: Vec<Worker>,
    /// The broker.
    pub nats: Nats,
    _directory: TempDir,
}

impl Stack {
    /// Starts one gateway and one worker.
    pub fn start() -> Self {
        Self::with(1, 1, &[])
    }

    /// Starts gateways and workers with settings, and waits until all are ready.
    pub fn with(gateways: usize, workers: usize, settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let nats = Nats::start(directory.path());
        nats.provision(settings);
        let address = nats.address();
        let stack = Self {
            gateways: (0..gateways).map(|_| Gateway::start(&address, settings)).collect(),
            workers: (0..workers).map(|_| Worker::start(&address, settings)).collect(),
            nats,
            _directory: directory,
        };
        stack.gateways.iter().for_each(|gateway| wait_until_ready(&gateway.client));
        stack.workers.iter().for_each(|worker| wait_until_ready(&worker.health));
        stack
    }

    /// Returns a client of the first gateway.
    pub fn client(&self) -> &Client {
        &self.gateways[0].client
    }
}
