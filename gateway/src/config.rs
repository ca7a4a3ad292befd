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
    /// `WORDMILL_SHUTDOWN_GRACE`: how long open requests may take after the signal to stop. Too
    /// short cuts off answers, too long delays a restart.
    pub shutdown_grace: Duration,
    /// `WORDMILL_LOG`, `WORDMILL_LOG_FORMAT`: the log.
    pub telemetry: telemetry::Config,
}

impl Config {
    /// Reads the settings; `env` keeps what is wrong with them.
    pub fn read(env: &mut Env) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let (kib, mib) = (1 << 10, 1 << 20);
        let hour = Duration::from_secs(3600);
        Self {
            listen: env.address("WORDMILL_LISTEN", listen),
            broker: Settings::read(env, Role::Gateway),
            topology: topology::Settings::read(env),
            json_size_max: env.size("WORDMILL_JSON_SIZE_MAX", Size(mib), Size(kib), Size(2 * mib)),
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
