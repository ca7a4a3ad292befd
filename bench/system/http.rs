//! An HTTP client with minimal overhead: prepared requests over persistent connections.
//!
//! It supports only responses with a `Content-Length` or without a body, as Wordmill sends them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::measure::Slice;

/// Maximum wait for one response.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(90);

/// A response.
pub struct Response {
    pub status: u16,
    pub body: Bytes,
}

/// A connection that sends one request at a time.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(16 << 10) })
    }

    pub async fn get(&mut self, path: &str) -> Result<Response> {
        self.send(&get(path)).await
    }

    /// Sends one request and waits for its response.
    pub async fn send(&mut self, request: &[u8]) -> Result<Response> {
        let exchange = async {
            self.stream.write_all(request).await?;
            self.read_response().await
        };
        tokio::time::timeout(RESPONSE_TIME_MAX, exchange).await.context("response timed out")?
    }

    /// Sends a request and reads until its response contains `pattern`.
    pub async fn send_and_read_until(&mut self, request: &[u8], pattern: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.read_until(pattern).await
    }

    /// Reads until the received bytes contain `pattern`.
    pub async fn read_until(&mut self, pattern: &[u8]) -> Result<()> {
        let reading = async {
            loop {
                if let Some(start) = find(&self.buffer, pattern) {
                    let _consumed = self.buffer.split_to(start + pattern.len());
                    return Ok(());
                }
                self.read_more().await?;
            }
        };
        tokio::time::timeout(RESPONSE_TIME_MAX, reading)
            .await
            .context("the bytes did not arrive in time")?
    }

    async fn read_response(&mut self) -> Result<Response> {
        let head_length = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await?;
        };
        let head = self.buffer.split_to(head_length);
        let head = std::str::from_utf8(&head)?;
        let status = head.get(9..12).context("no status")?.parse()?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
        });
        let length = match length {
            Some(length) => length?,
            None if matches!(status, 204 | 304) => 0,
            None => bail!("response without a Content-Length: {head}"),
        };
        while self.buffer.len() < length {
            self.read_more().await?;
        }
        Ok(Response { status, body: self.buffer.split_to(length).freeze() })
    }

    async fn read_more(&mut self) -> Result<()> {
        self.buffer.reserve(8 << 10);
        let length = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(length > 0, "the connection was closed");
        Ok(())
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

/// Returns the bytes of a GET request.
pub fn get(path: &str) -> Bytes {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into()
}

/// Returns the bytes of a POST request. `fields` are further header fields, each with its line end.
pub fn post(path: &str, body: &[u8], fields: &str) -> Bytes {
    let length = body.len();
    let content_type =
        if fields.contains("Content-Type") { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{content_type}{fields}\
         Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat().into()
}

/// Returns request number `n`.
pub type Requests = Arc<dyn Fn(usize) -> Bytes + Send + Sync>;

/// Returns a source that repeats one request.
pub fn always(request: Bytes) -> Requests {
    Arc::new(move |_| request.clone())
}

/// Sends `count` requests over several connections, each of which sends the next one after the
/// response to the one before. Fails if a status is not `expected`.
pub async fn load(
    address: SocketAddr,
    connections: usize,
    count: usize,
    requests: &Requests,
    expected: u16,
) -> Result<Slice> {
    let mut idle = Vec::with_capacity(connections);
    for _ in 0..connections.min(count) {
        idle.push(Connection::open(address).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in idle {
        let next = Arc::clone(&next);
        let requests = Arc::clone(requests);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(latencies);
                }
                let request = requests(number);
                let sent = Instant::now();
                let response = connection.send(&request).await?;
                latencies.push(sent.elapsed());
                expect(&response, expected)?;
            }
        });
    }
    gather(tasks, count, started).await
}

/// Sends `count` requests at a constant rate, independent of the responses. Each waits for a free
/// connection, and that wait is part of its latency: otherwise a slow server would delay the
/// requests and hide its own latency (coordinated omission).
pub async fn load_at_rate(
    address: SocketAddr,
    connections: usize,
    per_second: f64,
    count: usize,
    requests: &Requests,
    expected: u16,
) -> Result<Slice> {
    let mut idle = Vec::with_capacity(connections);
    for _ in 0..connections {
        idle.push(Connection::open(address).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in idle {
        let next = Arc::clone(&next);
        let requests = Arc::clone(requests);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(latencies);
                }
                let due = started + Duration::from_secs_f64(number as f64 / per_second);
                tokio::time::sleep_until(due.into()).await;
                let response = connection.send(&requests(number)).await?;
                latencies.push(due.elapsed());
                expect(&response, expected)?;
            }
        });
    }
    gather(tasks, count, started).await
}

fn expect(response: &Response, expected: u16) -> Result<()> {
    let body = String::from_utf8_lossy(&response.body);
    ensure!(response.status == expected, "status {}, not {expected}: {body}", response.status);
    Ok(())
}

async fn gather(
    mut tasks: JoinSet<Result<Vec<Duration>>>,
    count: usize,
    started: Instant,
) -> Result<Slice> {
    let mut latencies = Vec::with_capacity(count);
    while let Some(result) = tasks.join_next().await {
        latencies.extend(result??);
    }
    Ok(Slice { count, elapsed: started.elapsed(), latencies })
}
