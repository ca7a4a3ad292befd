//! Servers that misbehave as a test tells them to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{SERVED, TRAPPED};

/// What a server does with one connection after it has read the request.
#[derive(Clone)]
pub(super) enum Play {
    /// Sends this and closes the connection.
    Send(Vec<u8>),
    /// Sends this and resets the connection.
    SendAndReset(Vec<u8>),
    /// Sends this and leaves the connection open until the client closes it.
    SendAndHold(Vec<u8>),
    /// Sends the first part, then the second one over and over until the client closes.
    Repeat(Vec<u8>, Vec<u8>),
    /// The same with a pause before each repetition.
    Drip(Vec<u8>, Vec<u8>, Duration),
}

/// A server on loopback; it ends with the value.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    closed: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts a server that plays the n-th play on the n-th connection, and the last one ever after.
    pub(super) async fn start(plays: impl IntoIterator<Item = Play>) -> Self {
        Self::start_on(TcpListener::bind((SERVED, 0)).await.unwrap(), plays)
    }

    /// Starts a server on a listener.
    pub(super) fn start_on(listener: TcpListener, plays: impl IntoIterator<Item = Play>) -> Self {
        let plays: Vec<Play> = plays.into_iter().collect();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (closing, closed) = watch::channel(0);
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&requests);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let play = plays[number.min(plays.len() - 1)].clone();
                let (seen, closing) = (Arc::clone(&seen), closing.clone());
                connections.spawn(async move {
                    if let Some(request) = read_request(&mut tcp).await {
                        seen.lock().unwrap().push(request);
                        if matches!(play, Play::SendAndReset(_)) {
                            tcp.set_zero_linger().unwrap();
                        }
                        perform(&mut tcp, play).await;
                    }
                    closing.send_modify(|closed| *closed += 1);
                });
            }
        });
        Self { address, requests, closed, _tasks: tasks }
    }

    /// Starts a server that sends one whole answer to every request.
    pub(super) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::start([Play::Send(answer.into())]).await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn url_by_name(&self, name: &str, path: &str) -> String {
        format!("http://{name}:{}{path}", self.address.port())
    }

    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits until so many connections have ended.
    pub(super) async fn closed(&mut self, count: usize) {
        let closed = self.closed.wait_for(|closed| *closed >= count);
        timeout(Duration::from_secs(5), closed).await.expect("connections should end").unwrap();
    }
}

pub(super) async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(request).unwrap())
}

/// Errors end the play: the client has closed.
pub(super) async fn perform(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), play: Play) {
    match play {
        Play::Send(bytes) | Play::SendAndReset(bytes) => {
            stream.write_all(&bytes).await.ok();
        }
        Play::SendAndHold(bytes) => {
            stream.write_all(&bytes).await.ok();
            stream.read_u8().await.ok();
        }
        Play::Repeat(head, unit) => {
            stream.write_all(&head).await.ok();
            while stream.write_all(&unit).await.is_ok() {}
        }
        Play::Drip(head, unit, pause) => {
            stream.write_all(&head).await.ok();
            while stream.write_all(&unit).await.is_ok() {
                sleep(pause).await;
            }
        }
    }
}

/// A listener that must never be dialled.
pub(super) struct Trap {
    listener: TcpListener,
}

impl Trap {
    /// Listens on the address that no test allows.
    pub(super) async fn set() -> Self {
        Self::set_on(TRAPPED).await.unwrap()
    }

    pub(super) async fn set_on(host: &str) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind((host, 0)).await? })
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Proves that nobody has connected: connections are accepted in order, and the first one is ours.
    pub(super) async fn assert_untouched(self) {
        let address = self.listener.local_addr().unwrap();
        let ours = TcpStream::connect(address).await.unwrap();
        let (_, first) = self.listener.accept().await.unwrap();
        assert_eq!(first, ours.local_addr().unwrap(), "somebody dialled {address}");
    }
}

/// An answer with a status line, header fields and a body, with its length.
pub(super) fn answer(status: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    let mut answer = head(status, &[fields, &[&length]].concat());
    answer.extend_from_slice(body);
    answer
}

/// A status line and header fields.
pub(super) fn head(status: &str, fields: &[&str]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
