//! Memory of a gateway for request bodies that arrive at the same time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use wordmill_tests::client::Client;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::{pause, wait_for};

use crate::{assert_below, start_stack};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];
/// Maximum wait for an answer, and for changes of the in-flight budget.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// A request with an incomplete body.
struct Unfinished {
    stream: TcpStream,
    end: String,
}

impl Unfinished {
    fn send(client: &Client, body: &str, framing: Framing) -> Self {
        let (start, end) = body.split_at(body.len() - 1000);
        let (header, start, end) = match framing {
            Framing::Length => {
                (format!("Content-Length: {}", body.len()), start.to_owned(), end.to_owned())
            }
            Framing::Chunked => {
                let chunk = |part: &str| format!("{:x}\r\n{part}\r\n", part.len());
                let header = "Transfer-Encoding: chunked".to_owned();
                (header, chunk(start), chunk(end) + "0\r\n\r\n")
            }
        };
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             {header}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(client.address()).expect("a connection");
        stream.set_read_timeout(Some(ANSWER_TIME_MAX)).expect("a read timeout");
        stream.write_all(head.as_bytes()).expect("the bytes are sent");
        stream.write_all(start.as_bytes()).expect("the bytes are sent");
        Self { stream, end }
    }

    /// Sends the rest of the body, and returns the start of the status line.
    fn finish(mut self) -> String {
        // The gateway may have refused the body and closed the connection.
        let _ = self.stream.write_all(self.end.as_bytes());
        let mut status = [0; 12];
        self.stream.read_exact(&mut status).expect("an answer");
        String::from_utf8_lossy(&status).into_owned()
    }
}

/// Framing of a request body.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length,
    Chunked,
}

#[test]
fn arriving_bodies_share_the_in_flight_budget() {
    const BODIES: usize = 200;
    /// Measured: 98 to 113 MiB. The in-flight budget is 64 MiB, and each connection may use 128
    /// KiB, together 25 MiB. Without a shared budget, the bodies alone would use 191 MiB.
    const GROWTH_BYTES_MAX: u64 = 160 << 20;
    let body = json!({"text": "word ".repeat(200_000)}).to_string();
    for framing in [Framing::Length, Framing::Chunked] {
        let stack = start_stack(1, 0, &[]);
        let client = stack.client();
        let gateway = &stack.gateways[0].process;
        let before = gateway.peak_memory_bytes();
        let unfinished: Vec<Unfinished> =
            (0..BODIES).map(|_| Unfinished::send(client, &body, framing)).collect();
        let used_bytes = || Metrics::fetch(client).sum("wordmill_submission_room_taken_bytes", &[]);
        wait_for("all bodies have arrived or are refused", ANSWER_TIME_MAX, || {
            let before = used_bytes();
            pause(Duration::from_millis(300));
            (before > Some(32e6) && before == used_bytes()).then_some(())
        });
        let grown = gateway.peak_memory_bytes() - before;
        assert_below(GROWTH_BYTES_MAX, grown, &format!("{BODIES} bodies, {framing:?}"));
        let statuses: Vec<String> = unfinished.into_iter().map(Unfinished::finish).collect();
        let count = |status| statuses.iter().filter(|one| one.ends_with(status)).count();
        assert!(count("503") > 0, "{framing:?}: {statuses:?}");
        assert_eq!(count("202") + count("503"), BODIES, "{framing:?}: {statuses:?}");
        wait_for("the in-flight budget is free again", ANSWER_TIME_MAX, || {
            (used_bytes() == Some(0.0)).then_some(())
        });
        assert_eq!(client.send("POST", "/v1/jobs", &JSON, body.as_bytes()).status, 202);
    }
}
