//! Responses that are redirects, errors, empty, or not valid HTTP.

use super::server::{Script, Server, head, response};
use super::*;

async fn failure_of(reply: Vec<u8>) -> Error {
    failure(&fetcher(short_limits()), Server::responding(reply).await.url("/")).await
}

#[tokio::test]
async fn error_statuses_are_reported_with_retry_after() {
    for (line, fields, expected, wait) in [
        ("404 Not Found", &[][..], 404, None),
        ("410 Gone", &[], 410, None),
        ("429 Too Many Requests", &["retry-after: 7"], 429, Some(7)),
        ("500 Internal Server Error", &[], 500, None),
        ("503 Service Unavailable", &["retry-after: 120"], 503, Some(120)),
        ("503 Service Unavailable", &["retry-after: Sun, 06 Nov 1994 08:49:37 GMT"], 503, Some(0)),
        ("503 Service Unavailable", &["retry-after: soon"], 503, None),
        ("599 Strange", &[], 599, None),
    ] {
        let error = failure_of(response(line, fields, b"sorry")).await;
        let Error::Status { status, retry_after } = error else { panic!("{line}: {error:?}") };
        assert_eq!(status, expected, "{line}");
        assert_eq!(retry_after.map(|wait| wait.as_secs()), wait, "{line}");
    }
}

#[tokio::test]
async fn redirects_are_followed_to_the_page() {
    let to = |status, location: &str| {
        Script::Send(response(status, &[&format!("location: {location}")], b"elsewhere"))
    };
    let last = Server::responding(response("200 OK", &["content-type: text/plain"], b"here")).await;
    let server = Server::start([
        to("301 Moved Permanently", "/a"),
        to("302 Found", "b?c"),
        to("308 Permanent Redirect", &last.url_by_name("other.test", "/d")),
    ])
    .await;
    // One slot is enough: a hop releases its slot before the next one acquires its own.
    let fetcher = fetcher(Limits { per_host_max: 1, ..short_limits() });
    let mut page = get(&fetcher, server.url_by_name("served.test", "/")).await.unwrap();
    assert_eq!(page.final_url.as_str(), last.url_by_name("other.test", "/d"));
    assert_eq!(page.status, 200);
    assert_eq!(page.redirects, 3);
    assert_eq!(page.content_type.as_deref(), Some("text/plain"));
    assert_eq!(read(&mut page).await.unwrap(), b"here");
    let lines: Vec<String> = server
        .requests()
        .iter()
        .map(|request| request.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(lines, ["GET / HTTP/1.1", "GET /a HTTP/1.1", "GET /b?c HTTP/1.1"]);
}

#[tokio::test]
async fn redirect_loops_end_at_the_limit() {
    let server = Server::responding(response("302 Found", &["location: /"], b"")).await;
    for max in [0, 3] {
        let error =
            failure(&fetcher(Limits { redirects_max: max, ..short_limits() }), server.url("/"))
                .await;
        assert!(
            matches!(
                error,
                Error::Redirects(RedirectFault::TooMany { max: limit }) if limit == max
            ),
            "{error:?}"
        );
    }
    assert_eq!(server.requests().len(), 1 + 4);
}

#[tokio::test]
async fn redirects_without_a_location_are_errors() {
    for (line, fields, expected) in [
        ("302 Found", &[][..], 302),
        ("301 Moved Permanently", &["location: http://["], 301),
        ("300 Multiple Choices", &["location: /x"], 300),
        ("304 Not Modified", &[], 304),
    ] {
        let error = failure_of(response(line, fields, b"")).await;
        assert!(
            matches!(
                error,
                Error::Redirects(RedirectFault::NoLocation { status }) if status == expected
            ),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn empty_pages_are_pages() {
    for reply in [
        head("204 No Content", &[]),
        response("205 Reset Content", &[], b""),
        response("200 OK", &[], b""),
        response("200 OK", &["content-encoding: gzip"], b""),
        response("200 OK", &["content-encoding: zstd"], b""),
        head("200 OK", &["content-encoding: br"]),
        head("200 OK", &["transfer-encoding: chunked"]).into_iter().chain(*b"0\r\n\r\n").collect(),
    ] {
        let server = Server::responding(reply).await;
        let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
        assert_eq!(read(&mut page).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn invalid_responses_are_protocol_errors() {
    for reply in [
        b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(),
        b"220 mail.test ESMTP\r\n".to_vec(),
        response("206 Partial Content", &["content-range: bytes 0-4/10"], b"hello"),
        head("101 Switching Protocols", &["connection: upgrade", "upgrade: x"]),
        head("700 Beyond", &[]),
        head("200 OK", &["transfer-encoding: gzip, chunked"]),
        head("200 OK", &["content-length: 5", "content-length: 6"]),
        head("200 OK", &["bad header\u{1}"]),
    ] {
        let text = String::from_utf8_lossy(&reply).into_owned();
        let error = failure_of(reply).await;
        assert!(matches!(error, Error::Protocol { .. }), "{text:?}: {error:?}");
    }
}

#[tokio::test]
async fn http_1_0_and_interim_responses_are_supported() {
    for reply in [
        b"HTTP/1.0 200 OK\r\n\r\nhello".to_vec(),
        [head("103 Early Hints", &["link: </a>"]), response("200 OK", &[], b"hello")].concat(),
        [head("100 Continue", &[]), response("203 Other", &[], b"hello")].concat(),
    ] {
        let server = Server::responding(reply).await;
        let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
        assert_eq!(read(&mut page).await.unwrap(), b"hello");
    }
}

#[tokio::test]
async fn names_without_addresses_are_dns_errors() {
    let fetcher = fetcher_with(short_limits(), &[], Names::new([("empty.test", vec![vec![]])]));
    for name in ["missing.test", "empty.test"] {
        let error = failure(&fetcher, format!("http://{name}/")).await;
        assert!(matches!(&error, Error::Dns { host, .. } if host == name), "{error:?}");
    }
}

#[tokio::test]
async fn refused_connections_are_connect_errors() {
    let listener = tokio::net::TcpListener::bind((SERVER_ADDRESS, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = failure(&fetcher(short_limits()), format!("http://served.test:{port}/")).await;
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("cannot connect to served.test:{port}"));
}
