//! Ports that a process keeps while it is restarted.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// The first of the ports. They lie below those that the system gives out by itself, so that nobody
/// is given one while its owner is down.
const FIRST: u32 = 20_000;
/// How many there are.
const COUNT: u32 = 12_000;

/// Returns a free port of 127.0.0.1, another one each time.
///
/// # Panics
/// If all are taken.
pub fn reserved() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes that run side by side begin in different places.
    let start = std::process::id().wrapping_mul(997);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}
