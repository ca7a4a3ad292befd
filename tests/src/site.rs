//! A web server on loopback that serves pages of a test, and counts requests.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::pause;

/// Response for a path.
#[derive(Debug, Clone)]
pub struct Page {
    /// Status code and reason.
    pub status: &'static str,
    /// Header fields, without `Content-Length` and `Connection`.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Delay before the response.
    pub delay: Duration,
    /// Number of bytes of the body after which the response stalls.
    pub stalls_after: Option<usize>,
}

/// How long a stalled response keeps the connection open.
const STALL: Duration = Duration::from_secs(60);

impl Page {
    /// Returns a page with status 200.
    pub fn new(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("Content-Type".to_owned(), content_type.to_owned())];
        Self { status: "200 OK", headers, body: body.into(), ..Self::status("200 OK") }
    }

    /// Returns a response with this status and no body.
    pub fn status(status: &'static str) -> Self {
        let headers = Vec::new();
        let body = Vec::new();
        Self { status, headers, body, delay: Duration::ZERO, stalls_after: None }
    }

    /// Adds a header field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Delays the response.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Stalls the response after `bytes` bytes of the body.
    pub fn stalls_after(mut self, bytes: usize) -> Self {
        self.stalls_after = Some(bytes);
        self
    }
}

/// A running server. It ends with the test process.
pub struct Site {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// Handler for paths without a page. It receives the path and the port of the client.
type Handler = Arc<dyn Fn(&str, u16) -> Page + Send + Sync>;

#[derive(Default)]
struct State {
    pages: HashMap<String, Page>,
    handler: Option<Handler>,
    hits: HashMap<String, usize>,
    connections: usize,
}

impl Site {
    /// Starts a server on 127.0.0.1.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts a server on an address.
    pub fn start_on(address: &str) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                shared.lock().expect("state").connections += 1;
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, state }
    }

    /// Sets the handler for paths without a page. It receives the path and the port of the client.
    pub fn handle(&self, handler: impl Fn(&str, u16) -> Page + Send + Sync + 'static) {
        self.state.lock().expect("state").handler = Some(Arc::new(handler));
    }

    /// Serves a page on a path, and returns its URL.
    pub fn put(&self, path: &str, page: Page) -> String {
        self.state.lock().expect("state").pages.insert(path.to_owned(), page);
        self.url(path)
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the number of requests for a path.
    pub fn hits(&self, path: &str) -> usize {
        self.state.lock().expect("state").hits.get(path).copied().unwrap_or(0)
    }

    /// Returns the number of accepted connections.
    pub fn connections(&self) -> usize {
        self.state.lock().expect("state").connections
    }
}

/// Returns a URL without a listener, on an address that no other test server uses.
pub fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.9:0").expect("a free port");
    format!("http://{}/", listener.local_addr().expect("an address"))
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(request)) = lines.next() else {
        return;
    };
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
    let (page, handler) = {
        let mut state = state.lock().expect("state");
        *state.hits.entry(path.clone()).or_default() += 1;
        (state.pages.get(&path).cloned(), state.handler.clone())
    };
    let port = stream.peer_addr().map_or(0, |address| address.port());
    let page = page.or_else(|| handler.map(|handler| handler(&path, port)));
    let page = page.unwrap_or_else(|| Page::status("404 Not Found"));
    pause(page.delay);
    let mut head = format!("HTTP/1.1 {}\r\n", page.status);
    for (name, value) in &page.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\nConnection: close\r\n\r\n", page.body.len());
    let mut stream = stream;
    let sent = page.stalls_after.unwrap_or(page.body.len());
    // The client may have closed the connection.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&page.body[..sent]));
    if page.stalls_after.is_some() {
        pause(STALL);
    }
}
