//! The measured services: brokers, gateways and workers, with their own data directories and ports.

use std::env;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::jetstream::{self, stream};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::http::Connection;
use crate::process::Process;

/// Maximum wait for a service or for jobs.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Interval between checks of the queue length, short compared with a slice.
const POLL_INTERVAL: Duration = Duration::from_millis(4);
const ROLES: [&str; 5] = ["gateway", "worker", "sweeper", "inspector", "admin"];

/// The CPU time of a service so far, and its memory.
pub struct Cost {
    pub cpu_seconds: f64,
    pub memory_bytes: u64,
}

/// A provisioned nats-server with a connection as its administrator.
pub struct Broker {
    pub process: Process,
    pub url: String,
    pub jetstream: jetstream::Context,
    _directory: TempDir,
}

impl Broker {
    /// Starts a server for the services in `folder`. It is provisioned by the `wordmill-nats` of
    /// that folder and uses the folder's `server.conf`, if there is one: an earlier build needs the
    /// server configuration of the same commit.
    pub async fn start_for(folder: &Path) -> Result<Self> {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let port = free_port("127.0.0.1")?;
        let mut command = Command::new(env::var("NATS_SERVER").unwrap_or("nats-server".to_owned()));
        let own_configuration = folder.join("server.conf");
        let has_own = own_configuration.exists();
        let configuration =
            if has_own { own_configuration } else { repository().join("nats/server.conf") };
        command.arg("-c").arg(configuration);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--store_dir"]);
        command.arg(directory.path());
        for role in ROLES {
            command.env(format!("WORDMILL_NATS_{}_PASSWORD", role.to_uppercase()), password(role));
        }
        let process = Process::start("nats-server", command)?;
        let url = format!("nats://127.0.0.1:{port}");
        let jetstream = connect(&url).await?;
        let mut command = service(folder, "wordmill-nats", "admin", &url)?;
        let output = command.arg("provision").output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "provisioning failed: {log}");
        Ok(Self { process, url, jetstream, _directory: directory })
    }

    pub async fn stream(&self, name: &str) -> Result<stream::Stream> {
        Ok(self.jetstream.get_stream(name).await?)
    }

    /// Returns the number of queued and running jobs.
    pub async fn jobs(&self) -> Result<u64> {
        Ok(self.stream("JOBS").await?.cached_info().state.messages)
    }

    /// Waits until at most `jobs_max` jobs are queued or running.
    pub async fn wait_for_jobs(&self, jobs_max: u64) -> Result<()> {
        let end = Instant::now() + WAIT_MAX;
        while self.jobs().await? > jobs_max {
            ensure!(Instant::now() < end, "jobs did not finish within {WAIT_MAX:?}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Deletes all jobs.
    pub async fn purge(&self) -> Result<()> {
        for name in ["JOBS", "KV_job_state"] {
            self.stream(name).await?.purge().await?;
        }
        Ok(())
    }
}

/// One gateway and some workers, connected to one broker.
pub struct Stack {
    binaries: PathBuf,
    pub broker: Broker,
    pub gateway: Process,
    pub address: SocketAddr,
    pub workers: Vec<Process>,
    worker_addresses: Vec<SocketAddr>,
}

impl Stack {
    pub async fn start() -> Result<Self> {
        Self::start_from(binaries()).await
    }

    /// Starts services from another folder of binaries.
    pub async fn start_from(binaries: PathBuf) -> Result<Self> {
        let broker = Broker::start_for(&binaries).await?;
        let address = free_address()?;
        let mut command = service(&binaries, "wordmill-gateway", "gateway", &broker.url)?;
        command.env("WORDMILL_LISTEN", address.to_string());
        command.env("WORDMILL_NATS_SWEEPER_PASSWORD", password("sweeper"));
        let gateway = Process::start("gateway", command)?;
        let stack = Self {
            binaries,
            broker,
            gateway,
            address,
            workers: Vec::new(),
            worker_addresses: Vec::new(),
        };
        wait_until_ready(address).await?;
        Ok(stack)
    }

    pub async fn start_worker(&mut self) -> Result<()> {
        let address = free_address()?;
        let mut command = service(&self.binaries, "wordmill-worker", "worker", &self.broker.url)?;
        command.env("WORDMILL_WORKER_LISTEN", address.to_string());
        command.env("WORDMILL_FETCH_ALLOW", "127.0.0.0/8");
        self.workers.push(Process::start("worker", command)?);
        self.worker_addresses.push(address);
        wait_until_ready(address).await
    }

    /// Stops all workers.
    pub fn stop_workers(&mut self) {
        self.workers.clear();
        self.worker_addresses.clear();
    }

    /// Pauses all workers, or resumes them.
    pub fn pause_workers(&self, paused: bool) -> Result<()> {
        self.workers.iter().try_for_each(|worker| worker.pause(paused))
    }

    /// Returns the number of jobs that the workers have finished, and the number of succeeded ones.
    pub async fn finished(&self) -> Result<[u64; 2]> {
        let mut finished = 0;
        let mut succeeded = 0;
        for address in &self.worker_addresses {
            let response = Connection::open(*address).await?.get("/metrics").await?;
            for line in String::from_utf8_lossy(&response.body).lines() {
                let Some(line) = line.strip_prefix("wordmill_jobs_finished_total{") else {
                    continue;
                };
                let (labels, count) = line.rsplit_once(' ').context("no number")?;
                let count: u64 = count.parse()?;
                finished += count;
                succeeded += if labels.contains("outcome=\"succeeded\"") { count } else { 0 };
            }
        }
        Ok([finished, succeeded])
    }

    /// Submits one job, and returns its id.
    pub async fn submit(&self, body: &Value) -> Result<String> {
        let request = crate::http::post("/v1/jobs", body.to_string().as_bytes(), "");
        let response = Connection::open(self.address).await?.send(&request).await?;
        ensure!(
            response.status == 202,
            "job not accepted: {}",
            String::from_utf8_lossy(&response.body)
        );
        let job: Value = serde_json::from_slice(&response.body)?;
        Ok(job["job_id"].as_str().context("no job_id")?.to_owned())
    }

    /// Returns the costs of gateway, workers and broker so far. Fails if one of them has exited.
    pub fn costs(&self) -> Result<[Cost; 3]> {
        let mut workers = Cost { cpu_seconds: 0.0, memory_bytes: 0 };
        for worker in &self.workers {
            workers.cpu_seconds += worker.cpu_seconds()?;
            workers.memory_bytes += worker.memory_bytes()?;
        }
        Ok([cost(&self.gateway)?, workers, cost(&self.broker.process)?])
    }
}

fn cost(process: &Process) -> Result<Cost> {
    Ok(Cost { cpu_seconds: process.cpu_seconds()?, memory_bytes: process.memory_bytes()? })
}

/// Returns a free address of loopback.
pub fn free_address() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")?)))
}

fn free_port(host: &str) -> Result<u16> {
    Ok(TcpListener::bind((host, 0))?.local_addr()?.port())
}

/// Waits until a service is ready.
pub async fn wait_until_ready(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + WAIT_MAX;
    while Instant::now() < end {
        if let Ok(mut connection) = Connection::open(address).await
            && connection.get("/readyz").await.is_ok_and(|response| response.status == 200)
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("{address} did not become ready within {WAIT_MAX:?}")
}

/// Connects to a broker as its administrator.
pub async fn connect(url: &str) -> Result<jetstream::Context> {
    let options = async_nats::ConnectOptions::new()
        .user_and_password("admin".to_owned(), password("admin"))
        .retry_on_initial_connect()
        .connection_timeout(Duration::from_secs(2));
    let client = options.connect(url).await?;
    client.flush().await?;
    Ok(jetstream::new(client))
}

/// Returns the folder of the measured services.
pub fn binaries() -> PathBuf {
    let release = || repository().join("target/release");
    env::var_os("WORDMILL_BIN_DIR").map_or_else(release, PathBuf::from)
}

fn password(role: &str) -> String {
    format!("bench-{role}")
}

/// Returns the command of a service, with the credentials of its role. Removes environment
/// variables that could change its behaviour. The log is on, as by default.
fn service(folder: &Path, name: &str, role: &str, nats: &str) -> Result<Command> {
    let path = folder.join(name);
    ensure!(path.exists(), "{} is not built: run `make bench`", path.display());
    let mut command = Command::new(path);
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("WORDMILL_") || name.starts_with("OTEL_") {
            command.env_remove(key);
        }
    }
    command
        .env("WORDMILL_NATS_URL", nats)
        .env("WORDMILL_NATS_USER", role)
        .env("WORDMILL_NATS_PASSWORD", password(role));
    Ok(command)
}

/// Returns the folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
