//! A TCP proxy for the NATS protocol that injects network faults: it cuts connections, makes them
//! half-open, and drops, delays or answers single messages.

use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use crate::proxy::frame::Frame;
use crate::proxy::rule::{Decision, Rules};

mod frame;
mod rule;

pub use self::rule::{Forward, Rule, RuleHandle};

/// Forwards messages, subject to the rules.
const OPEN: u8 = 0;
/// Refuses connections. Earlier connections are cut.
const CUT: u8 = 1;
/// Drops all messages from the server to the client.
const MUTE: u8 = 2;

/// Connection to which messages are written.
type Sink = Arc<Mutex<TcpStream>>;

/// A running proxy. It ends with the test process.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    mode: AtomicU8,
    streams: Mutex<Vec<TcpStream>>,
    rules: Mutex<Rules>,
    /// Messages held by rules, with their destinations.
    held_frames: Mutex<Vec<(Sink, Vec<u8>)>>,
}

impl Proxy {
    /// Starts a proxy in front of `target`, such as `127.0.0.1:4222`.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        let target = target.to_owned();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Dropping the connection closes it immediately.
                if accepting.mode.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target) else {
                    continue;
                };
                connect(client, server, &accepting);
            }
        });
        Self { address, shared }
    }

    /// Returns the address that clients connect to.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts all connections and refuses new ones.
    pub fn cut(&self) {
        self.shared.mode.store(CUT, Ordering::SeqCst);
        for stream in self.shared.streams.lock().expect("streams").drain(..) {
            // The stream may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Makes all connections half-open: requests reach the server, but answers are dropped.
    pub fn mute(&self) {
        self.shared.mode.store(MUTE, Ordering::SeqCst);
    }

    /// Ends [`Proxy::cut`] or [`Proxy::mute`]. Cuts all connections first, so that clients
    /// reconnect: dropped messages stay lost.
    pub fn restore(&self) {
        self.cut();
        self.shared.mode.store(OPEN, Ordering::SeqCst);
    }

    /// Adds a rule, and returns its handle. The first rule that matches a message decides.
    pub fn add_rule(&self, rule: Rule) -> RuleHandle {
        self.shared.rules.lock().expect("rules").add(rule)
    }

    /// Removes all rules, and forwards the held messages in order.
    pub fn release(&self) {
        self.shared.rules.lock().expect("rules").clear();
        for (sink, bytes) in self.shared.held_frames.lock().expect("held frames").drain(..) {
            // The connection may have ended.
            let _ = sink.lock().expect("a stream").write_all(&bytes);
        }
    }
}

/// Direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

fn connect(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) {
    let clone = |stream: &TcpStream| stream.try_clone().expect("a clone");
    shared.streams.lock().expect("streams").extend([clone(&client), clone(&server)]);
    let to_client = Arc::new(Mutex::new(clone(&client)));
    let to_server = Arc::new(Mutex::new(clone(&server)));
    for (direction, from, to, back) in [
        (Direction::ToServer, client, Arc::clone(&to_server), Arc::clone(&to_client)),
        (Direction::ToClient, server, to_client, to_server),
    ] {
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            forward_frames(direction, from, &to, &back, &shared);
            // Both ends must notice that the connection has ended.
            let _ = to.lock().expect("a stream").shutdown(Shutdown::Both);
        });
    }
}

fn forward_frames(direction: Direction, from: TcpStream, to: &Sink, back: &Sink, shared: &Shared) {
    let mut reader = BufReader::with_capacity(64 << 10, from);
    while let Ok(Some(frame)) = Frame::read(&mut reader) {
        if direction == Direction::ToClient && shared.mode.load(Ordering::SeqCst) == MUTE {
            continue;
        }
        // The lock is released before the write, which blocks while the receiver does not read.
        let decision = shared.rules.lock().expect("rules").decide(&frame, direction);
        let write = |sink: &Sink, bytes: &[u8]| sink.lock().expect("a stream").write_all(bytes);
        let written = match decision {
            Decision::Pass => write(to, &frame.bytes),
            Decision::Discard => Ok(()),
            Decision::Hold => {
                let held_frame = (Arc::clone(to), frame.bytes);
                shared.held_frames.lock().expect("held frames").push(held_frame);
                Ok(())
            }
            Decision::Answer { answer, forward } => {
                write(back, &answer).and_then(|()| match forward {
                    Forward::Yes => write(to, &frame.bytes),
                    Forward::No => Ok(()),
                })
            }
        };
        if written.is_err() {
            break;
        }
    }
}
