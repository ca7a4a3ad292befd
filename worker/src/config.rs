//! The worker's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wordmill_common::retry;
use wordmill_nats::connect::{Role, Settings};
use wordmill_nats::topology;
use wordmill_service::env::{Env, SizeText};
use wordmill_service::telemetry;

use crate::webhooks;

/// The settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `WORDMILL_WORKER_LISTEN`: where health is served. Port 0 takes any free one; the log says
    /// which.
    pub listen: SocketAddr,
    /// `WORDMILL_CLIENT_TIMEOUT`: how long a client of the health port may take for the head of a
    /// request, and for reading nothing of an answer.
    pub client_timeout: Duration,
    /// `WORDMILL_WORKER_NAME`: how attempts and logs name this worker. Default is host and process.
    pub name: String,
    /// `WORDMILL_SLOTS`: how many jobs run at once, one of them at least in each lane. Too few
    /// leave the machine idle while pages are on their way, too many need memory for each.
    pub slots: u32,
    /// `WORDMILL_NATS_URL`, `WORDMILL_NATS_USER`, `WORDMILL_NATS_PASSWORD`: the broker.
    pub broker: Settings,
    /// `WORDMILL_REPLICAS`, `WORDMILL_RESULT_TTL`: what the topology depends on. All services and
    /// `wordmill-nats` must agree.
    pub topology: topology::Settings,
    /// `WORDMILL_ATTEMPTS`, `WORDMILL_RETRY_BASE`: how often a job is tried, and how long it waits
    /// after the first failure; each wait is four times the one before.
    pub retry: retry::BackoffPolicy,
    /// `WORDMILL_ATTEMPT_DEADLINE`: longest time for one attempt. Too short fails large documents,
    /// too long lets a stuck one hold a slot.
    pub attempt_deadline: Duration,
    /// `WORDMILL_FETCH_*`: what one fetch may take, and what it may reach.
    pub fetch: wordmill_fetch::Settings,
    /// `WORDMILL_WEBHOOK_*`: how webhooks are delivered; without secrets, by other workers.
    pub webhooks: webhooks::Settings,
    /// `WORDMILL_SHUTDOWN_GRACE`: how long running jobs may take after the signal to stop, before
    /// they are handed back.
    pub shutdown_grace: Duration,
    /// `WORDMILL_LOG*`, `WORDMILL_TRACE`, `OTEL_*`: the log, and which spans go where.
    pub telemetry: telemetry::Config,
}

impl Config {
    /// Reads the settings; `env` collects the errors.
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
    let terabyte = SizeText(1 << 40);
    limits.wire_size_max = env.size(
        "WORDMILL_FETCH_WIRE_SIZE_MAX",
        SizeText(limits.wire_size_max),
        SizeText(1),
        terabyte,
    );
    limits.decoded_size_max = env.size(
        "WORDMILL_FETCH_SIZE_MAX",
        SizeText(limits.decoded_size_max),
        SizeText(1),
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
