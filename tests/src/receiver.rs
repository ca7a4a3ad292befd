//! A webhook receiver that stores requests and sends the replies that a test has set.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio_rustls::rustls::{ServerConnection, StreamOwned};

use crate::certificates::Certified;
use crate::{pause, wait_for};

/// How long a hanging reply keeps the connection open.
const HANG: Duration = Duration::from_secs(120);

/// A received request.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// HTTP method.
    pub method: String,
    /// Path of the URL.
    pub path: String,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl ReceivedRequest {
    /// Returns the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns a header field.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        value.to_str().expect("text")
    }

    /// Returns whether the Standard Webhooks library accepts the signature.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let webhook = Webhook::new(secret).expect("a Standard Webhooks secret");
        webhook.verify(&self.body, &self.headers).is_ok()
    }
}

/// Reply of the receiver to a request.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// Status code and reason, and one more header line unless it is empty.
    Status(&'static str, &'static str),
    /// No reply. The connection stays open for two minutes.
    Hang,
}

/// A running receiver. It ends with the test process.
pub struct Receiver {
    scheme: &'static str,
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    received: Vec<ReceivedRequest>,
    replies: HashMap<String, Vec<Reply>>,
}

impl Receiver {
    /// Starts a receiver on 127.0.0.1. By default it answers every request with 204.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts a receiver on an address.
    pub fn start_on(address: &str) -> Self {
        Self::listen("http", address, |stream, state| {
            serve(stream, state);
        })
    }

    /// Starts an HTTPS receiver on 127.0.0.1 with this certificate.
    pub fn start_with(certified: &Certified) -> Self {
        let config = Arc::new(certified.server_config());
        Self::listen("https", "127.0.0.1:0", move |stream, state| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            serve(StreamOwned::new(session, stream), state);
        })
    }

    fn listen(
        scheme: &'static str,
        address: &str,
        serve: impl Fn(TcpStream, &Mutex<State>) + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { scheme, address, state }
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Sets the replies on a path, one per request. The last one is repeated.
    pub fn set_replies(&self, path: &str, replies: &[Reply]) {
        let mut replies = replies.to_vec();
        // In reverse order, so that `pop` returns the next reply.
        replies.reverse();
        self.state.lock().expect("state").replies.insert(path.to_owned(), replies);
    }

    /// Returns all requests on a path.
    pub fn requests(&self, path: &str) -> Vec<ReceivedRequest> {
        let state = self.state.lock().expect("state");
        state.received.iter().filter(|received| received.path == path).cloned().collect()
    }

    /// Waits until a path has received `count` requests, and returns them.
    pub fn wait_for_requests(
        &self,
        path: &str,
        count: usize,
        limit: Duration,
    ) -> Vec<ReceivedRequest> {
        wait_for(&format!("{count} requests on {path}"), limit, || {
            Some(self.requests(path)).filter(|received| received.len() >= count)
        })
    }
}

fn serve(stream: impl Read + Write, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let method = words.next()?.to_owned();
    let path = words.next()?.to_owned();
    let mut headers = HeaderMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let name = HeaderName::try_from(name).ok()?;
        headers.insert(name, HeaderValue::try_from(value.trim()).ok()?);
    }
    let length = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let reply = {
        let mut state = state.lock().expect("state");
        state.received.push(ReceivedRequest { method, path: path.clone(), headers, body });
        let replies = state.replies.get_mut(&path);
        let next = replies.and_then(|replies| match replies.len() {
            0 | 1 => replies.last().copied(),
            _ => replies.pop(),
        });
        next.unwrap_or(Reply::Status("204 No Content", ""))
    };
    match reply {
        Reply::Hang => pause(HANG),
        Reply::Status(status, header) => {
            let line = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
            let close = "Content-Length: 0\r\nConnection: close\r\n\r\n";
            // The client may have closed the connection.
            let stream = reader.get_mut();
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n{line}{close}").as_bytes());
            let _ = stream.flush();
        }
    }
    Some(())
}
