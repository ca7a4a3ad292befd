//! Reserves ports, so that a process can use the same one after a restart.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// First port of the range. The range is below the ephemeral ports of the system, so that no other
/// process takes a port while its owner restarts.
const FIRST: u32 = 20_000;
/// Number of ports in the range.
const COUNT: u32 = 12_000;

/// Returns a free port of 127.0.0.1, a different one at each call.
///
/// # Panics
/// If all ports are in use.
pub fn reserve() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Concurrent test processes start at different offsets.
    let start = std::process::id().wrapping_mul(997);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::SeqCst)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("all ports are in use");
}
