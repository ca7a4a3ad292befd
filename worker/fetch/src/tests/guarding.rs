//! Addresses that are not allowed are never dialled.

use super::server::{Server, Trap, response};
use super::*;

fn assert_blocked(error: &Error, redirects_followed: usize) {
    assert!(
        matches!(error, Error::Blocked { redirects, .. } if *redirects == redirects_followed),
        "{error:?}"
    );
}

#[tokio::test]
async fn no_spelling_of_loopback_is_dialled() {
    let trap = Trap::set_on("127.0.0.1").await.unwrap();
    let fetcher = fetcher_with(short_limits(), &[], Names::new([]));
    let hosts = "127.0.0.1 127.1 2130706433 0x7f000001 0177.0.0.1 0x7f.1 127.0.0.1. \
         [::ffff:127.0.0.1] [::ffff:7f00:1] 0.0.0.0 0 [::] １２７.0.0.1";
    for host in hosts.split(' ') {
        for scheme in ["http", "https"] {
            let error = failure(&fetcher, format!("{scheme}://{host}:{}/", trap.port())).await;
            assert_blocked(&error, 0);
        }
    }
    trap.assert_untouched().await;
}

#[tokio::test]
async fn ipv6_loopback_is_not_dialled() {
    let fetcher = fetcher_with(
        short_limits(),
        &["127.0.0.0/8"],
        Names::new([("v6.test", vec![vec!["::1"]])]),
    );
    // If the machine has no IPv6, no trap can listen, but the error is the same.
    let trap = Trap::set_on("::1").await.ok();
    let port = trap.as_ref().map_or(8080, Trap::port);
    for host in ["[::1]", "[0:0:0:0:0:0:0:1]", "v6.test"] {
        assert_blocked(&failure(&fetcher, format!("http://{host}:{port}/")).await, 0);
    }
    if let Some(trap) = trap {
        trap.assert_untouched().await;
    }
}

#[tokio::test]
async fn metadata_services_are_refused_by_address_and_by_name() {
    let names = Names::new([
        ("metadata.test", vec![vec!["169.254.169.254"]]),
        ("metadata6.test", vec![vec!["fd00:ec2::254"]]),
        ("mapped.test", vec![vec!["::ffff:169.254.169.254"]]),
        ("nat64.test", vec![vec!["64:ff9b::a9fe:a9fe"]]),
    ]);
    let fetcher = fetcher_with(short_limits(), &[], names);
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "metadata.test",
        "metadata6.test",
        "mapped.test",
        "nat64.test",
    ] {
        assert_blocked(&failure(&fetcher, format!("http://{host}/latest/meta-data/")).await, 0);
    }
}

#[tokio::test]
async fn names_that_resolve_to_loopback_are_not_dialled() {
    let trap = Trap::set().await;
    let names = Names::new([
        ("loopback.test", vec![vec![TRAP_ADDRESS]]),
        ("mapped.test", vec![vec!["::ffff:127.0.0.2"]]),
        // The allowed address is the first one, and a server listens there.
        ("mixed.test", vec![vec![SERVER_ADDRESS, TRAP_ADDRESS]]),
    ]);
    let server = Server::start_on(
        tokio::net::TcpListener::bind((SERVER_ADDRESS, trap.port())).await.unwrap(),
        [server::Script::Send(response("200 OK", &[], b"hello"))],
    );
    let fetcher = fetcher_with(short_limits(), &["127.0.0.1/32"], names);
    for name in ["loopback.test", "mapped.test", "mixed.test"] {
        let error = failure(&fetcher, format!("http://{name}:{}/", trap.port())).await;
        assert_blocked(&error, 0);
        let text = error.to_string();
        assert!(text.contains(name) && !text.contains("127."), "{text}");
    }
    assert!(server.requests().is_empty());
    trap.assert_untouched().await;
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_the_allowed_address_is_dialled() {
    // The port of the trap may be in use at the other address.
    let mut attempts = 0..100;
    let (trap, listener) = loop {
        let trap = Trap::set().await;
        if let Ok(listener) = tokio::net::TcpListener::bind((SERVER_ADDRESS, trap.port())).await {
            break (trap, listener);
        }
        assert!(attempts.next().is_some(), "no port is free at both addresses");
    };
    let server =
        Server::start_on(listener, [server::Script::Send(response("200 OK", &[], b"good"))]);
    let names = Names::new([("rebinding.test", vec![vec![SERVER_ADDRESS], vec![TRAP_ADDRESS]])]);
    let fetcher = fetcher_with(short_limits(), &["127.0.0.1/32"], names.clone());
    let url = server.url_by_name("rebinding.test", "/");

    let mut page = get(&fetcher, &url).await.unwrap();
    assert_eq!(read(&mut page).await.unwrap(), b"good");
    assert_eq!(names.lookups(), 1);

    // The second fetch resolves the name again: it does not reuse the first connection.
    assert_blocked(&failure(&fetcher, &url).await, 0);
    assert_eq!(names.lookups(), 2);
    trap.assert_untouched().await;
}

#[tokio::test]
async fn every_redirect_is_checked() {
    let trap = Trap::set().await;
    let port = trap.port();
    for location in [
        format!("http://{TRAP_ADDRESS}:{port}/"),
        format!("http://127.2:{port}/"),
        format!("http://[::ffff:127.0.0.2]:{port}/"),
        format!("//{TRAP_ADDRESS}:{port}/"),
        format!("http://trapped.test:{port}/"),
        format!("https://trapped.test:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::1]/".to_owned(),
        "http://served.test:25/".to_owned(),
        "http://user:secret@served.test/".to_owned(),
        "ftp://served.test/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,hello".to_owned(),
        "javascript:alert(1)".to_owned(),
    ] {
        let redirect = response("302 Found", &[&format!("location: {location}")], b"");
        let server = Server::responding(redirect).await;
        let error = failure(&fetcher(short_limits()), server.url("/")).await;
        assert_blocked(&error, 1);
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
    trap.assert_untouched().await;
}

#[tokio::test]
async fn a_name_that_changes_between_redirects_is_checked_again() {
    let trap = Trap::set().await;
    let listener = tokio::net::TcpListener::bind((SERVER_ADDRESS, trap.port())).await.unwrap();
    let redirect = response("307 Temporary Redirect", &["location: /again"], b"");
    let server = Server::start_on(listener, [server::Script::Send(redirect)]);
    let names = Names::new([("rebinding.test", vec![vec![SERVER_ADDRESS], vec![TRAP_ADDRESS]])]);
    let fetcher = fetcher_with(short_limits(), &["127.0.0.1/32"], names.clone());
    let error = failure(&fetcher, server.url_by_name("rebinding.test", "/")).await;
    assert_blocked(&error, 1);
    assert_eq!(names.lookups(), 2);
    assert_eq!(server.requests().len(), 1);
    trap.assert_untouched().await;
}

#[tokio::test]
async fn allowed_networks_are_fetched_from() {
    let server = Server::responding(response("200 OK", &[], b"hello")).await;
    let port = server.address.port();
    let names = Names::new([
        ("served.test", vec![vec![SERVER_ADDRESS]]),
        ("mapped.test", vec![vec!["::ffff:127.0.0.1"]]),
    ]);
    let fetcher = fetcher_with(short_limits(), &["127.0.0.1/32"], names);
    for host in ["127.0.0.1", "127.1", "[::ffff:127.0.0.1]", "served.test", "mapped.test"] {
        let mut page = get(&fetcher, format!("http://{host}:{port}/")).await.unwrap();
        assert_eq!(read(&mut page).await.unwrap(), b"hello", "{host}");
    }
}

#[tokio::test]
async fn requests_identify_the_service_but_no_user() {
    let server = Server::start([
        server::Script::Send(response(
            "301 Moved Permanently",
            &["location: /b?x=1#part", "set-cookie: a=b"],
            b"",
        )),
        server::Script::Send(response("200 OK", &[], b"")),
    ])
    .await;
    let page =
        get(&fetcher(short_limits()), server.url_by_name("served.test", "/a#top")).await.unwrap();
    assert_eq!(page.final_url.as_str(), server.url_by_name("served.test", "/b?x=1"));
    let host = format!("served.test:{}", server.address.port());
    let expected = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: wordmill/{}\r\n\
             accept: text/html, application/xhtml+xml, text/plain;q=0.9, text/*;q=0.8, */*;q=0.5\r\n\
             accept-encoding: gzip, br, zstd, deflate\r\nconnection: close\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
    };
    assert_eq!(server.requests(), [expected("/a"), expected("/b?x=1")]);
}
