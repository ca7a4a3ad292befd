//! Test servers that follow a script, for example to misbehave.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{SERVER_ADDRESS, TRAP_ADDRESS};

/// Behavior of a server on one connection after it has read the request.
#[derive(Clone)]
pub(super) enum Script {
    /// Sends this and closes the connection.
    Send(Vec<u8>),
    /// Sends this and resets the connection.
    SendAndReset(Vec<u8>),
    /// Sends this and leaves the connection open until the client closes it.
    SendAndHold(Vec<u8>),
    /// Sends the first part, then repeats the second one until the client closes the connection.
    Repeat(Vec<u8>, Vec<u8>),
    /// Like `Repeat`, with a pause before each repetition.
    Drip(Vec<u8>, Vec<u8>, Duration),
}

/// Server on loopback; it stops when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    closed: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts a server that runs the n-th script on the n-th connection, and the last one on all
    /// further connections.
    pub(super) async fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::start_on(TcpListener::bind((SERVER_ADDRESS, 0)).await.unwrap(), scripts)
    }

    /// Starts a server on a listener.
    pub(super) fn start_on(
        listener: TcpListener,
        scripts: impl IntoIterator<Item = Script>,
    ) -> Self {
        let scripts: Vec<Script> = scripts.into_iter().collect();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (closed_sender, closed) = watch::channel(0);
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let recorded_requests = Arc::clone(&requests);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for number in 0.. {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let script = scripts[number.min(scripts.len() - 1)].clone();
                let recorded_requests = Arc::clone(&recorded_requests);
                let closed_sender = closed_sender.clone();
                connections.spawn(async move {
                    if let Some(request) = read_request(&mut tcp).await {
                        recorded_requests.lock().unwrap().push(request);
                        if matches!(script, Script::SendAndReset(_)) {
                            tcp.set_zero_linger().unwrap();
                        }
                        perform(&mut tcp, script).await;
                    }
                    closed_sender.send_modify(|closed| *closed += 1);
                });
            }
        });
        Self { address, requests, closed, _tasks: tasks }
    }

    /// Starts a server that sends the same response to every request.
    pub(super) async fn responding(response: impl Into<Vec<u8>>) -> Self {
        Self::start([Script::Send(response.into())]).await
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

    /// Waits until `count` connections have ended.
    pub(super) async fn wait_for_closed(&mut self, count: usize) {
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

/// Runs a script. An error ends it: the client has closed the connection.
pub(super) async fn perform(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), script: Script) {
    match script {
        Script::Send(bytes) | Script::SendAndReset(bytes) => {
            stream.write_all(&bytes).await.ok();
        }
        Script::SendAndHold(bytes) => {
            stream.write_all(&bytes).await.ok();
            stream.read_u8().await.ok();
        }
        Script::Repeat(head, unit) => {
            stream.write_all(&head).await.ok();
            while stream.write_all(&unit).await.is_ok() {}
        }
        Script::Drip(head, unit, pause) => {
            stream.write_all(&head).await.ok();
            while stream.write_all(&unit).await.is_ok() {
                sleep(pause).await;
            }
        }
    }
}

/// Listener that must never be dialled.
pub(super) struct Trap {
    listener: TcpListener,
}

impl Trap {
    /// Listens on the address that no test allows.
    pub(super) async fn set() -> Self {
        Self::set_on(TRAP_ADDRESS).await.unwrap()
    }

    pub(super) async fn set_on(host: &str) -> std::io::Result<Self> {
        Ok(Self { listener: TcpListener::bind((host, 0)).await? })
    }

    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// Asserts that no client has connected. Connections are accepted in order, so the first one
    /// must be that of this function.
    pub(super) async fn assert_untouched(self) {
        let address = self.listener.local_addr().unwrap();
        let own_stream = TcpStream::connect(address).await.unwrap();
        let (_, first) = self.listener.accept().await.unwrap();
        assert_eq!(first, own_stream.local_addr().unwrap(), "a client dialled {address}");
    }
}

/// Returns a response with a status line, header fields, the length and a body.
pub(super) fn response(status: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}", body.len());
    let mut response = head(status, &[fields, &[&length]].concat());
    response.extend_from_slice(body);
    response
}

/// Returns a status line and header fields.
pub(super) fn head(status: &str, fields: &[&str]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\n");
    for field in fields {
        head.push_str(field);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}
