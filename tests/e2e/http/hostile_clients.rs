//! Hostile clients that are slow, send too much or do not read. The gateway disconnects each at a
//! documented limit, and continues to serve other clients.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::process::Signal;
use serde_json::json;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::connection::{connect, is_closed, submit_jobs_during};
use wordmill_tests::stack::Stack;
use wordmill_tests::upload::Upload;
use wordmill_tests::{LIMIT, pause, wait_for};

/// Setting that reduces client timeouts from half a minute to seconds.
const CLIENT_TIMEOUT: (&str, &str) = ("WORDMILL_CLIENT_TIMEOUT", "2s");

/// Reads until the connection ends or fails.
fn read_rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn trickling_heads_and_silent_connections_are_cut_off() {
    let stack = Stack::with(1, 0, &[CLIENT_TIMEOUT]);
    let client = stack.client();
    submit_jobs_during(client, || {
        let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(client)).collect();
        let mut silent: Vec<TcpStream> = (0..50).map(|_| connect(client)).collect();
        // The timeout between two requests is the same as before the first one.
        let mut idle = connect(client);
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("the bytes are sent");
        for stream in &mut slow {
            stream
                .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
                .expect("the bytes are sent");
        }
        wait_for("all connections are closed", LIMIT, || {
            // Single bytes do not extend the timeout. The write may fail if the connection is
            // already closed.
            slow.iter_mut().for_each(|stream| drop(stream.write(b"a")));
            pause(Duration::from_millis(200));
            let mut all = slow.iter_mut().chain(&mut silent).chain([&mut idle]);
            all.all(is_closed).then_some(())
        });
    });
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    submit_jobs_during(client, || {
        let large =
            format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
        let slightly_large = format!(
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "a".repeat(17 << 10)
        );
        let target = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20));
        let fields: String = (0..200).map(|n| format!("X-{n}: a\r\n")).collect();
        let fields = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        for head in [large, slightly_large, target, fields] {
            let mut stream = connect(client);
            // The gateway may close the connection before everything is sent.
            let _ = stream.write_all(head.as_bytes());
            let answer = read_rest(&mut stream);
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            assert!(answer.contains("larger than 16 KiB"), "{answer}");
        }
        let fits = format!(
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n",
            "a".repeat(15 << 10)
        );
        let mut stream = connect(client);
        stream.write_all(fits.as_bytes()).expect("the bytes are sent");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("an answer");
        assert_eq!(&start, b"HTTP/1.1 200");
    });
}

#[test]
fn silent_connections_to_a_worker_do_not_block_its_probe() {
    /// More than the connection limit of a worker.
    const CONNECTIONS: usize = 500;
    let stack = Stack::with(0, 1, &[CLIENT_TIMEOUT]);
    let probe = &stack.workers[0].health;
    let mut silent: Vec<TcpStream> = (0..CONNECTIONS).map(|_| connect(probe)).collect();
    let unfinished = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ";
    silent.iter_mut().skip(1).step_by(2).for_each(|stream| drop(stream.write(unfinished)));
    assert_eq!(probe.get("/livez").status, 200);
    wait_for("the oldest connections are closed", LIMIT, || {
        let open = silent.iter_mut().map(is_closed).filter(|is_closed| !is_closed);
        (open.count() <= 64).then_some(())
    });
    // The others are closed after the same timeout as clients of a gateway.
    wait_for("all are closed", LIMIT, || silent.iter_mut().all(is_closed).then_some(()));
    assert_eq!(probe.get("/readyz").status, 200);
    let mut large = connect(probe);
    let head =
        format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(17 << 10));
    let _ = large.write_all(head.as_bytes());
    assert!(read_rest(&mut large).starts_with("HTTP/1.1 431 "));
}

#[test]
fn a_slow_body_is_answered_with_a_timeout() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    submit_jobs_during(client, || {
        let mut with_length = connect(client);
        let mut in_chunks = connect(client);
        write!(with_length, "{head}Content-Length: 1000\r\n\r\n{{").expect("the bytes are sent");
        write!(in_chunks, "{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n")
            .expect("the bytes are sent");
        let is_stopped = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mut trickling = [
                (with_length.try_clone().expect("a handle"), &b" "[..]),
                (in_chunks.try_clone().expect("a handle"), b"1\r\n \r\n"),
            ];
            let is_stopped = &is_stopped;
            scope.spawn(move || {
                while !is_stopped.load(Ordering::Relaxed) {
                    trickling.iter_mut().for_each(|(stream, bytes)| drop(stream.write(bytes)));
                    pause(Duration::from_millis(100));
                }
            });
            let answers = [&mut with_length, &mut in_chunks].map(read_rest);
            is_stopped.store(true, Ordering::Relaxed);
            for answer in answers {
                assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
                assert!(answer.contains("\"request_timeout\""), "{answer}");
            }
        });
    });
}

#[test]
fn a_client_that_does_not_read_its_answers_is_cut_off() {
    let stack = Stack::with(1, 1, &[CLIENT_TIMEOUT]);
    let client = stack.client();
    let words: Vec<String> = (0..20_000).map(|n| format!("w{n}")).collect();
    let job_id = client.submit(&json!({"text": words.join(" ")}));
    client.wait_until_final(&job_id, LIMIT);
    let size = client.get(&format!("/v1/jobs/{job_id}/result")).text.len();
    assert!(size > 200_000, "{size}");
    submit_jobs_during(client, || {
        let mut unread = connect(client);
        // Small, so that the kernel buffers little for the client.
        set_socket_recv_buffer_size(&unread, 4096).expect("a small buffer");
        // Enough to fill all buffers between the gateway and the client.
        let request = format!("GET /v1/jobs/{job_id}/result HTTP/1.1\r\nHost: localhost\r\n\r\n");
        unread.write_all(request.repeat(100).as_bytes()).expect("the bytes are sent");
        unread.set_nonblocking(true).expect("set");
        wait_for("the connection is closed", LIMIT, || {
            pause(Duration::from_millis(200));
            // Writing to a closed connection fails.
            let written = unread.write(b"G");
            written.is_err_and(|error| error.kind() != ErrorKind::WouldBlock).then_some(())
        });
    });
}

#[test]
fn clients_beyond_the_connection_limit_wait_for_their_turn() {
    let settings = [CLIENT_TIMEOUT, ("WORDMILL_CONNECTIONS_MAX", "5")];
    let mut stack = Stack::with(1, 0, &settings);
    let client = stack.client().clone();
    let mut holders: Vec<TcpStream> = (0..5).map(|_| connect(&client)).collect();
    let full = "connection limit reached; new clients must wait (gateway: \
                WORDMILL_CONNECTIONS_MAX)";
    stack.gateways[0].process.wait_for_log(full, LIMIT);
    // New clients wait in the kernel's accept queue until the silent ones are disconnected.
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            std::thread::spawn(move || client.get("/livez").status)
        })
        .collect();
    for waiting in clients {
        assert_eq!(waiting.join().expect("no panic"), 200);
    }
    assert!(holders.iter_mut().all(is_closed));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let stack = Stack::with(1, 0, &[]);
    let mut stream = connect(stack.client());
    let requests: String = (0..100)
        .map(|n| {
            let (path, close) = if n % 2 == 0 { ("/livez", "") } else { ("/v1/jobs/17", "") };
            let close = if n == 99 { "Connection: close\r\n" } else { close };
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n")
        })
        .collect();
    stream.write_all(requests.as_bytes()).expect("the bytes are sent");
    let answers = read_rest(&mut stream);
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| answer.split(' ').next().unwrap_or_default())
        .collect();
    assert_eq!(statuses, ["200", "400"].repeat(50), "{answers}");
}

#[test]
fn a_shutdown_closes_idle_connections_and_finishes_requests() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let mut idle: Vec<TcpStream> = (0..10).map(|_| connect(&client)).collect();
    for stream in &mut idle {
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("the bytes are sent");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("an answer");
    }
    // A request whose body is still incomplete.
    let mut open = connect(&client);
    let body = json!({"text": "finished during the shutdown"}).to_string();
    write!(
        open,
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    )
    .expect("the bytes are sent");
    let mut continue_line = [0; 25];
    open.read_exact(&mut continue_line).expect("the handler reads");
    assert!(continue_line.starts_with(b"HTTP/1.1 100 Continue"));
    let gateway = &mut stack.gateways[0].process;
    let started = Instant::now();
    gateway.signal(Signal::TERM);
    wait_for("idle connections are closed", LIMIT, || idle.iter_mut().all(is_closed).then_some(()));
    assert!(gateway.exit_status().is_none(), "a request is still open");
    open.write_all(body.as_bytes()).expect("the bytes are sent");
    assert!(read_rest(&mut open).starts_with("HTTP/1.1 202"));
    assert!(gateway.wait_for_exit(LIMIT).success());
    assert!(started.elapsed() < Duration::from_secs(20), "stopped only after the grace period");
}

#[test]
fn an_endless_batch_is_cut_off_and_its_first_jobs_are_kept() {
    /// Maximum size of a batch, in pieces of 1 MiB.
    const PIECES_MAX: usize = 64;
    let stack = Stack::start();
    let client = stack.client();
    let headers = [("content-type", "application/x-ndjson"), ("transfer-encoding", "chunked")];
    let mut upload = Upload::begin(client, "POST", "/v1/batches", &headers);
    submit_jobs_during(client, || {
        assert!(upload.send_chunk(b"{\"text\": \"a b\"}\n"));
        // Empty lines create no jobs, but their bytes are part of the limit.
        let piece = vec![b'\n'; 1 << 20];
        for _ in 0..PIECES_MAX {
            assert!(upload.send_chunk(&piece));
        }
    });
    let answer = upload.answer();
    assert_eq!(answer.status, 202, "{answer:?}");
    let batch = answer.json();
    assert_fields(&batch, json!({"accepted": 1, "refused": 1}));
    assert_eq!(batch["lines"][1]["problem"]["code"], "input_too_large", "{batch}");
    let batch = client.wait_until_final(batch["batch_id"].as_str().expect("an id"), LIMIT);
    assert_eq!(batch["totals"]["words"], 2, "{batch}");
}
