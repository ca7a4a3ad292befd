//! Memory of a gateway for connections without an API key.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::json;
use wordmill_tests::client::Client;
use wordmill_tests::connection::{connect, is_closed, submit_jobs_during};
use wordmill_tests::keyring::Keyring;
use wordmill_tests::{LIMIT, pause, wait_for};

use crate::{assert_below, start_stack};

#[test]
fn unauthenticated_connections_use_bounded_memory() {
    /// Far more than the maximum number of concurrent connections without a key.
    const CONNECTIONS: usize = 4000;
    /// Documented memory of all connections without a key. Measured: 26 to 30 MiB.
    const GROWTH_BYTES_MAX: u64 = 64 << 20;
    let mut keys = Keyring::new();
    let key = keys.add("team", &json!({}));
    let (name, path) = keys.setting();
    let stack = start_stack(1, 0, &[(name, &path)]);
    let client = stack.client().with_key(&key);
    let gateway = &stack.gateways[0].process;
    // An authenticated connection is not closed to make room for others.
    let mut authenticated = connect(&client);
    let request =
        format!("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n");
    authenticated.write_all(request.as_bytes()).expect("the bytes are sent");
    let mut start = [0; 12];
    authenticated.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 200");
    let before = gateway.peak_memory_bytes();
    submit_jobs_during(&client, || {
        let unfinished =
            format!("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX: {}", "a".repeat(15 << 10));
        let mut unauthenticated: Vec<TcpStream> = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = connect(&client);
            stream.write_all(unfinished.as_bytes()).expect("the bytes are sent");
            unauthenticated.push(stream);
        }
        wait_for("most connections are closed", LIMIT, || {
            let open = unauthenticated.iter_mut().map(is_closed).filter(|is_closed| !is_closed);
            (open.count() < CONNECTIONS / 4).then_some(())
        });
    });
    let grown = gateway.peak_memory_bytes() - before;
    assert_below(GROWTH_BYTES_MAX, grown, "unfinished heads");
    authenticated.write_all(request.as_bytes()).expect("an open connection");
    let answer = {
        let mut buffer = [0; 64 << 10];
        let length = authenticated.read(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert!(!answer.is_empty(), "the authenticated connection is still open");
    assert!(gateway.output().contains("closing the oldest without an authenticated request"));
}

#[test]
fn unread_unauthenticated_responses_use_little_memory() {
    const CONNECTIONS: usize = 200;
    /// Documented memory of one connection, 25 MiB for all. Measured: 11 to 14 MiB.
    const CONNECTION_BYTES_MAX: u64 = 128 << 10;
    let mut keys = Keyring::new();
    keys.add("team", &json!({}));
    let (name, path) = keys.setting();
    let stack = start_stack(1, 0, &[(name, &path)]);
    let client = stack.client();
    let gateway = &stack.gateways[0].process;
    let before = gateway.peak_memory_bytes();
    for encoding in ["identity", "gzip", "zstd"] {
        let request = format!(
            "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {encoding}\r\n\r\n"
        );
        let unread: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| {
                let mut stream = connect(client);
                set_socket_recv_buffer_size(&stream, 4096).expect("a small buffer");
                stream.set_nonblocking(true).expect("a non-blocking socket");
                // Pipelines as many requests as the socket buffers accept.
                let _ = stream.write(request.repeat(200).as_bytes());
                stream
            })
            .collect();
        wait_for("each connection has unread answers", LIMIT, || {
            let unsent = kernel_send_queues(client);
            (unsent.iter().filter(|bytes| **bytes > 0).count() >= CONNECTIONS).then_some(())
        });
        pause(Duration::from_secs(1));
        let largest = kernel_send_queues(client).into_iter().max();
        assert!(largest < Some(512 << 10), "{encoding}: {largest:?} bytes in the kernel");
        drop(unread);
    }
    let grown = gateway.peak_memory_bytes() - before;
    assert_below(CONNECTIONS as u64 * CONNECTION_BYTES_MAX, grown, "unread answers");
}

/// Returns the bytes in the kernel's send queue of each connection of a service.
fn kernel_send_queues(client: &Client) -> Vec<u64> {
    let port = client.address().rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let local = format!(":{:04X}", port.expect("a port"));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the connection table");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_established = fields.get(3) == Some(&"01");
            let is_ours = is_established && fields.get(1)?.ends_with(&local);
            let (sending, _) = fields.get(4)?.split_once(':')?;
            is_ours.then(|| u64::from_str_radix(sending, 16).ok()).flatten()
        })
        .collect()
}
