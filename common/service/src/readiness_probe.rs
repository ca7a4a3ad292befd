//! Readiness probe of a service on the same machine, for health checks of containers whose image
//! has no HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Timeout of each step of the probe.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to the service that listens on `address`.
///
/// # Errors
/// If the connection fails or times out.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&loopback_if_unspecified(address), STEP_TIMEOUT)?;
    stream.set_read_timeout(Some(STEP_TIMEOUT))?;
    stream.set_write_timeout(Some(STEP_TIMEOUT))?;
    Ok(stream)
}

/// Returns whether the service responds to `GET /readyz` with status 200.
///
/// # Errors
/// If the connection fails or times out, or ends before the status line.
pub fn is_ready(mut stream: impl Read + Write) -> io::Result<bool> {
    stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut status_line = [0; "HTTP/1.0 200".len()];
    stream.read_exact(&mut status_line)?;
    Ok(status_line.ends_with(b" 200"))
}

/// Replaces the unspecified address, for example `0.0.0.0`, with the loopback address.
fn loopback_if_unspecified(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}
