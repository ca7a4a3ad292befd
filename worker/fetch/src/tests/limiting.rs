//! Tests each limit with a server that exceeds it.

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use super::receiving::encode;
use super::server::{Script, Server, head, response};
use super::*;

/// Short limit that still suffices for the work of a test on a busy machine.
const SHORT: Duration = Duration::from_millis(150);

fn assert_timeout(error: &Error, expected: Phase) {
    assert_timeout_of(SHORT, error, expected);
}

fn assert_timeout_of(exceeded: Duration, error: &Error, expected: Phase) {
    assert!(
        matches!(
            error,
            Error::Timeout { phase, limit } if *phase == expected && *limit == exceeded
        ),
        "{error:?}"
    );
}

/// Resolver that never answers.
struct SilentResolver;

impl Resolve for SilentResolver {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn slow_lookups_time_out() {
    let limits = Limits { resolve_timeout: SHORT, ..short_limits() };
    let fetcher = fetcher_with(limits, &[], Arc::new(SilentResolver));
    assert_timeout(&failure(&fetcher, "http://silent.test/").await, Phase::Resolve);
}

/// Listens without accepting until the system drops further connections. On Linux, one connection
/// more than the backlog can wait.
async fn fill_backlog() -> (u16, Vec<TcpStream>, tokio::net::TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{SERVER_ADDRESS}:0").parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(tcp) = timeout(SHORT, TcpStream::connect(address)).await {
        waiting.push(tcp.unwrap());
        assert!(waiting.len() < 100, "the system should stop accepting connections");
    }
    (address.port(), waiting, listener)
}

#[tokio::test]
async fn addresses_that_drop_packets_time_out_and_leave_time_for_others() {
    let (port, _waiting, _listener) = fill_backlog().await;
    let limit = SHORT * 6;
    let limits = Limits { connect_timeout: limit, ..short_limits() };
    let names = Names::new([
        ("swallowed.test", vec![vec![SERVER_ADDRESS]]),
        ("mixed.test", vec![vec![SERVER_ADDRESS, "127.0.0.3"]]),
    ]);
    let fetcher = fetcher_with(limits, &["127.0.0.0/8"], names);
    let error = failure(&fetcher, format!("http://swallowed.test:{port}/")).await;
    assert_timeout_of(limit, &error, Phase::Connect);

    let listener = tokio::net::TcpListener::bind(("127.0.0.3", port)).await.unwrap();
    let _server = Server::start_on(listener, [Script::Send(response("200 OK", &[], b"hello"))]);
    let started = Instant::now();
    let mut page = get(&fetcher, format!("http://mixed.test:{port}/")).await.unwrap();
    assert_eq!(read(&mut page).await.unwrap(), b"hello");
    assert!(started.elapsed() < limit, "the first address used up all of the time");
}

#[tokio::test]
async fn slow_headers_time_out() {
    let limits = Limits { first_byte_timeout: SHORT, ..short_limits() };
    let drip = Script::Drip(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".to_vec(), SHORT / 4);
    let stuck = Script::SendAndHold(b"HTTP/1.1 200 OK\r\n".to_vec());
    for script in [Script::SendAndHold(Vec::new()), stuck, drip] {
        let server = Server::start([script]).await;
        let error = failure(&fetcher(limits.clone()), server.url("/")).await;
        assert_timeout(&error, Phase::FirstByte);
    }
}

#[tokio::test]
async fn stalled_bodies_time_out() {
    let limits = Limits { stall_timeout: SHORT, ..short_limits() };
    let stalled = [head("200 OK", &["content-length: 10"]), b"hello".to_vec()].concat();
    let packed = encode("gzip", b"hello").await;
    let half = [head("200 OK", &["content-encoding: gzip"]), packed[..8].to_vec()].concat();
    // The data is complete, but the end of the body is missing.
    let open = head("200 OK", &["content-encoding: gzip", "transfer-encoding: chunked"]);
    let chunk = format!("{:x}\r\n", packed.len()).into_bytes();
    let open = [open, chunk, packed, b"\r\n".to_vec()].concat();
    for reply in [head("200 OK", &["content-length: 10"]), stalled, half, open] {
        let mut server = Server::start([Script::SendAndHold(reply)]).await;
        let error = failure(&fetcher(limits.clone()), server.url("/")).await;
        assert_timeout(&error, Phase::NextByte);
        server.wait_for_closed(1).await;
    }
}

#[tokio::test]
async fn slow_readers_do_not_trigger_the_stall_timeout() {
    let limits = Limits { stall_timeout: SHORT * 3, ..short_limits() };
    let body = vec![b'a'; 3 << 20];
    let server = Server::responding(response("200 OK", &[], &body)).await;
    let mut page = get(&fetcher(limits), server.url("/")).await.unwrap();
    let mut length = 0;
    for pauses in 0.. {
        let Some(chunk) = page.chunk().await.unwrap() else {
            break;
        };
        length += chunk.len();
        if pauses < 2 {
            // The subject of the test is time that passes.
            sleep(SHORT * 4).await;
        }
    }
    assert_eq!(length, body.len());
}

#[tokio::test]
async fn time_between_two_chunks_is_not_part_of_the_stall_timeout() {
    let stall = SHORT * 2;
    let limits = Limits { stall_timeout: stall, ..short_limits() };
    let reply = [head("200 OK", &[]), b"hello".to_vec()].concat();
    let server = Server::start([Script::SendAndHold(reply)]).await;
    let mut page = get(&fetcher(limits), server.url("/")).await.unwrap();
    assert_eq!(page.chunk().await.unwrap().unwrap(), "hello");
    sleep(stall).await;
    let start = Instant::now();
    let error = page.chunk().await.unwrap_err();
    assert_timeout_of(stall, &error, Phase::NextByte);
    assert!(start.elapsed() >= stall, "the reader's own pause was counted");
}

#[tokio::test]
async fn the_total_timeout_covers_slow_servers_and_slow_readers() {
    let limits = Limits { total_timeout: SHORT, ..short_limits() };
    let drip = Script::Drip(head("200 OK", &[]), b"word ".to_vec(), SHORT / 6);
    let redirects = Script::Send(response("302 Found", &["location: /"], b""));
    let server = Server::start([drip]).await;
    let fetcher = fetcher(Limits { redirects_max: usize::MAX, ..limits });
    assert_timeout(&failure(&fetcher, server.url("/")).await, Phase::Total);

    let looping = Server::start([redirects]).await;
    assert_timeout(&failure(&fetcher, looping.url("/")).await, Phase::Total);

    let limit = Duration::from_secs(1);
    let fetcher = super::fetcher(Limits { total_timeout: limit, ..short_limits() });
    let whole = Server::responding(response("200 OK", &[], b"hello")).await;
    let mut page = get(&fetcher, whole.url("/")).await.unwrap();
    sleep(limit).await;
    assert_timeout_of(limit, &page.chunk().await.unwrap_err(), Phase::Total);
}

#[tokio::test]
async fn excess_fetches_from_a_host_wait_without_dialling() {
    let limit = Duration::from_secs(1);
    let limits = Limits { total_timeout: limit, per_host_max: 2, ..short_limits() };
    let server = Server::start([Script::SendAndHold(head("200 OK", &["content-length: 5"]))]).await;
    let fetcher = fetcher(limits);
    let url = server.url_by_name("served.test", "/");
    let first = get(&fetcher, &url).await.unwrap();
    let _second = get(&fetcher, &url).await.unwrap();
    assert_timeout_of(limit, &failure(&fetcher.clone(), &url).await, Phase::Total);
    assert_eq!(server.requests().len(), 2);
    assert!(get(&fetcher, server.url_by_name("other.test", "/")).await.is_ok());
    drop(first);
    assert!(get(&fetcher, &url).await.is_ok());
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn slots_are_released_when_a_page_is_complete_or_failed() {
    let fetcher = fetcher(Limits { per_host_max: 1, stall_timeout: SHORT, ..short_limits() });
    let whole = response("200 OK", &[], b"hello");
    let stuck = head("200 OK", &["content-length: 5"]);
    let server = Server::start([
        Script::SendAndHold(whole.clone()),
        Script::SendAndHold(stuck),
        Script::SendAndHold(whole),
    ])
    .await;
    let mut complete = get(&fetcher, server.url("/")).await.unwrap();
    read(&mut complete).await.unwrap();
    let mut failed = get(&fetcher, server.url("/")).await.unwrap();
    assert!(read(&mut failed).await.is_err());
    let mut third = get(&fetcher, server.url("/")).await.unwrap();
    assert_eq!(read(&mut third).await.unwrap(), b"hello");
}

#[tokio::test]
async fn large_headers_are_refused() {
    let long = format!("x: {}", "a".repeat(9 << 10));
    let many: Vec<String> = (0..101).map(|number| format!("x-{number}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let limits = Limits { header_size_max: 8 << 10, ..short_limits() };
    for fields in [&[long.as_str()][..], &many] {
        let server = Server::responding(response("200 OK", fields, b"")).await;
        let error = failure(&fetcher(limits.clone()), server.url("/")).await;
        assert!(matches!(error, Error::TooLarge(SizeLimit::Header(_))), "{error:?}");
    }
    let server =
        Server::start([Script::Repeat(head("200 OK", &[])[..17].to_vec(), b"a: b\r\n".to_vec())]);
    let error = failure(&fetcher(limits), server.await.url("/")).await;
    assert!(matches!(error, Error::TooLarge(SizeLimit::Header(_))), "{error:?}");
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let limits = Limits { wire_size_max: 100 << 10, ..short_limits() };
    let is_wire = |error: &Error| matches!(error, Error::TooLarge(SizeLimit::Wire(102_400)));
    let fetcher = fetcher(limits);

    // Refused by the announced length, before any of the body is read.
    let announced =
        Server::start([Script::SendAndHold(head("200 OK", &["content-length: 102401"]))]);
    let error = get(&fetcher, announced.await.url("/")).await.err().unwrap();
    assert!(is_wire(&error), "{error:?}");

    // Refused by the bytes that arrive.
    let chunk = [b"400\r\n".to_vec(), vec![b'a'; 1 << 10], b"\r\n".to_vec()].concat();
    for script in [
        Script::Repeat(head("200 OK", &[]), vec![b'a'; 1 << 10]),
        Script::Repeat(head("200 OK", &["transfer-encoding: chunked"]), chunk),
        Script::Repeat(head("200 OK", &["content-encoding: gzip"]), encode("gzip", b"").await),
    ] {
        let mut server = Server::start([script]).await;
        let error = failure(&fetcher, server.url("/")).await;
        assert!(is_wire(&error), "{error:?}");
        server.wait_for_closed(1).await;
    }

    let exact = Server::responding(response("200 OK", &[], &vec![b'a'; 100 << 10])).await;
    let mut page = get(&fetcher, exact.url("/")).await.unwrap();
    assert_eq!(read(&mut page).await.unwrap().len(), 100 << 10);
}

#[tokio::test]
async fn decompression_bombs_are_refused() {
    let zeros = vec![0; 8 << 20];
    for encoding in ["gzip", "br", "zstd", "deflate"] {
        let packed = encode(encoding, &zeros).await;
        let field = format!("content-encoding: {encoding}");
        let server = Server::responding(response("200 OK", &[&field], &packed)).await;
        let error = failure(&fetcher(short_limits()), server.url("/")).await;
        assert!(matches!(error, Error::TooLarge(SizeLimit::Ratio(200))), "{encoding}: {error:?}");

        let lenient = Limits { ratio_max: u64::MAX, decoded_size_max: 3 << 20, ..short_limits() };
        let error = failure(&fetcher(lenient), server.url("/")).await;
        assert!(matches!(error, Error::TooLarge(SizeLimit::Decoded(_))), "{encoding}: {error:?}");
    }
}

#[tokio::test]
async fn small_pages_may_compress_well() {
    let zeros = vec![0; 1 << 20];
    let packed = encode("gzip", &zeros).await;
    assert!(packed.len() * 200 < zeros.len());
    let server = Server::responding(response("200 OK", &["content-encoding: gzip"], &packed)).await;
    let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
    assert_eq!(read(&mut page).await.unwrap().len(), zeros.len());
}

#[tokio::test]
async fn unread_pages_apply_backpressure_to_the_server() {
    let server = Server::start([Script::Repeat(head("200 OK", &[]), vec![b'a'; 1 << 20])]).await;
    let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
    for number in 1..=20 {
        let chunk = page.chunk().await.unwrap().unwrap();
        // Received bytes that the caller has not read yet fit into the buffers of the connection.
        let Progress { received_bytes, decoded_bytes, .. } = page.progress();
        assert!(received_bytes - decoded_bytes <= 256 << 10, "{received_bytes} after {number}");
        assert!(!chunk.is_empty());
    }
}
