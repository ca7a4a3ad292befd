//! The order of events of a fetch, and how far a failed fetch came.

use super::server::{Script, Server, head, response};
use super::tls::TlsServer;
use super::*;

/// Events as text.
#[derive(Default)]
struct Events(Mutex<Vec<String>>);

impl Events {
    fn record(&self, event: FetchEvent<'_>) {
        let text = match event {
            FetchEvent::SlotAcquired => "slot".to_owned(),
            FetchEvent::NameResolved { addresses } => format!("resolved {addresses}"),
            FetchEvent::Connected { peer, tries } => format!("connected {peer} {tries}"),
            FetchEvent::TlsEstablished { version } => format!("tls {}", version.unwrap_or("?")),
            FetchEvent::HeaderReceived { status } => format!("header {status}"),
            FetchEvent::Redirected { location } => format!("redirected {location}"),
        };
        self.0.lock().unwrap().push(text);
    }
}

/// Returns the events of a fetch, and its page or error.
async fn observe(fetcher: &Fetcher, url: impl AsRef<str>) -> (Vec<String>, Result<Page, Error>) {
    let events = Events::default();
    let url = Url::parse(url.as_ref()).unwrap();
    let result = fetcher.get(&url, &|event| events.record(event)).await;
    (events.0.into_inner().unwrap(), result)
}

/// Returns the events of a fetch that fails.
async fn events_until_failure(fetcher: &Fetcher, url: impl AsRef<str>) -> Vec<String> {
    let (events, result) = observe(fetcher, url).await;
    assert!(result.is_err(), "the fetch should fail");
    events
}

#[tokio::test]
async fn each_hop_reports_its_phases_in_order() {
    let page = Server::responding(response("200 OK", &[], b"here")).await;
    let location = page.url_by_name("other.test", "/to?token=1#part");
    let redirect = response("302 Found", &[&format!("location: {location}")], b"");
    let server = Server::responding(redirect).await;
    let url = server.url_by_name("served.test", "/");
    let (events, result) = observe(&fetcher(short_limits()), url).await;
    assert_eq!(result.unwrap().status, 200);
    let expected = [
        "resolved 1".to_owned(),
        format!("connected {} 1", server.address),
        "header 302".to_owned(),
        format!("redirected {location}"),
        "resolved 1".to_owned(),
        format!("connected {} 1", page.address),
        "header 200".to_owned(),
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn an_address_in_the_url_is_not_resolved() {
    let server = Server::responding(response("200 OK", &[], b"")).await;
    let (events, _) = observe(&fetcher(short_limits()), server.url("/")).await;
    assert_eq!(events, [format!("connected {} 1", server.address), "header 200".to_owned()]);
}

#[tokio::test]
async fn a_secure_connection_reports_its_version() {
    let server =
        TlsServer::start("served.test", Script::Send(response("200 OK", &[], b"hello"))).await;
    let url = format!("https://served.test:{}/", server.port);
    let (events, result) = observe(&server.fetcher(), url).await;
    assert_eq!(result.unwrap().status, 200);
    let connected = format!("connected {SERVER_ADDRESS}:{} 1", server.port);
    assert_eq!(events, ["resolved 1", &connected, "tls 1.3", "header 200"]);
}

#[tokio::test]
async fn the_number_of_tried_addresses_is_reported() {
    let server = Server::responding(response("200 OK", &[], b"")).await;
    let names = Names::new([("two.test", vec![vec![TRAP_ADDRESS, SERVER_ADDRESS]])]);
    let fetcher = fetcher_with(short_limits(), &["127.0.0.0/8"], names);
    let (events, result) = observe(&fetcher, server.url_by_name("two.test", "/")).await;
    assert_eq!(result.unwrap().status, 200);
    let connected = format!("connected {} 2", server.address);
    assert_eq!(events, ["resolved 2", &connected, "header 200"]);
}

#[tokio::test]
async fn a_fetch_that_waits_for_its_host_reports_the_end_of_the_wait() {
    let hold = Script::SendAndHold(head("200 OK", &["content-length: 5"]));
    let server = Server::start([hold]).await;
    let fetcher = fetcher(Limits { per_host_max: 1, ..short_limits() });
    let first = get(&fetcher, server.url("/")).await.unwrap();
    let second = observe(&fetcher, server.url("/"));
    // The second fetch is polled first, so it waits for the slot until the first page is dropped.
    let ((events, result), ()) = tokio::join!(second, async { drop(first) });
    assert_eq!(result.unwrap().status, 200);
    let connected = format!("connected {} 1", server.address);
    assert_eq!(events, ["slot", &connected, "header 200"]);
}

#[tokio::test]
async fn a_failed_fetch_reports_the_phases_before_the_failure() {
    let fetcher = fetcher(short_limits());
    let closed = std::net::TcpListener::bind((SERVER_ADDRESS, 0)).unwrap();
    let closed_port = closed.local_addr().unwrap().port();
    drop(closed);
    let reset = Server::start([Script::SendAndReset(Vec::new())]).await;
    let untrusted = TlsServer::start("served.test", Script::Send(Vec::new())).await;
    let missing = Server::responding(response("404 Not Found", &[], b"")).await;
    let connected = |server: &Server| format!("connected {} 1", server.address);

    let refused = events_until_failure(&fetcher, "ftp://served.test/").await;
    assert_eq!(refused, [""; 0], "the guard refuses the URL");
    let unknown = events_until_failure(&fetcher, "http://unknown.test/").await;
    assert_eq!(unknown, [""; 0], "the name does not exist");
    let blocked = events_until_failure(&fetcher, "http://trapped.test/").await;
    assert_eq!(blocked, ["resolved 1"], "the guard refuses the address");
    let url = format!("http://served.test:{closed_port}/");
    let closed = events_until_failure(&fetcher, url).await;
    assert_eq!(closed, ["resolved 1"], "no connection");
    let url = format!("https://served.test:{}/", untrusted.port);
    let insecure = events_until_failure(&fetcher, url).await;
    let tcp = format!("connected {SERVER_ADDRESS}:{} 1", untrusted.port);
    assert_eq!(insecure, ["resolved 1", &tcp], "no valid certificate");
    let silent = events_until_failure(&fetcher, reset.url("/")).await;
    assert_eq!(silent, [connected(&reset)], "no response");
    let failed = events_until_failure(&fetcher, missing.url("/")).await;
    assert_eq!(failed, [connected(&missing), "header 404".to_owned()], "an error status");
}

#[tokio::test]
async fn a_redirect_that_is_not_followed_is_not_reported() {
    let server = Server::responding(response("302 Found", &["location: /"], b"")).await;
    let fetcher = fetcher(Limits { redirects_max: 1, ..short_limits() });
    let events = events_until_failure(&fetcher, server.url("/")).await;
    let connected = format!("connected {} 1", server.address);
    let redirected = format!("redirected {}", server.url("/"));
    assert_eq!(events, [&connected, "header 302", &redirected, &connected, "header 302"]);
}

#[tokio::test]
async fn a_post_reports_its_phases() {
    let server = Server::responding(response("204 No Content", &[], b"")).await;
    let fetcher = fetcher(short_limits());
    let url = Url::parse(&server.url_by_name("served.test", "/")).unwrap();
    let slot = fetcher.reserve(&url).unwrap();
    let events = Events::default();
    let observer = |event: FetchEvent<'_>| events.record(event);
    let posting = fetcher.post(&url, slot, HeaderMap::new(), Bytes::new(), &observer);
    assert_eq!(posting.await.unwrap().status, 204);
    let connected = format!("connected {} 1", server.address);
    assert_eq!(events.0.into_inner().unwrap(), ["resolved 1", &connected, "header 204"]);
}
