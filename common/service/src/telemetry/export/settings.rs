//! Settings of the export of spans: the variables `OTEL_*`.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::client::{PemFile, Tls};
use super::key_values;
use super::resource::ResourceSettings;
use crate::env::Env;
use crate::telemetry::sampling::Sampling;

/// Variable with the base URL of the collector.
pub(super) const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Path of the collector for spans, which is appended to the base URL.
const TRACES_PATH: &str = "/v1/traces";
/// The only supported protocol.
const PROTOCOL: &str = "http/protobuf";
/// Default timeout of one export, in milliseconds. A collector that hangs blocks the queue for this
/// time, so it is shorter than the 10 s that OpenTelemetry suggests.
const EXPORT_TIME_DEFAULT_MS: u32 = 3000;
/// Maximum value of the time settings, in milliseconds.
const TIME_MAX_MS: u32 = 600_000;
/// Maximum number of spans in the queue and in a request.
const SPANS_MAX: u32 = 1 << 20;

/// Settings of the exporter.
#[derive(Debug, Clone)]
pub(in crate::telemetry) struct Export {
    /// URL of the requests.
    pub(super) endpoint: Url,
    /// Headers of the requests, marked as sensitive.
    pub(super) headers: HeaderMap,
    pub(super) tls: Tls,
    /// Whether requests are compressed with gzip.
    pub(super) is_compressed: bool,
    /// Time limit of a request.
    pub(super) timeout: Duration,
    pub(super) resource: ResourceSettings,
    pub(super) sampling: Sampling,
    /// Maximum number of spans in the queue.
    pub(super) queue_max: usize,
    /// Maximum number of spans in a request.
    pub(super) batch_max: usize,
    /// Maximum time that spans wait in the queue.
    pub(super) delay: Duration,
}

impl Export {
    /// Reads the settings. Returns `None` if spans are not exported.
    pub(in crate::telemetry) fn read(env: &mut Env, service: &'static str) -> Option<Self> {
        let endpoint = read_endpoint(env);
        read_protocol(env);
        let headers = read_headers(env);
        let is_encrypted = endpoint.as_ref().is_some_and(|url| url.scheme() == "https");
        let tls = read_tls(env, is_encrypted);
        let is_compressed = read_compression(env);
        let timeout = read_timeout(env);
        let is_disabled = env.flag_or_warn("OTEL_SDK_DISABLED");
        let is_selected = read_exporters(env);
        read_unsupported(env);
        let resource = ResourceSettings::read(env, service);
        let sampling = Sampling::read(env);
        let queue_max = env.number_or_warn("OTEL_BSP_MAX_QUEUE_SIZE", 8192, 1, SPANS_MAX);
        let batch_max = env.number_or_warn("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1024, 1, SPANS_MAX);
        let delay_ms = env.number_or_warn("OTEL_BSP_SCHEDULE_DELAY", 1000, 1, TIME_MAX_MS);
        if is_disabled || !is_selected {
            return None;
        }
        Some(Self {
            endpoint: endpoint?,
            headers,
            tls: tls?,
            is_compressed,
            timeout,
            resource,
            sampling,
            queue_max: usize::try_from(queue_max).unwrap_or(usize::MAX),
            batch_max: usize::try_from(batch_max.min(queue_max)).unwrap_or(usize::MAX),
            delay: Duration::from_millis(delay_ms.into()),
        })
    }
}

/// Reads the URL of the requests. As OpenTelemetry specifies, the traces endpoint is used
/// unchanged, and a path is appended to the general endpoint.
fn read_endpoint(env: &mut Env) -> Option<Url> {
    let mut base = read_url(env, ENDPOINT);
    if let Some(url) = &mut base {
        let path = format!("{}{TRACES_PATH}", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    read_url(env, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or(base)
}

fn read_url(env: &mut Env, name: &'static str) -> Option<Url> {
    let text = env.text(name, "");
    if text.is_empty() {
        return None;
    }
    let reason = match Url::parse(&text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            "must be a URL such as http://127.0.0.1:4318 or https://otel.example.org".to_owned()
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            "must not contain credentials: set OTEL_EXPORTER_OTLP_HEADERS".to_owned()
        }
        Ok(url) => return Some(url),
        Err(error) => error.to_string(),
    };
    env.warn(name, &text, format!("{reason}; this endpoint is not used"));
    None
}

/// Reads the protocol, to warn about the ones that are not supported.
fn read_protocol(env: &mut Env) {
    for name in ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] {
        env.read_or_warn(name, PROTOCOL, |text| {
            if text.eq_ignore_ascii_case(PROTOCOL) {
                return Ok(PROTOCOL);
            }
            Err("only http/protobuf is supported: set the endpoint to the collector's port for \
                 HTTP, usually 4318 instead of 4317"
                .to_owned())
        });
    }
}

/// Reads the headers. They usually contain a credential, so no message shows them.
fn read_headers(env: &mut Env) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Each variable is read, so that errors of both are reported. The last one takes precedence.
    for name in ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"] {
        let list = env.secret(name);
        if list.expose().is_empty() {
            continue;
        }
        headers.clear();
        let mut malformed = Vec::new();
        for (index, entry) in key_values::parse(list.expose()).enumerate() {
            match entry.and_then(|(key, value)| parse_header(&key, &value).ok_or(index + 1)) {
                Ok((key, value)) => drop(headers.insert(key, value)),
                Err(position) => malformed.push(position.to_string()),
            }
        }
        if !malformed.is_empty() {
            let reason =
                format!("ignoring entries that are not name=value: {}", malformed.join(", "));
            env.warn(name, "[redacted]", reason);
        }
    }
    headers
}

fn parse_header(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some((HeaderName::try_from(name).ok()?, value))
}

/// Reads the paths of the certificates. Returns `None` if spans cannot be exported with them. A
/// client certificate belongs to the key in the variable of the same form, with or without
/// `_TRACES_`.
fn read_tls(env: &mut Env, is_encrypted: bool) -> Option<Tls> {
    let authorities = read_path(env, "OTEL_EXPORTER_OTLP_CERTIFICATE");
    let authorities = read_path(env, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE").or(authorities);
    let certificate = read_path(env, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE");
    let general = (certificate, read_path(env, "OTEL_EXPORTER_OTLP_CLIENT_KEY"));
    let certificate = read_path(env, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE");
    let traces = (certificate, read_path(env, "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"));
    let identity = match if matches!(traces, (None, None)) { general } else { traces } {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        // Without TLS, no certificate is used.
        (Some(_), None) | (None, Some(_)) if !is_encrypted => None,
        (Some(file), None) | (None, Some(file)) => {
            let reason = "the client certificate and its key must be set together; spans are not \
                          exported";
            env.warn(file.variable, &file.path.to_string_lossy(), reason);
            return None;
        }
    };
    Some(Tls { authorities, identity })
}

fn read_path(env: &mut Env, variable: &'static str) -> Option<PemFile> {
    env.file(variable).map(|path| PemFile { variable, path })
}

/// Returns whether requests are compressed.
fn read_compression(env: &mut Env) -> bool {
    let parse = |text: &str| match text.to_ascii_lowercase().as_str() {
        "gzip" => Ok("gzip"),
        "none" => Ok("none"),
        _ => Err("must be gzip or none".to_owned()),
    };
    let general = env.read_or_warn("OTEL_EXPORTER_OTLP_COMPRESSION", "none", parse);
    env.read_or_warn("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", general, parse) == "gzip"
}

fn read_timeout(env: &mut Env) -> Duration {
    let general = "OTEL_EXPORTER_OTLP_TIMEOUT";
    let general = env.number_or_warn(general, EXPORT_TIME_DEFAULT_MS, 1, TIME_MAX_MS);
    let timeout_ms =
        env.number_or_warn("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", general, 1, TIME_MAX_MS);
    Duration::from_millis(timeout_ms.into())
}

/// Reads the list of exporters. Returns whether spans are sent over OTLP.
fn read_exporters(env: &mut Env) -> bool {
    const NAME: &str = "OTEL_TRACES_EXPORTER";
    let text = env.read_or_warn(NAME, "otlp".to_owned(), |text| Ok(text.to_owned()));
    let names = parse_names(&text);
    let is_off =
        names.iter().any(|name| name == "none") && !names.iter().any(|name| name == "otlp");
    let used = if is_off { "none" } else { "otlp" };
    if names.iter().any(|name| name != used) {
        env.warn(NAME, &text, format!("must be otlp or none; using {used}"));
    }
    !is_off
}

/// Reads variables for which the services support one behavior only, to warn about other values.
fn read_unsupported(env: &mut Env) {
    let variables = [
        ("OTEL_PROPAGATORS", "tracecontext", "only tracecontext is supported"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "metrics are available at /metrics only"),
        ("OTEL_LOGS_EXPORTER", "console", "log lines go to standard output only"),
    ];
    for (name, supported, reason) in variables {
        env.read_or_warn(name, supported, |text| {
            let names = parse_names(text);
            let is_supported = names.iter().all(|name| name == supported || name == "none");
            is_supported.then_some(supported).ok_or_else(|| reason.to_owned())
        });
    }
}

/// Parses a list of names, without empty ones.
fn parse_names(text: &str) -> Vec<String> {
    let names = text.split(',').map(|name| name.trim().to_ascii_lowercase());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads settings. Returns the variables and reasons of the warnings, too.
    fn read(settings: &[(&str, &str)]) -> (Option<Export>, Vec<(&'static str, String)>) {
        let mut env: Env = settings.iter().copied().collect();
        let export = Export::read(&mut env, "wordmill-gateway");
        let warnings = env.take_warnings().into_iter().map(|one| (one.variable, one.reason));
        let warnings = warnings.collect();
        env.finish().unwrap();
        (export, warnings)
    }

    const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://example.org:4318/base/");

    #[test]
    fn the_endpoint_of_traces_takes_precedence() {
        const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        for (settings, expected) in [
            (&[BASE][..], Some("https://example.org:4318/base/v1/traces")),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:1")],
                Some("http://[::1]:1/v1/traces"),
            ),
            (&[BASE, (TRACES, "http://h/spans?a=b")], Some("http://h/spans?a=b")),
            (&[BASE, (TRACES, "")], Some("https://example.org:4318/base/v1/traces")),
            (&[], None),
        ] {
            let (export, warnings) = read(settings);
            let endpoint = export.map(|export| export.endpoint.to_string());
            assert_eq!(endpoint.as_deref(), expected, "{settings:?}");
            assert_eq!(warnings, [], "{settings:?}");
        }
    }

    #[test]
    fn invalid_endpoints_are_ignored_with_a_warning() {
        for endpoint in ["collector:4317", "garbage", "https://", "https://user:pass@example.org"] {
            let (export, warnings) = read(&[(ENDPOINT, endpoint)]);
            assert!(export.is_none(), "{endpoint}");
            let variables: Vec<_> = warnings.iter().map(|(variable, _)| *variable).collect();
            assert_eq!(variables, [ENDPOINT], "{endpoint}");
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let settings = [
            BASE,
            ("OTEL_EXPORTER_OTLP_HEADERS", "unused=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=hunter%202,hunter2,b c=hunter2,X=1"),
        ];
        let (export, warnings) = read(&settings);
        let headers = export.unwrap().headers;
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["api-key"], "hunter 2");
        assert_eq!(headers["x"], "1");
        assert!(!format!("{headers:?}").contains("hunter"), "{headers:?}");
        let reason = "ignoring entries that are not name=value: 2, 3".to_owned();
        assert_eq!(warnings, [("OTEL_EXPORTER_OTLP_TRACES_HEADERS", reason)]);
    }

    #[test]
    fn every_unsupported_value_is_one_warning() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "3s"),
            ("OTEL_SDK_DISABLED", "yes"),
            ("OTEL_TRACES_EXPORTER", "otlp,console"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "otlp"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_PROPAGATORS", "tracecontext,baggage,b3"),
            ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote"),
            ("OTEL_RESOURCE_ATTRIBUTES", "garbage"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "abc"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ] {
            let (export, warnings) = read(&[BASE, (name, value)]);
            assert!(export.is_some(), "{name}={value}");
            let variables: Vec<_> = warnings.iter().map(|(variable, _)| *variable).collect();
            assert_eq!(variables, [name], "{name}={value}");
        }
    }

    #[test]
    fn export_can_be_switched_off() {
        for (off, is_off) in [
            (("OTEL_SDK_DISABLED", "True"), true),
            (("OTEL_SDK_DISABLED", "FALSE"), false),
            (("OTEL_TRACES_EXPORTER", "none"), true),
            (("OTEL_TRACES_EXPORTER", " None,,none,"), true),
            (("OTEL_TRACES_EXPORTER", "OTLP"), false),
        ] {
            let (export, warnings) = read(&[BASE, off]);
            assert_eq!(export.is_none(), is_off, "{off:?}");
            assert_eq!(warnings, [], "{off:?}");
        }
    }

    #[test]
    fn settings_of_traces_take_precedence_over_general_ones() {
        let general = [
            BASE,
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "general.pem"),
        ];
        let traces = [
            ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "20"),
            ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "traces.pem"),
        ];
        for (settings, is_compressed, timeout_ms, path) in [
            (general.to_vec(), true, 10, "general.pem"),
            ([&general[..], &traces].concat(), false, 20, "traces.pem"),
        ] {
            let export = read(&settings).0.unwrap();
            assert_eq!(export.is_compressed, is_compressed);
            assert_eq!(export.timeout, Duration::from_millis(timeout_ms));
            assert_eq!(export.tls.authorities.unwrap().path.to_str(), Some(path));
        }
    }

    #[test]
    fn a_client_certificate_without_its_key_prevents_the_export() {
        let general = ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "a.pem");
        let other_form = ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "key.pem");
        for settings in [&[BASE, general][..], &[BASE, general, other_form]] {
            let (export, warnings) = read(settings);
            assert!(export.is_none());
            assert_eq!(warnings.len(), 1, "{warnings:?}");
        }
        let plain = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let (export, warnings) = read(&[plain, general]);
        assert!(export.is_some() && warnings.is_empty(), "{warnings:?}");
    }
}
