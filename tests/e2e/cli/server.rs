//! `wordmill` with servers that are unreachable, not ready, lose responses, limit the rate, require
//! keys, or use HTTPS.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use wordmill_tests::assertions::array_length;
use wordmill_tests::certificates::Authority;
use wordmill_tests::command::Wordmill;
use wordmill_tests::keyring::Keyring;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Stack, wait_until_ready};

use crate::cli::count::create_folder;

#[test]
fn missing_and_failing_servers_have_different_errors() {
    let files = create_folder(&[("a.txt", b"a")]);
    let port = wordmill_tests::port::reserve();
    let unreachable = Wordmill::for_server(&format!("http://127.0.0.1:{port}"), files.path());
    let missing = unreachable.run(&["count", "a.txt", "a.txt"]);
    assert_eq!(missing.expect_failure(3, &["cannot be reached", &port.to_string(), "refused"]), "");
    assert_eq!(missing.stderr.lines().count(), 1, "{missing:?}");
    unreachable.run(&["queue"]).expect_failure(3, &["cannot be reached"]);
    unreachable
        .run(&["--server", "http://no-such-host.invalid", "queue"])
        .expect_failure(3, &["cannot be reached"]);

    // A gateway without a broker.
    let gateway = Gateway::start("127.0.0.1:1", &[]);
    let gateway_without_broker = Wordmill::for_client(&gateway.client, files.path());
    let unavailable = gateway_without_broker.run(&["--retry-time", "1s", "count", "a.txt"]);
    unavailable.expect_failure(3, &["(broker_unavailable, status 503, ", "trace "]);
    // Servers that are not Wordmill.
    let site = Site::start();
    site.put("/v1/queue", Page::new("text/html", "<h1>Welcome"));
    site.put("/b/v1/queue", Page::status("502 Bad Gateway"));
    site.put("/c/v1/queue", Page::status("301 Moved").header("Location", "http://elsewhere/"));
    let at = |path: &str| Wordmill::for_server(&site.url(path), files.path());
    at("").run(&["queue"]).expect_failure(3, &["unexpected response from"]);
    at("/b").run(&["--retry-time", "0", "queue"]).expect_failure(3, &["status 502"]);
    at("/c").run(&["queue"]).expect_failure(3, &["redirects to http://elsewhere/"]);
    assert_eq!(site.hits("/b/v1/queue"), 1);
    at("/b").run(&["--retry-time", "1s", "queue"]).expect_failure(3, &["status 502"]);
    assert!(site.hits("/b/v1/queue") > 2);
}

#[test]
fn a_lost_response_or_a_rate_limit_creates_no_second_job() {
    let mut keyring = Keyring::new();
    let limit = json!({"rate_limit": {"per_second": 20, "burst": 2}});
    let key = keyring.add("reports", &limit);
    let (name, file) = keyring.setting();
    let stack = Stack::with(1, 1, &[(name, &file)]);
    let files: Vec<String> = (0..30).map(|n| format!("{n:02}.txt")).collect();
    let content: Vec<(&str, &[u8])> =
        files.iter().map(|name| (name.as_str(), &b"a b"[..])).collect();
    let files = create_folder(&content);
    let proxy = ResponseDroppingProxy::start(stack.client().address());
    let address = format!("http://{}", proxy.address);
    let wordmill =
        Wordmill::for_server(&address, files.path()).with_variable("WORDMILL_API_KEY", &key);
    let counted = wordmill.run(&["count", ".", "-f", "json"]);
    counted.expect_success();
    assert_eq!(counted.json()["totals"]["words"], 60);
    assert!(proxy.lost.load(Ordering::SeqCst) > 0, "no response was lost");
    let client = stack.client().with_key(&key);
    let jobs = std::iter::repeat_with(|| client.get("/v1/jobs?limit=100"))
        .find(|response| response.status == 200)
        .expect("a response within the limit");
    assert_eq!(array_length(&jobs.json()["data"]), 30);
}

/// TCP proxy that drops the server's first response on every third connection.
struct ResponseDroppingProxy {
    address: String,
    lost: Arc<AtomicUsize>,
}

impl ResponseDroppingProxy {
    fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let lost = Arc::new(AtomicUsize::new(0));
        let target = target.to_owned();
        let counter = Arc::clone(&lost);
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                let server = TcpStream::connect(&target).expect("the server");
                let mut from = server;
                let mut to = client;
                let up = (to.try_clone().expect("a socket"), from.try_clone().expect("a socket"));
                std::thread::spawn(move || copy(up.0, up.1));
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || {
                    if number % 3 == 0 {
                        // The first bytes show that the server has responded.
                        let mut response = [0; 4096];
                        if from.read(&mut response).is_ok_and(|read| read > 0) {
                            counter.fetch_add(1, Ordering::SeqCst);
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                        let _ = from.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                    while let Some(piece) = read_chunk(&mut from) {
                        if to.write_all(&piece).is_err() {
                            return;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, lost }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    while let Some(piece) = read_chunk(&mut from) {
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

fn read_chunk(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut piece = vec![0; 16 << 10];
    let read = from.read(&mut piece).ok().filter(|read| *read > 0)?;
    piece.truncate(read);
    Some(piece)
}

#[test]
fn keys_from_a_file_or_the_environment_are_never_printed() {
    let mut keyring = Keyring::new();
    let key = keyring.add("reports", &json!({}));
    let (name, file) = keyring.setting();
    let stack = Stack::with(1, 1, &[(name, &file)]);
    let files = create_folder(&[
        ("a.txt", b"a b"),
        ("key", format!("{key}\n").as_bytes()),
        ("bad", b"a b"),
    ]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    wordmill
        .run(&["count", "a.txt", "a.txt"])
        .expect_failure(4, &["unauthenticated", "--key-file"]);
    wordmill.run(&["--key-file", "key", "count", "a.txt"]).expect_success();
    wordmill
        .run(&["--key-file", "nowhere", "queue"])
        .expect_failure(5, &["cannot read the key in nowhere"]);
    wordmill.run(&["--key-file", "bad", "queue"]).expect_failure(2, &["is not a valid API key"]);
    let with_key =
        Wordmill::for_client(stack.client(), files.path()).with_variable("WORDMILL_API_KEY", &key);
    with_key.run(&["count", "a.txt"]).expect_success();
    let with_key_file = Wordmill::for_client(stack.client(), files.path())
        .with_variable("WORDMILL_API_KEY_FILE", "key");
    with_key_file.run(&["count", "a.txt"]).expect_success();
    // The option takes precedence over both variables.
    let with_both = with_key_file.with_variable("WORDMILL_API_KEY", &key);
    let refused = with_both.run(&["count", "a.txt"]);
    refused.expect_failure(2, &["WORDMILL_API_KEY and WORDMILL_API_KEY_FILE are both set"]);
    assert!(!refused.stderr.contains(&key), "{refused:?}");
    with_both.run(&["--key-file", "key", "queue"]).expect_success();
    let wrong = format!("wm_{}", "0".repeat(64));
    let with_wrong_key = Wordmill::for_client(stack.client(), files.path())
        .with_variable("WORDMILL_API_KEY", &wrong);
    let refused = with_wrong_key.run(&["count", "a.txt"]);
    refused.expect_failure(4, &["unauthenticated"]);
    assert!(!refused.stderr.contains(&wrong), "{refused:?}");
    with_wrong_key.run(&["--key-file", "key", "queue"]).expect_success();
    assert!(!with_wrong_key.run(&["--help"]).expect_success().contains(&wrong));
}

#[test]
fn https_trusts_the_authorities_in_ssl_cert_file() {
    let authority = Authority::new();
    let certified = authority.certify("127.0.0.1");
    let files = create_folder(&[
        ("ca.pem", authority.pem.as_bytes()),
        ("cert.pem", certified.certificate.as_bytes()),
        ("key.pem", certified.key.as_bytes()),
    ]);
    let path = |name: &str| files.path().join(name).display().to_string();
    let certificate = path("cert.pem");
    let key = path("key.pem");
    let settings = [("WORDMILL_TLS_CERT", certificate.as_str()), ("WORDMILL_TLS_KEY", &key)];
    let stack = Stack::with(0, 0, &[]);
    let gateway = Gateway::start(&stack.nats.address(), &settings);
    let trust = wordmill_tests::client::Trust::new("127.0.0.1", &authority.pem);
    wait_until_ready(&gateway.client.with_tls(trust));
    let address = format!("https://{}", gateway.client.address());
    let with_authority = Wordmill::for_server(&address, files.path())
        .with_variable("SSL_CERT_FILE", &path("ca.pem"));
    assert!(with_authority.run(&["queue"]).expect_success().contains("No worker is running."));
    let without_authority = Wordmill::for_server(&address, files.path());
    without_authority.run(&["queue"]).expect_failure(3, &["cannot be reached", "certificate"]);
    let plain_http = Wordmill::for_server(&gateway.client.url(""), files.path());
    plain_http.run(&["--retry-time", "0", "queue"]).expect_failure(3, &["cannot be reached"]);
}
