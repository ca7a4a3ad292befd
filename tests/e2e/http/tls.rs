//! HTTPS at the gateway, and TLS between the services and the broker.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::certificates::{Authority, Certified};
use wordmill_tests::client::{Client, Trust};
use wordmill_tests::stack::{Gateway, Nats, Worker, service_command, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

/// Reported reason if service or broker does not trust the certificate of the other.
const TRUST_ERROR: &str = "one side does not trust the other";

/// A temporary folder for certificates and keys.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and returns its path as text, for a setting.
    fn write(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.path().join(name);
        fs::write(&path, content).expect("the file is written");
        path.to_str().expect("a path").to_owned()
    }

    fn write_both(&self, certified: &Certified) -> [String; 2] {
        [self.write("cert.pem", &certified.certificate), self.write("key.pem", &certified.key)]
    }
}

/// Starts a gateway with HTTPS and without a broker.
fn start_https_gateway(folder: &Folder, certified: &Certified) -> Gateway {
    let [certificate, key] = folder.write_both(certified);
    let settings = [
        ("WORDMILL_TLS_CERT", certificate.as_str()),
        ("WORDMILL_TLS_KEY", &key),
        ("WORDMILL_CLIENT_TIMEOUT", "2s"),
    ];
    Gateway::start("127.0.0.1:1", &settings)
}

fn connection_error(client: &Client) -> String {
    client.try_send("GET", "/livez", &[], b"").expect_err("no answer")
}

#[test]
fn strict_transport_security_is_sent_only_if_configured() {
    let folder = Folder::new();
    let authority = Authority::new();
    let [certificate, key] = folder.write_both(&authority.certify("localhost"));
    let tls = [("WORDMILL_TLS_CERT", certificate.as_str()), ("WORDMILL_TLS_KEY", &key)];
    for (setting, expected) in [("", None), ("365d", Some("max-age=31536000"))] {
        let settings = [tls[0], tls[1], ("WORDMILL_HSTS_MAX_AGE", setting)];
        let gateway = Gateway::start("127.0.0.1:1", &settings);
        let client = gateway.client.with_tls(Trust::new("localhost", &authority.pem));
        for path in ["/livez", "/nothing"] {
            let answer = client.get(path);
            assert_eq!(answer.header("strict-transport-security"), expected, "{answer:?}");
        }
    }
}

#[test]
fn a_job_runs_over_https() {
    let folder = Folder::new();
    let authority = Authority::new();
    let [certificate, key] = folder.write_both(&authority.certify("localhost"));
    let nats = Nats::start(folder.path());
    nats.provision(&[]);
    let settings = [("WORDMILL_TLS_CERT", certificate.as_str()), ("WORDMILL_TLS_KEY", &key)];
    let gateway = Gateway::start(&nats.address(), &settings);
    let _worker = Worker::start(&nats.address(), &[]);
    let trust = Trust::new("localhost", &authority.pem);
    let client = gateway.client.with_tls(trust.clone());
    wait_until_ready(&client);
    let job_id = client.submit(&json!({"text": "one two two"}));
    assert_eq!(client.wait_until_final(&job_id, LIMIT)["status"], "succeeded");
    assert_eq!(client.result(&job_id)["word_count"], json!({"two": 2, "one": 1}));
    assert_eq!(
        gateway.client.with_tls(trust.with_protocols(&["http/1.1"])).get("/livez").status,
        200
    );
    // The health check of the images uses HTTPS if the gateway does.
    let address = gateway.client.address();
    let settings = [settings[0], settings[1], ("WORDMILL_LISTEN", address)];
    let mut command = service_command("wordmill-gateway", "nobody", "127.0.0.1:1", &settings);
    assert!(command.arg("healthcheck").status().expect("the check runs").success());
    let other = Authority::new().certify("localhost").certificate;
    let other = folder.write("other.pem", &other);
    command.env("WORDMILL_TLS_CERT", other);
    assert!(!command.status().expect("the check runs").success(), "an untrusted certificate");
}

#[test]
fn a_client_refuses_a_certificate_that_it_cannot_trust() {
    let folder = Folder::new();
    let authority = Authority::new();
    let gateway = start_https_gateway(&folder, &authority.certify("localhost"));
    let client = |trust| gateway.client.with_tls(trust);
    let known = Trust::new("localhost", &authority.pem);
    assert_eq!(client(known.clone()).get("/livez").status, 200);
    let stranger = connection_error(&client(Trust::new("localhost", &Authority::new().pem)));
    assert!(stranger.contains("UnknownIssuer"), "{stranger}");
    let other_name = connection_error(&client(Trust::new("elsewhere.example", &authority.pem)));
    assert!(other_name.contains("not valid for name"), "{other_name}");
    let other_protocol = connection_error(&client(known.with_protocols(&["h2"])));
    assert!(other_protocol.contains("NoApplicationProtocol"), "{other_protocol}");
    connection_error(&gateway.client);
}

#[test]
fn a_client_refuses_an_expired_certificate() {
    let folder = Folder::new();
    let authority = Authority::new();
    let gateway = start_https_gateway(&folder, &authority.certify_expired("localhost"));
    let known = Trust::new("localhost", &authority.pem);
    let expired = connection_error(&gateway.client.with_tls(known));
    assert!(expired.contains("expired"), "{expired}");
}

#[test]
fn a_renewed_certificate_is_loaded_and_an_incomplete_renewal_is_not() {
    let folder = Folder::new();
    let old = Authority::new();
    let new = Authority::new();
    let mut gateway = start_https_gateway(&folder, &old.certify("localhost"));
    let client =
        |authority: &Authority| gateway.client.with_tls(Trust::new("localhost", &authority.pem));
    let before = client(&old);
    let after = client(&new);
    let renewed = new.certify("localhost");
    folder.write("cert.pem", &renewed.certificate);
    gateway.process.signal(Signal::HUP);
    let reason = "WORDMILL_TLS_KEY does not match the certificate in WORDMILL_TLS_CERT";
    wait_for("the gateway logs the mismatch", LIMIT, || {
        gateway.process.output().contains(reason).then_some(())
    });
    assert_eq!(before.get("/livez").status, 200);
    folder.write("key.pem", &renewed.key);
    wait_for("the new certificate is used", LIMIT, || {
        after.try_send("GET", "/livez", &[], b"").is_ok().then_some(())
    });
    connection_error(&before);
    assert!(gateway.process.exit_status().is_none());
}

#[test]
fn unfinished_tls_handshakes_are_cut_off() {
    let folder = Folder::new();
    let authority = Authority::new();
    let gateway = start_https_gateway(&folder, &authority.certify("localhost"));
    let client = gateway.client.with_tls(Trust::new("localhost", &authority.pem));
    let connect = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(gateway.client.address()).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        stream.write_all(bytes).expect("the bytes are sent");
        stream
    };
    // No bytes, an incomplete handshake, and plain HTTP.
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01];
    let streams = [connect(b""), connect(&hello), connect(b"GET /livez HTTP/1.1\r\n\r\n")];
    for mut stream in streams {
        assert_eq!(client.get("/livez").status, 200);
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        let is_late = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!is_late && !rest.starts_with(b"HTTP"), "{rest:?}");
    }
}

#[test]
fn invalid_certificates_are_reported_at_start() {
    let folder = Folder::new();
    let authority = Authority::new();
    let [certificate, key] = folder.write_both(&authority.certify("localhost"));
    let nothing = folder.write("nothing.pem", "nothing");
    let stranger = folder.write("stranger.pem", &authority.certify("localhost").key);
    for (certificate, key, reason) in [
        (&nothing, &key, "WORDMILL_TLS_CERT has no certificate"),
        (&certificate, &nothing, "WORDMILL_TLS_KEY has no private key"),
        (
            &certificate,
            &stranger,
            "WORDMILL_TLS_KEY does not match the certificate in WORDMILL_TLS_CERT",
        ),
    ] {
        let settings = [
            ("WORDMILL_TLS_CERT", certificate.as_str()),
            ("WORDMILL_TLS_KEY", key),
            ("WORDMILL_LISTEN", "127.0.0.1:0"),
        ];
        let mut command = service_command("wordmill-gateway", "gateway", "127.0.0.1:1", &settings);
        let output = command.output().expect("the gateway runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

/// Starts a broker that accepts only TLS connections.
fn nats_with_tls(folder: &Folder, authority: &Authority, more: &[&str]) -> Nats {
    let [certificate, key] = folder.write_both(&authority.certify("127.0.0.1"));
    let mut arguments = ["--tls", "--tlscert", &certificate, "--tlskey", &key].to_vec();
    arguments.extend(more);
    Nats::start_with(folder.path(), arguments.into_iter().map(str::to_owned).collect())
}

/// Waits until a gateway reports this reason for not being ready.
fn wait_for_unready_reason(gateway: &Gateway, reason: &str) {
    wait_for(&format!("the gateway reports {reason}"), LIMIT, || {
        let answer = gateway.client.get("/readyz");
        assert_eq!(answer.status, 503, "{answer:?}");
        answer.text.contains(reason).then_some(())
    });
}

#[test]
fn an_untrusted_broker_is_refused_over_tls() {
    let folder = Folder::new();
    let authority = Authority::new();
    let nats = nats_with_tls(&folder, &authority, &[]);
    let ca = folder.write("ca.pem", &authority.pem);
    let url = format!("tls://{}", nats.address());
    let settings = [("WORDMILL_NATS_CA", ca.as_str()), ("WORDMILL_NATS_URL", &url)];
    nats.provision(&settings);
    let gateway = Gateway::start(&nats.address(), &settings);
    let _worker = Worker::start(&nats.address(), &settings);
    wait_until_ready(&gateway.client);
    let job_id = gateway.client.submit(&json!({"text": "under seal"}));
    assert_eq!(gateway.client.wait_until_final(&job_id, LIMIT)["status"], "succeeded");

    let other = folder.write("other.pem", &Authority::new().pem);
    let wrong = [("WORDMILL_NATS_CA", other.as_str())];
    wait_for_unready_reason(&Gateway::start(&nats.address(), &wrong), TRUST_ERROR);
    let quick = [wrong[0], ("WORDMILL_NATS_WAIT", "2s")];
    let mut command = service_command("wordmill-nats", "admin", &nats.address(), &quick);
    let output = command.arg("provision").output().expect("wordmill-nats runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(TRUST_ERROR), "{text}");
    // A host name that the certificate does not contain.
    let by_name = nats.address().replace("127.0.0.1", "localhost");
    wait_for_unready_reason(&Gateway::start(&by_name, &settings[..1]), TRUST_ERROR);

    for (file, reason) in [("nowhere.pem", "No such file"), ("key.pem", "no PEM certificate")] {
        let path = folder.path().join(file);
        let path = path.to_str().expect("a path");
        let settings = [("WORDMILL_NATS_CA", path), ("WORDMILL_LISTEN", "127.0.0.1:0")];
        let mut command =
            service_command("wordmill-gateway", "gateway", &nats.address(), &settings);
        let output = command.output().expect("the gateway runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success() && text.contains(reason), "{text}");
    }
}

#[test]
fn a_broker_without_tls_gets_no_password_if_tls_is_required() {
    let folder = Folder::new();
    let authority = Authority::new();
    let nats = Nats::start(folder.path());
    let ca = folder.write("ca.pem", &authority.pem);
    let settings = [("WORDMILL_NATS_CA", ca.as_str())];
    let gateway = Gateway::start(&nats.address(), &settings);
    wait_for_unready_reason(&gateway, "no connection to the broker");
}

#[test]
fn services_send_a_client_certificate_if_the_broker_requires_it() {
    let folder = Folder::new();
    let authority = Authority::new();
    let ca = folder.write("ca.pem", &authority.pem);
    let nats = nats_with_tls(&folder, &authority, &["--tlsverify", "--tlscacert", &ca]);
    let ours = authority.certify("gateway.example");
    let certificate = folder.write("ours.pem", &ours.certificate);
    let key = folder.write("ours-key.pem", &ours.key);
    let settings = [
        ("WORDMILL_NATS_CA", ca.as_str()),
        ("WORDMILL_NATS_CERT", &certificate),
        ("WORDMILL_NATS_KEY", &key),
    ];
    nats.provision(&settings);
    wait_until_ready(&Gateway::start(&nats.address(), &settings).client);
    wait_for_unready_reason(
        &Gateway::start(&nats.address(), &settings[..1]),
        "no connection to the broker",
    );
}
