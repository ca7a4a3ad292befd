//! Uploads whose bytes the test sends step by step, for example slowly, incompletely, or with a
//! wrong length.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::client::{Answer, Client};

/// Timeout of each read of the response.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A request whose body is sent in parts.
pub struct Upload {
    stream: TcpStream,
}

impl Upload {
    /// Sends the head of a request.
    pub fn begin(client: &Client, method: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        let address = client.url("").replace("http://", "");
        let mut stream = TcpStream::connect(&address).expect("a connection");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a read timeout");
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all((head + "\r\n").as_bytes()).expect("the head is sent");
        Self { stream }
    }

    /// Sends a part of the body. Returns false if the connection is closed.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a chunk of a chunked body. Returns false if the connection is closed.
    pub fn send_chunk(&mut self, bytes: &[u8]) -> bool {
        let head = format!("{:x}\r\n", bytes.len());
        self.send(head.as_bytes()) && self.send(bytes) && self.send(b"\r\n")
    }

    /// Closes the sending side. The response can still be read.
    pub fn close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("the sending side is closed");
    }

    /// Reads the response.
    pub fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        // Read until the body is complete.
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let (status, headers) = read_head(head);
                let length = headers.iter().find(|(name, _)| name == "content-length");
                let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
                if body.len() >= length {
                    let bytes = body.as_bytes().to_vec();
                    let text = body.to_owned();
                    return Answer { status, headers, bytes, text };
                }
            }
            let read = self.stream.read(&mut buffer).expect("an answer in time");
            assert!(read > 0, "the connection was closed without a complete response: {text:?}");
            bytes.extend_from_slice(&buffer[..read]);
        }
    }
}

/// Parses the head of a response. Returns the status and the header fields, with names in lower
/// case.
fn read_head(head: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let fields = lines.filter_map(|line| line.split_once(':'));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    (status.and_then(|status| status.parse().ok()).expect("a status"), fields.collect())
}
