//! TLS connections, with certificates made for the test.

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::server::{Script, Server, head, perform, read_request, response};
use super::*;

/// TLS server; it stops when dropped.
pub(super) struct TlsServer {
    pub(super) port: u16,
    certificate: CertificateDer<'static>,
    _tasks: JoinSet<()>,
}

impl TlsServer {
    pub(super) async fn start(name: &str, script: Script) -> Self {
        let certified_key = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = certified_key.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(certified_key.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((SERVER_ADDRESS, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                if read_request(&mut tls).await.is_some() {
                    // The connection is dropped without `close_notify`.
                    perform(&mut tls, script.clone()).await;
                }
            }
        });
        Self { port, certificate, _tasks: tasks }
    }

    pub(super) fn fetcher(&self) -> Fetcher {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let names = Names::new([
            ("served.test", vec![vec![SERVER_ADDRESS]]),
            ("other.test", vec![vec![SERVER_ADDRESS]]),
        ]);
        let allow = vec!["127.0.0.1/32".parse().unwrap()];
        let settings = Settings { limits: short_limits(), allow, ..Settings::default() };
        Fetcher::try_with_roots(&settings, names, roots).unwrap()
    }
}

#[tokio::test]
async fn trusted_servers_are_fetched_from() {
    let page = Script::Send(response("200 OK", &[], b"hello"));
    for (name, host) in [("served.test", "served.test"), (SERVER_ADDRESS, SERVER_ADDRESS)] {
        let server = TlsServer::start(name, page.clone()).await;
        let url = format!("https://{host}:{}/", server.port);
        let mut page = get(&server.fetcher(), url).await.unwrap();
        assert_eq!(read(&mut page).await.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn unknown_issuers_and_wrong_names_are_tls_errors() {
    let server =
        TlsServer::start("served.test", Script::Send(response("200 OK", &[], b"hello"))).await;
    for (fetcher, host) in [
        (fetcher(short_limits()), "served.test"),
        (server.fetcher(), "other.test"),
        (server.fetcher(), SERVER_ADDRESS),
    ] {
        let error = failure(&fetcher, format!("https://{host}:{}/", server.port)).await;
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn plain_text_on_a_secure_port_is_a_tls_error() {
    let listener = TcpListener::bind((SERVER_ADDRESS, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        perform(&mut tcp, Script::SendAndHold(response("400 Bad Request", &[], b"plain"))).await;
    });
    let error = failure(&fetcher(short_limits()), format!("https://served.test:{port}/")).await;
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn silent_handshakes_time_out() {
    // The server waits for the end of a request that never arrives.
    let server = Server::start([Script::SendAndHold(Vec::new())]).await;
    let short = Duration::from_millis(60);
    let fetcher = fetcher(Limits { connect_timeout: short, ..short_limits() });
    let error = failure(&fetcher, format!("https://{}/", server.address)).await;
    assert!(
        matches!(error, Error::Timeout { phase: Phase::Connect, limit } if limit == short),
        "{error:?}"
    );
}

#[tokio::test]
async fn secure_bodies_that_end_without_close_notify_are_truncated() {
    let until_close = [head("200 OK", &[]), b"hello".to_vec()].concat();
    let server = TlsServer::start("served.test", Script::Send(until_close)).await;
    let error = failure(&server.fetcher(), format!("https://served.test:{}/", server.port)).await;
    assert!(matches!(error, Error::Truncated { .. }), "{error:?}");
}
