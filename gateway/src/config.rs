//! The gateway's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use wordmill_common::env::{Env, Size};
use wordmill_common::telemetry;
use wordmill_nats::connect::{Role, Settings};
use wordmill_nats::topology;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// `WORDMILL_LISTEN`: where HTTP is served. Port 0 takes any free one; the log says which.
    pub listen: SocketAddr,
    /// `WORDMILL_NATS_URL`, `WORDMILL_NATS_USER`, `WORDMILL_NATS_PASSWORD`: the broker.
    pub broker: Settings,
    /// `WORDMILL_REPLICAS`, `WORDMILL_RESULT_TTL`: what the topology depends on. All services and
    /// `wordmill-nats` must agree.
    pub topology: topology::Settings,
    /// `WORDMILL_JSON_SIZE_MAX`: largest JSON body in bytes, and so the largest text that is sent
    /// inline. Below 1 KiB hardly a URL fits; above 2 MiB a text no longer fits into a message.
    pub json_size_max: u64,
    /// `WORDMILL_WAITERS_MAX`: how many clients may wait for a job at once (`wait`, event streams).
    /// Each holds a connection and a subscription; too few turns clients into pollers.
    pub waiters_max: u32,
    /// `WORDMILL_SHUTDOWN_GRACE`: how long open requests may take after the signal to stop. Too
    /// short cuts off answers, too long delays a restart.
    pub shutdown_grace: Duration,
    /// What the sweeper does.
    pub sweeper: Sweeper,
    /// `WORDMILL_LOG`, `WORDMILL_LOG_FORMAT`: the log.
    pub telemetry: telemetry::Config,
}

impl Config {
    /// Reads the settings; `env` keeps what is wrong with them.
    pub fn read(env: &mut Env) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let (kib, mib) = (1 << 10, 1 << 20);
        let hour = Duration::from_secs(3600);
        let broker = Settings::read(env, Role::Gateway);
        Self {
            listen: env.address("WORDMILL_LISTEN", listen),
            sweeper: Sweeper::read(env, &broker),
            broker,
            topology: topology::Settings::read(env),
            json_size_max: env.size("WORDMILL_JSON_SIZE_MAX", Size(mib), Size(kib), Size(2 * mib)),
            waiters_max: env.number("WORDMILL_WAITERS_MAX", 5000, 1, 100_000),
            shutdown_grace: env.duration(
                "WORDMILL_SHUTDOWN_GRACE",
                Duration::from_secs(20),
                Duration::ZERO,
                hour,
            ),
            telemetry: telemetry::Config::read(env),
        }
    }
}

/// What the sweeper does, and how often.
#[derive(Debug, Clone)]
pub struct Sweeper {
    /// `WORDMILL_NATS_SWEEPER_USER`, `WORDMILL_NATS_SWEEPER_PASSWORD`: its own credentials; without
    /// a password there is no sweeper in this gateway.
    pub broker: Option<Settings>,
    /// `WORDMILL_SWEEP_INTERVAL`: wait between two sweeps, each of which looks at a bounded number
    /// of records. Short costs the broker reads, long lets lost jobs and alarms wait.
    pub interval: Duration,
    /// `WORDMILL_SWEEP_GRACE`: how long a record without a message, and a result without a record,
    /// are left alone. Below a few minutes, a broker that was away may cost jobs their result.
    pub grace: Duration,
    /// `WORDMILL_ALARM_AGE`: from which age on the oldest unfinished job is warned about.
    pub alarm_age: Duration,
}

impl Sweeper {
    fn read(env: &mut Env, gateway: &Settings) -> Self {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        // A record may be older than its message by as much as a request may take.
        let grace_min = Duration::from_secs(3);
        let (hour, day) = (60 * minute, 24 * 60 * minute);
        let tenth = Duration::from_millis(100);
        Self {
            broker: gateway.read_sweeper(env),
            interval: env.duration("WORDMILL_SWEEP_INTERVAL", minute / 2, tenth, hour),
            grace: env.duration("WORDMILL_SWEEP_GRACE", 5 * minute, grace_min, day),
            alarm_age: env.duration("WORDMILL_ALARM_AGE", hour, second, 30 * day),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_exactly_our_settings_and_defaults() {
        let mut env = Env::default();
        Config::read(&mut env);
        let readme = include_str!("../../README.md");
        env.check_table(readme, "gateway").unwrap();
    }
}
