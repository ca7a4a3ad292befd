//! Export of spans: TLS, headers, compression, proxies, and settings that are not supported.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};

use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::LIMIT;
use wordmill_tests::certificates::Authority;
use wordmill_tests::collector::{Collector, CollectorBehavior};
use wordmill_tests::process::Process;
use wordmill_tests::site::{Page, Site, closed_port};
use wordmill_tests::stack::{Gateway, Stack, service_command};
use wordmill_tests::traces::cases;

/// Address without a broker.
const NO_BROKER: &str = "127.0.0.1:1";
const HEADER: (&str, &str) = ("api-key", "hunter2/secret");
/// The header as OpenTelemetry writes it.
const HEADERS: &str = "api-key=hunter2%2Fsecret";
const FAILED: &str = "cannot send spans; dropping them until the collector accepts them again";

/// Writes a file, and returns its path.
fn write(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("the file is written");
    path.to_str().expect("a path").to_owned()
}

/// Sends an invalid request, which has a span and needs no broker. Returns its trace id.
fn create_span(gateway: &Gateway) -> String {
    let answer = gateway.client.post("/v1/jobs", &json!({}));
    answer.header("traceresponse").expect("a trace")[3..35].to_owned()
}

/// Returns the variables about whose values a process has logged a warning.
fn warned_variables(process: &Process) -> Vec<String> {
    let output = process.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let warnings = lines.filter(|line| line["message"] == "unusable OpenTelemetry setting");
    let variables = warnings.map(|line| {
        assert_eq!(line["level"], "WARN", "{line}");
        assert!(line["value"].is_string() && line["reason"].is_string(), "{line}");
        line["variable"].as_str().expect("a name").to_owned()
    });
    let mut variables: Vec<String> = variables.collect();
    variables.sort();
    variables
}

#[test]
fn spans_are_sent_compressed_over_tls_with_headers() {
    let folder = TempDir::new().expect("a folder");
    let authority = Authority::new();
    let collector = Collector::start_secure(authority.certify("127.0.0.1").server_config(), HEADER);
    let endpoint = collector.endpoint();
    let authorities = write(&folder, "ca.pem", &authority.pem);
    let headers = write(&folder, "headers", &format!("{HEADERS}\n"));
    let mut settings = cases::settings(&endpoint).to_vec();
    settings.extend([
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", authorities.as_str()),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        // The file for traces takes precedence over the general variable.
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=wrong-secret"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS_FILE", headers.as_str()),
        ("WORDMILL_LOG", "trace"),
    ]);
    let stack = Stack::with(1, 1, &settings);
    let job_id = stack.client().submit(&json!({"text": "a b"}));
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 4, LIMIT);
    assert_eq!(collector.compressed_requests(), collector.requests());
    for process in [&stack.gateways[0].process, &stack.workers[0].process] {
        let output = process.output();
        assert!(!output.contains("hunter2") && !output.contains("wrong-secret"), "{output}");
        assert_eq!(warned_variables(process), [""; 0], "{output}");
    }
}

#[test]
fn failures_are_logged_with_their_cause() {
    let folder = TempDir::new().expect("a folder");
    let authority = Authority::new();
    let collector = Collector::start_secure(authority.certify("127.0.0.1").server_config(), HEADER);
    let other_host =
        Collector::start_secure(authority.certify("collector.test").server_config(), HEADER);
    let expired =
        Collector::start_secure(authority.certify_expired("127.0.0.1").server_config(), HEADER);
    let authorities = write(&folder, "ca.pem", &authority.pem);
    let trusted = ("OTEL_EXPORTER_OTLP_CERTIFICATE", authorities.as_str());
    let refused = closed_port();
    for (endpoint, extra, cause) in [
        (collector.endpoint(), vec![], "invalid peer certificate: UnknownIssuer"),
        (collector.endpoint(), vec![trusted], "status code: 401"),
        (other_host.endpoint(), vec![trusted], "certificate not valid for name"),
        (expired.endpoint(), vec![trusted], "certificate expired"),
        (refused.trim_end_matches('/').to_owned(), vec![], "Connection refused"),
    ] {
        let mut settings = cases::settings(&endpoint).to_vec();
        settings.extend(extra);
        settings.push(("OTEL_EXPORTER_OTLP_HEADERS", "api-key=wrong-secret"));
        let mut gateway = Gateway::start(NO_BROKER, &settings);
        create_span(&gateway);
        let line = gateway.process.wait_for_log(FAILED, LIMIT);
        assert_eq!(line["level"], "WARN", "{line}");
        assert_eq!(line["endpoint"], format!("{endpoint}/v1/traces"), "{line}");
        assert!(line["error"].as_str().is_some_and(|error| error.contains(cause)), "{line}");
        let output = gateway.process.output();
        assert!(!output.contains("wrong-secret"), "{output}");
    }
    for collector in [collector, other_host, expired] {
        assert!(collector.traces().is_empty());
    }
}

#[test]
fn a_client_certificate_is_sent() {
    let folder = TempDir::new().expect("a folder");
    let authority = Authority::new();
    let clients = Authority::new();
    let config = authority.certify("127.0.0.1").server_config_for_clients_of(&clients);
    let collector = Collector::start_secure(config, HEADER);
    let endpoint = collector.endpoint();
    let client = clients.certify("gateway");
    let authorities = write(&folder, "ca.pem", &authority.pem);
    let certificate = write(&folder, "client.pem", &client.certificate);
    let key = write(&folder, "client.key", &client.key);
    let mut settings = cases::settings(&endpoint).to_vec();
    settings.extend([
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", authorities.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", HEADERS),
    ]);
    let mut without = Gateway::start(NO_BROKER, &settings);
    create_span(&without);
    let line = without.process.wait_for_log(FAILED, LIMIT);
    assert!(line["error"].as_str().is_some_and(|error| error.contains("Certificate")), "{line}");
    settings.extend([
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", certificate.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
    ]);
    let gateway = Gateway::start(NO_BROKER, &settings);
    collector.wait_for_trace(&create_span(&gateway), 1, LIMIT);
}

#[test]
fn redirects_are_not_followed() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let site = Site::start();
    let target = format!("{}/v1/traces", collector.endpoint());
    let page = Page::status("307 Temporary Redirect").header("Location", &target);
    site.put("/v1/traces", page);
    let endpoint = site.url("");
    let mut gateway = Gateway::start(NO_BROKER, &cases::settings(&endpoint));
    create_span(&gateway);
    let line = gateway.process.wait_for_log(FAILED, LIMIT);
    assert!(line["error"].as_str().is_some_and(|error| error.contains("307")), "{line}");
    assert_eq!(collector.requests(), 0);
}

#[test]
fn a_proxy_is_used_for_other_machines_only() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let direct = collector.endpoint();
    let closed = closed_port();
    for (endpoint, proxy) in [
        // The collector is the proxy, which receives the request for a host that does not exist.
        ("http://collector.invalid:4318", direct.as_str()),
        (direct.as_str(), closed.as_str()),
    ] {
        let mut settings = cases::settings(endpoint).to_vec();
        settings.extend([("HTTP_PROXY", proxy), ("http_proxy", proxy), ("NO_PROXY", "")]);
        let gateway = Gateway::start(NO_BROKER, &settings);
        collector.wait_for_trace(&create_span(&gateway), 1, LIMIT);
    }
}

/// Starts a proxy that connects every `CONNECT` request to `target`. Returns its URL, and the first
/// line of each request.
fn start_tunnel(target: String) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(client.try_clone().expect("a socket"));
            let head: Vec<String> = reader
                .by_ref()
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let Some(line) = head.first() else { continue };
            let _ = sender.send(line.clone());
            let mut server = TcpStream::connect(&target).expect("the target accepts");
            let mut back = (server.try_clone().expect("a socket"), client);
            back.1.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("the client reads");
            std::thread::spawn(move || std::io::copy(&mut reader, &mut server));
            std::thread::spawn(move || std::io::copy(&mut back.0, &mut back.1));
        }
    });
    (url, requests)
}

#[test]
fn tls_connections_pass_through_a_proxy() {
    let folder = TempDir::new().expect("a folder");
    let authority = Authority::new();
    let certified = authority.certify("collector.invalid");
    let collector = Collector::start_secure(certified.server_config(), HEADER);
    let target = collector.endpoint().trim_start_matches("https://").to_owned();
    let (proxy, requests) = start_tunnel(target);
    let authorities = write(&folder, "ca.pem", &authority.pem);
    let mut settings = cases::settings("https://collector.invalid").to_vec();
    settings.extend([
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", authorities.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", HEADERS),
        ("HTTPS_PROXY", proxy.as_str()),
        ("https_proxy", proxy.as_str()),
        ("NO_PROXY", ""),
    ]);
    let gateway = Gateway::start(NO_BROKER, &settings);
    collector.wait_for_trace(&create_span(&gateway), 1, LIMIT);
    assert_eq!(requests.recv().expect("a request"), "CONNECT collector.invalid:443 HTTP/1.1");
}

#[test]
fn unsupported_settings_are_ignored_with_one_warning_each() {
    let collector = Collector::start(CollectorBehavior::Accepts);
    let endpoint = collector.endpoint();
    let unsupported = [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "abc"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3s"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://user:hunter2@127.0.0.1/?key=hunter2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "garbage"),
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_TRACES_EXPORTER", "otlp,console"),
        ("OTEL_TRACES_SAMPLER", "parentbased_jaeger_remote"),
    ];
    let settings = [&cases::settings(&endpoint)[..], &unsupported].concat();
    let stack = Stack::with(1, 1, &settings);
    let job_id = stack.client().submit(&json!({"text": "a b"}));
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_eq!(job["status"], "succeeded", "{job}");
    collector.wait_for_trace(job["trace_id"].as_str().expect("an id"), 4, LIMIT);
    for process in [&stack.gateways[0].process, &stack.workers[0].process] {
        let output = process.output();
        assert_eq!(warned_variables(process), unsupported.map(|(name, _)| name), "{output}");
        assert!(output.contains("usually 4318 instead of 4317"), "{output}");
        assert!(!output.contains("hunter2"), "{output}");
    }
}

#[test]
fn unusable_endpoints_and_certificates_do_not_prevent_the_start() {
    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const HTTPS: (&str, &str) = (ENDPOINT, "https://127.0.0.1:1");
    let folder = TempDir::new().expect("a folder");
    let empty = write(&folder, "empty.pem", "");
    for (settings, warned) in [
        (&[HTTPS][..], None),
        (&[HTTPS, ("OTEL_SDK_DISABLED", "True")], None),
        (&[(ENDPOINT, "collector:4317")], Some(ENDPOINT)),
        (
            &[HTTPS, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/missing.pem")],
            Some("OTEL_EXPORTER_OTLP_CERTIFICATE"),
        ),
        (
            &[HTTPS, ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", &empty)],
            Some("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"),
        ),
    ] {
        let stack = Stack::with(1, 1, settings);
        let job_id = stack.client().submit(&json!({"text": "a b"}));
        let job = stack.client().wait_until_final(&job_id, LIMIT);
        assert_eq!(job["status"], "succeeded", "{job}");
        for process in [&stack.gateways[0].process, &stack.workers[0].process] {
            let expected: Vec<&str> = warned.into_iter().collect();
            assert_eq!(warned_variables(process), expected, "{}", process.output());
        }
    }
}

#[test]
fn headers_in_a_variable_and_a_file_are_refused() {
    let folder = TempDir::new().expect("a folder");
    let file = write(&folder, "headers", HEADERS);
    let settings =
        [("OTEL_EXPORTER_OTLP_HEADERS", HEADERS), ("OTEL_EXPORTER_OTLP_HEADERS_FILE", &file)];
    let mut command = service_command("wordmill-gateway", "gateway", NO_BROKER, &settings);
    let output = command.output().expect("the gateway runs");
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("OTEL_EXPORTER_OTLP_HEADERS_FILE are both set"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}
