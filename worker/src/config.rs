//! Settings of the worker.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wordmill_common::retry;
use wordmill_nats::connect::{Role, Settings};
use wordmill_nats::topology;
use wordmill_service::env::{ByteSize, Env};
use wordmill_service::telemetry;

use crate::webhooks;

/// Settings of the worker, read from environment variables.
#[derive(Debug, Clone)]
pub struct Config {
    /// `WORDMILL_WORKER_LISTEN`: address of the health and metrics endpoints. Port 0 selects a free
    /// port, which the log shows.
    pub listen: SocketAddr,
    /// `WORDMILL_CLIENT_TIMEOUT`: maximum time for a client of these endpoints to send the head of
    /// a request, and maximum pause while it reads a response.
    pub client_timeout: Duration,
    /// `WORDMILL_WORKER_NAME`: name of this worker in attempts, logs and presence reports. The
    /// default is host name and process id, for example `node1-4711`.
    pub name: String,
    /// `WORDMILL_SLOTS`: number of jobs that run concurrently, in addition to small ones. Each lane
    /// can always use at least one slot. Too few slots leave the CPUs idle while pages are being
    /// fetched; each additional slot needs memory.
    pub slots: u32,
    /// `WORDMILL_NATS_URL`, `WORDMILL_NATS_USER`, `WORDMILL_NATS_PASSWORD`: connection to the
    /// broker.
    pub broker: Settings,
    /// `WORDMILL_REPLICAS`, `WORDMILL_RESULT_TTL`: settings of the topology. All services and
    /// `wordmill-nats` must have the same values.
    pub topology: topology::Settings,
    /// `WORDMILL_ATTEMPTS`, `WORDMILL_RETRY_BASE`: maximum number of attempts of a job, and the
    /// delay after the first failed one. Each further delay is four times the previous one, up to
    /// 10 minutes.
    pub retry: retry::BackoffPolicy,
    /// `WORDMILL_ATTEMPT_DEADLINE`: time limit of one attempt. If it is too short, large documents
    /// fail; if it is too long, a stuck attempt holds its slot.
    pub attempt_deadline: Duration,
    /// `WORDMILL_FETCH_*`: limits of a fetch, and networks that it may reach even if they are not
    /// public.
    pub fetch: wordmill_fetch::Settings,
    /// `WORDMILL_WEBHOOK_*`: delivery of webhooks. A worker without secrets delivers none.
    pub webhooks: webhooks::Settings,
    /// `WORDMILL_SHUTDOWN_GRACE`: time limit for running jobs after the signal to stop. Unfinished
    /// ones are then returned to the queue.
    pub shutdown_grace: Duration,
    /// `WORDMILL_LOG*`, `WORDMILL_TRACE`, `OTEL_*`: logging and the export of spans.
    pub telemetry: telemetry::Config,
}

impl Config {
    /// Reads the settings from `env`, which collects the errors.
    pub fn read(env: &mut Env) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 9091));
        let hour = Duration::from_secs(3600);
        let second = Duration::from_secs(1);
        let policy = retry::BackoffPolicy::default();
        Self {
            listen: env.address("WORDMILL_WORKER_LISTEN", listen),
            client_timeout: env.duration(
                "WORDMILL_CLIENT_TIMEOUT",
                30 * second,
                second,
                600 * second,
            ),
            name: worker_name(env),
            slots: env.number("WORDMILL_SLOTS", 64, 2, 1024),
            broker: Settings::read(env, Role::Worker),
            topology: topology::Settings::read(env),
            retry: retry::BackoffPolicy {
                attempts: env.number("WORDMILL_ATTEMPTS", policy.attempts, 1, 20),
                base: env.duration(
                    "WORDMILL_RETRY_BASE",
                    policy.base,
                    Duration::from_millis(1),
                    hour,
                ),
            },
            attempt_deadline: env.duration(
                "WORDMILL_ATTEMPT_DEADLINE",
                Duration::from_secs(600),
                second,
                24 * hour,
            ),
            fetch: fetch_settings(env),
            webhooks: webhooks::Settings::read(env),
            shutdown_grace: env.duration(
                "WORDMILL_SHUTDOWN_GRACE",
                Duration::from_secs(20),
                Duration::ZERO,
                hour,
            ),
            telemetry: telemetry::Config::read(env, "wordmill-worker"),
        }
    }
}

fn fetch_settings(env: &mut Env) -> wordmill_fetch::Settings {
    let mut settings = wordmill_fetch::Settings::default();
    let allow = env.text("WORDMILL_FETCH_ALLOW", "");
    for entry in allow.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        match entry.parse() {
            Ok(allowance) => settings.allow.push(allowance),
            Err(fault) => env.refuse(format!("WORDMILL_FETCH_ALLOW={allow}: {entry} {fault}")),
        }
    }
    let limits = &mut settings.limits;
    let min = Duration::from_millis(1);
    let max = Duration::from_secs(24 * 3600);
    limits.total_timeout = env.duration("WORDMILL_FETCH_TIMEOUT", limits.total_timeout, min, max);
    limits.stall_timeout =
        env.duration("WORDMILL_FETCH_STALL_TIMEOUT", limits.stall_timeout, min, max);
    let terabyte = ByteSize(1 << 40);
    limits.wire_size_max = env.size(
        "WORDMILL_FETCH_WIRE_SIZE_MAX",
        ByteSize(limits.wire_size_max),
        ByteSize(1),
        terabyte,
    );
    limits.decoded_size_max = env.size(
        "WORDMILL_FETCH_SIZE_MAX",
        ByteSize(limits.decoded_size_max),
        ByteSize(1),
        terabyte,
    );
    settings
}

/// Returns the name of the worker, which is part of each attempt in the record.
fn worker_name(env: &mut Env) -> String {
    let name = env.text("WORDMILL_WORKER_NAME", "");
    if !name.is_empty() {
        return name;
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "worker" } else { host };
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_page_lists_exactly_our_settings_and_defaults() {
        let mut env = Env::default();
        Config::read(&mut env);
        let page = include_str!("../../docs/settings.md");
        env.check_table(page, "worker").unwrap();
    }
}
