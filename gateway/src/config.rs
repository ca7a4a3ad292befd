//! The gateway's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use wordmill_common::webhook::Secrets;
use wordmill_nats::connect::{Role, Settings};
use wordmill_nats::topology;
use wordmill_service::env::{Env, SizeText};
use wordmill_service::telemetry;

use crate::http::browser::Hosts;
use crate::http::cors::Origins;
use crate::http::{request_trace, tls};
use crate::intake::upload;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// `WORDMILL_LISTEN`: where HTTP is served. Port 0 takes any free one; the log says which.
    pub listen: SocketAddr,
    /// `WORDMILL_KEYS_FILE`: the API keys, read again when they change. Without them everybody is the
    /// owner `public`, and the service listens on loopback only, unless it is told to be
    /// open (`WORDMILL_OPEN=true`) because something in front of it decides who may come in.
    pub keys_file: Option<PathBuf>,
    /// `WORDMILL_TLS_CERT`, `WORDMILL_TLS_KEY`: with them HTTPS is spoken, and only HTTPS. Both are read
    /// again when they change.
    pub tls: Option<tls::Files>,
    /// `WORDMILL_HSTS_MAX_AGE`: how long browsers may reach this host name by HTTPS only
    /// (`Strict-Transport-Security`), at most two years; none by default. A browser that has seen
    /// it refuses plain HTTP on every port of the name until the time is over.
    pub hsts_max_age: Duration,
    /// `WORDMILL_CONNECTIONS_MAX`: most connections at once; others wait to be accepted. Each takes some
    /// kilobytes and a file descriptor. Fewer than clients keep open makes new ones wait.
    pub connections_max: u32,
    /// `WORDMILL_CLIENT_TIMEOUT`: how long a client may take for its TLS handshake, for the head of a
    /// request, and for taking nothing of what it is sent. Long lets idle clients hold their
    /// places, short cuts off those on slow networks.
    pub client_timeout: Duration,
    /// `WORDMILL_NATS_URL`, `WORDMILL_NATS_USER`, `WORDMILL_NATS_PASSWORD`, `WORDMILL_NATS_CA`,
    /// `WORDMILL_NATS_CERT`, `WORDMILL_NATS_KEY`: the broker.
    pub broker: Settings,
    /// `WORDMILL_REPLICAS`, `WORDMILL_RESULT_TTL`: what the topology depends on. All services and
    /// `wordmill-nats` must agree.
    pub topology: topology::Settings,
    /// `WORDMILL_JSON_SIZE_MAX`: largest JSON body in bytes, and so the largest text that is sent
    /// inline. Below 1 KiB hardly a URL fits; above 2 MiB a text no longer fits into a message.
    pub json_size_max: u64,
    /// `WORDMILL_DOCUMENT_SIZE_MAX`, `WORDMILL_UPLOAD_STALL_TIMEOUT`, `WORDMILL_UPLOAD_TIMEOUT`:
    /// largest document, in bytes as sent; longest silence of its sender; longest time for all of
    /// it, after which the sweeper removes what a gateway that died left of one. A document must
    /// fit into what `WORDMILL_DOCUMENTS_SPACE` leaves.
    pub uploads: upload::Limits,
    /// `WORDMILL_WAITERS_MAX`: how many clients may wait for a job at once (`wait`, event streams).
    /// Each holds a connection and a subscription; too few turns clients into pollers.
    pub waiters_max: u32,
    /// `WORDMILL_HOSTS`: names under which a gateway without keys can be reached, beside IP
    /// addresses and `localhost`. Do not list a name whose pages others control: they could use the
    /// gateway through a user's browser.
    pub hosts: Hosts,
    /// `WORDMILL_CORS_ORIGINS`: other origins whose pages may use the API from a browser, `*` for
    /// all, which needs keys. None unless it is set.
    pub cors_origins: Origins,
    /// `WORDMILL_WEBHOOK_SECRETS`: what webhooks are signed with, as the workers have it. Without it
    /// jobs that ask for a webhook are refused.
    pub webhooks: Option<Secrets>,
    /// `WORDMILL_SHUTDOWN_GRACE`: how long open requests may take after the signal to stop. Too
    /// short cuts off answers, too long delays a restart.
    pub shutdown_grace: Duration,
    /// What the sweeper does.
    pub sweeper: Sweeper,
    /// `WORDMILL_TRACE_INBOUND`, `WORDMILL_TRACE_URL`: the trace of a request.
    pub trace: request_trace::Settings,
    /// `WORDMILL_LOG*`, `WORDMILL_TRACE`, `OTEL_*`: the log, and which spans go where.
    pub telemetry: telemetry::Config,
}

impl Config {
    /// Reads the settings; `env` keeps what is wrong with them.
    pub fn read(env: &mut Env) -> Self {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        let kib = 1 << 10;
        let mib = 1 << 20;
        let hour = Duration::from_secs(3600);
        let second = Duration::from_secs(1);
        let broker = Settings::read(env, Role::Gateway);
        let listen = env.address("WORDMILL_LISTEN", listen);
        let keys_file = read_keys_file(env, listen);
        let has_keys = keys_file.is_some();
        let tls = read_tls(env);
        Self {
            listen,
            keys_file,
            hsts_max_age: read_hsts_max_age(env, tls.is_some()),
            tls,
            connections_max: env.number("WORDMILL_CONNECTIONS_MAX", 10_000, 1, 1_000_000),
            client_timeout: env.duration(
                "WORDMILL_CLIENT_TIMEOUT",
                30 * second,
                second,
                600 * second,
            ),
            sweeper: Sweeper::read(env, &broker),
            broker,
            topology: topology::Settings::read(env),
            json_size_max: env.size(
                "WORDMILL_JSON_SIZE_MAX",
                SizeText(mib),
                SizeText(kib),
                SizeText(2 * mib),
            ),
            uploads: upload::Limits::read(env),
            waiters_max: env.number("WORDMILL_WAITERS_MAX", 5000, 1, 100_000),
            hosts: env.read("WORDMILL_HOSTS", Hosts::default(), Hosts::parse),
            cors_origins: read_cors_origins(env, has_keys),
            webhooks: read_webhooks(env),
            shutdown_grace: env.duration(
                "WORDMILL_SHUTDOWN_GRACE",
                Duration::from_secs(20),
                Duration::ZERO,
                hour,
            ),
            trace: request_trace::Settings::read(env, has_keys),
            telemetry: telemetry::Config::read(env, "wordmill-gateway"),
        }
    }
}

fn read_keys_file(env: &mut Env, listen: SocketAddr) -> Option<PathBuf> {
    let keys_file = env.file("WORDMILL_KEYS_FILE");
    let is_open = env.flag("WORDMILL_OPEN", false);
    match &keys_file {
        Some(_) if is_open => env.refuse("WORDMILL_OPEN=true and WORDMILL_KEYS_FILE contradict each other"),
        None if !is_open && !is_private(listen) => env.refuse(format!(
            "WORDMILL_LISTEN={listen} can be reached from other machines, and there are no API keys: \
             set WORDMILL_KEYS_FILE, or WORDMILL_OPEN=true if something in front of the gateway \
             decides who may come in"
        )),
        Some(_) | None => {}
    }
    keys_file
}

/// Returns whether only this machine can reach an address.
fn is_private(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn read_cors_origins(env: &mut Env, has_keys: bool) -> Origins {
    let origins = env.read("WORDMILL_CORS_ORIGINS", Origins::default(), Origins::parse);
    if origins.is_any() && !has_keys {
        env.refuse(
            "WORDMILL_CORS_ORIGINS=* without API keys lets every web page use the gateway: list the \
             origins, or set WORDMILL_KEYS_FILE",
        );
    }
    origins
}

fn read_webhooks(env: &mut Env) -> Option<Secrets> {
    Secrets::parse(&env.secret("WORDMILL_WEBHOOK_SECRETS")).unwrap_or_else(|invalid| {
        env.refuse(format!("WORDMILL_WEBHOOK_SECRETS: {invalid}"));
        None
    })
}

fn read_tls(env: &mut Env) -> Option<tls::Files> {
    match (env.file("WORDMILL_TLS_CERT"), env.file("WORDMILL_TLS_KEY")) {
        (Some(certificate), Some(key)) => Some(tls::Files { certificate, key }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            env.refuse("WORDMILL_TLS_CERT and WORDMILL_TLS_KEY go together");
            None
        }
    }
}

fn read_hsts_max_age(env: &mut Env, has_tls: bool) -> Duration {
    let most = Duration::from_secs(730 * 86_400);
    let max_age = env.duration("WORDMILL_HSTS_MAX_AGE", Duration::ZERO, Duration::ZERO, most);
    if !max_age.is_zero() && !has_tls {
        env.refuse(
            "WORDMILL_HSTS_MAX_AGE has no effect on plain HTTP: set WORDMILL_TLS_CERT and \
             WORDMILL_TLS_KEY, or let the proxy with the certificate send the header",
        );
    }
    max_age
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
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        // A record may be older than its message by as much as a request may take.
        let grace_min = Duration::from_secs(3);
        let hour = 60 * minute;
        let day = 24 * 60 * minute;
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

    fn read(settings: &[(&str, &str)]) -> Result<Config, String> {
        let mut env: Env = settings.iter().copied().collect();
        let config = Config::read(&mut env);
        env.finish().map(|()| config).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn a_public_address_requires_keys_or_an_explicit_setting() {
        const LISTEN: &str = "WORDMILL_LISTEN";
        for private in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(read(&[(LISTEN, private)]).is_ok(), "{private}");
        }
        for public in ["0.0.0.0:80", "10.0.0.1:80", "[::]:80", "[fe80::1]:80", "169.254.1.1:80"] {
            let error = read(&[(LISTEN, public)]).map(drop).unwrap_err();
            assert!(error.contains("no API keys: set WORDMILL_KEYS_FILE"), "{error}");
            assert!(read(&[(LISTEN, public), ("WORDMILL_OPEN", "true")]).is_ok());
            assert!(read(&[(LISTEN, public), ("WORDMILL_KEYS_FILE", "keys")]).is_ok());
        }
        for bad in [
            &[("WORDMILL_OPEN", "true"), ("WORDMILL_KEYS_FILE", "keys")][..],
            &[("WORDMILL_OPEN", "yes")],
            &[("WORDMILL_TLS_CERT", "a")],
            &[("WORDMILL_TLS_KEY", "a")],
            &[("WORDMILL_HSTS_MAX_AGE", "1d")],
            &[("WORDMILL_CORS_ORIGINS", "*")],
            &[("WORDMILL_HOSTS", "example.org:8080")],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        let tls = [("WORDMILL_TLS_CERT", "a"), ("WORDMILL_TLS_KEY", "a")];
        assert!(read(&[tls[0], tls[1], ("WORDMILL_HSTS_MAX_AGE", "365d")]).is_ok());
        assert!(read(&[("WORDMILL_KEYS_FILE", "a"), ("WORDMILL_CORS_ORIGINS", "*")]).is_ok());
    }

    #[test]
    fn the_settings_page_lists_exactly_our_settings_and_defaults() {
        let mut env = Env::default();
        Config::read(&mut env);
        let page = include_str!("../../docs/settings.md");
        env.check_table(page, "gateway").unwrap();
    }
}
