//! Raw TCP connections to a service, and job submissions in the background of a test.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::LIMIT;
use crate::client::Client;

/// Opens a connection with a read timeout of [`LIMIT`].
pub fn connect(client: &Client) -> TcpStream {
    let stream = TcpStream::connect(client.address()).expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a read timeout");
    stream
}

/// Returns whether the service has closed a connection. Does not wait. Discards received bytes, and
/// leaves the connection in non-blocking mode.
pub fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a non-blocking socket");
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Runs `work` while another thread submits jobs, and returns its result.
///
/// # Panics
/// If a job is refused, or if no job is submitted meanwhile.
pub fn submit_jobs_during<T>(client: &Client, work: impl FnOnce() -> T) -> T {
    let is_stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut served = 0;
            while !is_stopped.load(Ordering::Relaxed) {
                client.submit(&json!({"text": "as before"}));
                served += 1;
            }
            served
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_stopped.store(true, Ordering::Relaxed);
        assert!(others.join().expect("the other jobs are accepted") > 0);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
