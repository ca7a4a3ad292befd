//! An HTTP client that costs next to nothing: prepared requests over connections that stay open.
//!
//! It knows what our own answers need and nothing else: a `Content-Length`, or no body at all.

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

/// Longest wait for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// What was answered.
pub struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// A connection that takes one request after the other.
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

    pub async fn get(&mut self, path: &str) -> Result<Answer> {
        self.send(&get(path)).await
    }

    /// Sends one request and waits for its answer.
    pub async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        let answering = async {
            self.stream.write_all(request).await?;
            self.answer().await
        };
        tokio::time::timeout(ANSWER_MAX, answering).await.context("no answer in time")?
    }

    /// Sends a request and reads until its answer contains `wanted`.
    pub async fn listen(&mut self, request: &[u8], wanted: &[u8]) -> Result<()> {
        self.stream.write_all(request).await?;
        self.hear(wanted).await
    }

    /// Reads on until something contains `wanted`.
    pub async fn hear(&mut self, wanted: &[u8]) -> Result<()> {
        let hearing = async {
            loop {
                if let Some(place) = find(&self.buffer, wanted) {
                    let _heard = self.buffer.split_to(place + wanted.len());
                    return Ok(());
                }
                self.more().await?;
            }
        };
        tokio::time::timeout(ANSWER_MAX, hearing).await.context("nothing was heard in time")?
    }

    async fn answer(&mut self) -> Result<Answer> {
        let head_length = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
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
            None => bail!("an answer without a length: {head}"),
        };
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(Answer { status, body: self.buffer.split_to(length).freeze() })
    }

    async fn more(&mut self) -> Result<()> {
        self.buffer.reserve(8 << 10);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(read > 0, "the connection was closed");
        Ok(())
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Returns the bytes of a GET request.
pub fn get(path: &str) -> Bytes {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into()
}

/// Returns the bytes of a POST request. `fields` are further header fields, each with its line end.
pub fn post(path: &str, body: &[u8], fields: &str) -> Bytes {
    let length = body.len();
    let kind =
        if fields.contains("Content-Type") { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}{fields}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat().into()
}

/// Which request comes next.
pub type Requests = Arc<dyn Fn(usize) -> Bytes + Send + Sync>;

/// Returns a source of one request, again and again.
pub fn always(request: Bytes) -> Requests {
    Arc::new(move |_| request.clone())
}

/// Sends `count` requests over some connections, each of which sends the next one as soon as it has
/// its answer, and expects the same status every time.
pub async fn load(
    address: SocketAddr,
    connections: usize,
    count: usize,
    requests: &Requests,
    expected: u16,
) -> Result<Slice> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections.min(count) {
        open.push(Connection::open(address).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in open {
        let (next, requests) = (Arc::clone(&next), Arc::clone(requests));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(latencies);
                }
                let request = requests(number);
                let sent = Instant::now();
                let answer = connection.send(&request).await?;
                latencies.push(sent.elapsed());
                expect(&answer, expected)?;
            }
        });
    }
    gather(tasks, count, started).await
}

/// Sends `count` requests at a steady rate, whatever the answers take: each waits for a free one of
/// so many connections, and that wait is part of its time.
pub async fn paced(
    address: SocketAddr,
    connections: usize,
    per_second: f64,
    count: usize,
    requests: &Requests,
    expected: u16,
) -> Result<Slice> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in open {
        let (next, requests) = (Arc::clone(&next), Arc::clone(requests));
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(latencies);
                }
                let due = started + Duration::from_secs_f64(number as f64 / per_second);
                tokio::time::sleep_until(due.into()).await;
                let answer = connection.send(&requests(number)).await?;
                latencies.push(due.elapsed());
                expect(&answer, expected)?;
            }
        });
    }
    gather(tasks, count, started).await
}

fn expect(answer: &Answer, expected: u16) -> Result<()> {
    let said = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == expected, "{} and not {expected}: {said}", answer.status);
    Ok(())
}

async fn gather(
    mut tasks: JoinSet<Result<Vec<Duration>>>,
    count: usize,
    started: Instant,
) -> Result<Slice> {
    let mut latencies = Vec::with_capacity(count);
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended??);
    }
    Ok(Slice { count, elapsed: started.elapsed(), latencies })
}
