//! Settings of the gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use wordmill_common::webhook::Secrets;
use wordmill_nats::connect::{Role, Settings};
use wordmill_nats::topology;
use wordmill_service::env::{ByteSize, Env};
use wordmill_service::telemetry;

use crate::http::browser::Hosts;
use crate::http::cors::Origins;
use crate::http::{request_trace, tls};
use crate::intake::upload;

/// All settings of the gateway.
#[derive(Debug, Clone)]
pub struct Config {
    /// `WORDMILL_LISTEN`: address of the HTTP server. Port 0 selects a free port, which is logged.
    pub listen: SocketAddr,
    /// `WORDMILL_KEYS_FILE`: file with the API keys, reloaded when it changes. Without it, every
    /// client acts as the owner `public`, and the gateway accepts only a loopback address in
    /// `WORDMILL_LISTEN`. `WORDMILL_OPEN=true` allows other addresses, for a gateway behind a proxy
    /// that authenticates clients.
    pub keys_file: Option<PathBuf>,
    /// `WORDMILL_TLS_CERT`, `WORDMILL_TLS_KEY`: certificate and private key. If they are set, the
    /// gateway serves HTTPS only. Both files are reloaded when they change.
    pub tls: Option<tls::Files>,
    /// `WORDMILL_HSTS_MAX_AGE`: time for which browsers may use only HTTPS for this host name
    /// (`Strict-Transport-Security`), at most two years. The default is zero: the header is not
    /// sent. A browser that has seen the header refuses plain HTTP on every port of the host until
    /// the time has passed.
    pub hsts_max_age: Duration,
    /// `WORDMILL_CONNECTIONS_MAX`: maximum number of connections. Further clients wait to be
    /// accepted. Each connection uses some kilobytes and a file descriptor. The limit should exceed
    /// the number of connections that clients keep open.
    pub connections_max: u32,
    /// `WORDMILL_CLIENT_TIMEOUT`: time limit for the TLS handshake, for the head of a request, and
    /// for a write that makes no progress. A long timeout lets idle clients hold connections, a
    /// short one disconnects clients on slow networks.
    pub client_timeout: Duration,
    /// `WORDMILL_NATS_URL`, `WORDMILL_NATS_USER`, `WORDMILL_NATS_PASSWORD`, `WORDMILL_NATS_CA`,
    /// `WORDMILL_NATS_CERT`, `WORDMILL_NATS_KEY`: address and credentials of the broker.
    pub broker: Settings,
    /// `WORDMILL_REPLICAS`, `WORDMILL_RESULT_TTL`: parameters of the topology. All services and
    /// `wordmill-nats` must use the same values.
    pub topology: topology::Settings,
    /// `WORDMILL_JSON_SIZE_MAX`: maximum size of a JSON body in bytes, and so of a text that is
    /// sent inline. Below 1 KiB, long URLs do not fit; above 2 MiB, a text does not fit into a
    /// message.
    pub json_size_max: u64,
    /// `WORDMILL_DOCUMENT_SIZE_MAX`, `WORDMILL_UPLOAD_STALL_TIMEOUT`, `WORDMILL_UPLOAD_TIMEOUT`:
    /// maximum size of a document in bytes as sent, maximum time without data, and maximum duration
    /// of the upload. The sweeper removes an unfinished upload, for example of a crashed gateway,
    /// only after that duration. A document must fit into the free space of
    /// `WORDMILL_DOCUMENTS_SPACE`.
    pub uploads: upload::Limits,
    /// `WORDMILL_WAITERS_MAX`: maximum number of clients that follow a job at a time (`wait`, event
    /// streams). Each holds a connection and a subscription. Further clients have to poll.
    pub waiters_max: u32,
    /// `WORDMILL_HOSTS`: host names of a gateway without keys, in addition to IP addresses and
    /// `localhost`. Do not list a name under which others publish pages: these pages could use the
    /// gateway through a user's browser.
    pub hosts: Hosts,
    /// `WORDMILL_CORS_ORIGINS`: other origins whose pages may use the API from a browser. `*`
    /// allows all and requires keys. None by default.
    pub cors_origins: Origins,
    /// `WORDMILL_WEBHOOK_SECRETS`: secrets that sign webhooks, the same as on the workers. Without
    /// them, jobs with a webhook are refused.
    pub webhooks: Option<Secrets>,
    /// `WORDMILL_SHUTDOWN_GRACE`: time for open requests to finish after the shutdown signal. A
    /// short time interrupts responses, a long one delays restarts.
    pub shutdown_grace: Duration,
    /// Settings of the sweeper.
    pub sweeper: Sweeper,
    /// `WORDMILL_TRACE_INBOUND`, `WORDMILL_TRACE_URL`: use of incoming trace contexts, and links to
    /// traces.
    pub trace: request_trace::Settings,
    /// `WORDMILL_LOG*`, `WORDMILL_TRACE`, `OTEL_*`: the log, and the export of spans.
    pub telemetry: telemetry::Config,
}

impl Config {
    /// Reads the settings. `env` collects the errors.
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
                ByteSize(mib),
                ByteSize(kib),
                ByteSize(2 * mib),
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
        Some(_) if is_open => env.refuse("WORDMILL_OPEN=true contradicts WORDMILL_KEYS_FILE"),
        None if !is_open && !is_private(listen) => env.refuse(format!(
            "WORDMILL_LISTEN={listen} can be reached from other machines, but there are no API \
             keys: set WORDMILL_KEYS_FILE, or WORDMILL_OPEN=true if a proxy in front of the \
             gateway authenticates clients"
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
            "WORDMILL_CORS_ORIGINS=* without API keys lets every web page use the gateway: list \
             the origins, or set WORDMILL_KEYS_FILE",
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
            env.refuse("WORDMILL_TLS_CERT and WORDMILL_TLS_KEY must be set together");
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

/// Settings of the sweeper.
#[derive(Debug, Clone)]
pub struct Sweeper {
    /// `WORDMILL_NATS_SWEEPER_USER`, `WORDMILL_NATS_SWEEPER_PASSWORD`: credentials of the sweeper.
    /// Without a password, this gateway runs no sweeper.
    pub broker: Option<Settings>,
    /// `WORDMILL_SWEEP_INTERVAL`: time between two sweeps. Each sweep reads a bounded number of
    /// records. A short interval burdens the broker with reads, a long one delays the detection of
    /// lost jobs and the alarm.
    pub interval: Duration,
    /// `WORDMILL_SWEEP_GRACE`: minimum age of a record without a message, or of a result without a
    /// record, before the sweeper acts on it. Below a few minutes, an outage of the broker may cost
    /// jobs their result.
    pub grace: Duration,
    /// `WORDMILL_ALARM_AGE`: age of the oldest unfinished job from which each sweep logs a warning.
    pub alarm_age: Duration,
}

impl Sweeper {
    fn read(env: &mut Env, gateway: &Settings) -> Self {
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        // A record may be older than its message by the duration of one request.
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
