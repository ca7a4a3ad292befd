//! Connections as clients make them, with a limit on how long one may take nothing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tracing::debug;

/// How long a client may take nothing of what is sent to it before its connection is cut off.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);

/// A listener whose connections fail when their client has stopped reading.
#[derive(Debug)]
pub(crate) struct Unstalled(pub(crate) TcpListener);

impl Listener for Unstalled {
    type Io = Pin<Box<TimeoutStream<TcpStream>>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        // An event is small and must not wait for the next one.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "small answers may be delayed");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_STALL_MAX));
        (Box::pin(stream), address)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
