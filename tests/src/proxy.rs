//! A TCP proxy that a test can cut, swallow and mend: a network with faults.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

/// Passes bytes on.
const OPEN: u8 = 0;
/// Refuses connections, and has cut those that there were.
const CUT: u8 = 1;
/// Takes bytes from the server and passes none on to the client.
const MUTE: u8 = 2;

/// The running proxy; it ends with the test's process.
pub struct Proxy {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    /// Starts a proxy in front of `target`, such as `127.0.0.1:4222`.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let mode = Arc::new(AtomicU8::new(OPEN));
        let streams = Arc::new(Mutex::new(Vec::new()));
        let (shared_mode, shared, target) =
            (Arc::clone(&mode), Arc::clone(&streams), target.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared_mode.load(Ordering::SeqCst) == CUT {
                    continue;
                }
                let Ok(server) = TcpStream::connect(&target) else {
                    continue;
                };
                let mut kept = shared.lock().expect("streams");
                for stream in [&client, &server] {
                    kept.push(stream.try_clone().expect("a clone"));
                }
                drop(kept);
                let (to_client, from_server) =
                    (client.try_clone().expect("a clone"), server.try_clone().expect("a clone"));
                let always = Arc::new(AtomicU8::new(OPEN));
                let mode = Arc::clone(&shared_mode);
                std::thread::spawn(move || pass(client, server, &always));
                std::thread::spawn(move || pass(from_server, to_client, &mode));
            }
        });
        Self { address, mode, streams }
    }

    /// Returns the proxy's own address.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Cuts all connections and refuses new ones.
    pub fn cut(&self) {
        self.mode.store(CUT, Ordering::SeqCst);
        for stream in self.streams.lock().expect("streams").drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Swallows what the server says: requests arrive, answers do not.
    pub fn mute(&self) {
        self.mode.store(MUTE, Ordering::SeqCst);
    }

    /// Passes everything on again. What was swallowed stays lost, so connections are made anew.
    pub fn mend(&self) {
        self.cut();
        self.mode.store(OPEN, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length) = from.read(&mut buffer) {
        if length == 0 {
            break;
        }
        if mode.load(Ordering::SeqCst) == OPEN && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
