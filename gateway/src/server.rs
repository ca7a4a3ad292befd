//! Connections: how many there may be, and how long each may keep us waiting.
//!
//! Whoever is slow holds one place and nothing else, and for a limited time: for the TLS handshake, for the
//! head of a request, and for taking nothing of an answer. Bodies have limits of their own, in `body`.

mod refusal;

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use self::refusal::Speaking;
use crate::routes::Service;
use crate::tls::Tls;

/// Largest head of a request: request line and header fields, in bytes. More is answered with 431.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Wait after a connection could not be accepted, for lack of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// How often it is said that no more connections are taken.
const FULL_SAID_EVERY: Duration = Duration::from_secs(60);
/// File descriptors that are not for clients: the broker, the log, files that are read again.
const FILES_RESERVED: u32 = 64;

/// What clients may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most connections at once. Those that come on top wait to be accepted.
    pub(crate) connections_max: u32,
    /// Longest time for a TLS handshake, for the head of a request (so also between two requests), and
    /// without any progress while something is sent.
    pub(crate) client_timeout: Duration,
}

/// Serves until `shutdown`; then open requests are finished, and idle connections closed.
pub(crate) async fn serve(
    listener: TcpListener,
    service: Service,
    tls: Option<Tls>,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let mut door = Door::new(listener, limits.connections_max);
    // Dropped at the end of the grace period, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => note(ended),
            (stream, place) = door.next() => {
                let (service, tls, stopping) = (service.clone(), tls.clone(), shutdown.clone());
                connections.spawn(async move {
                    welcome(stream, tls, service, limits.client_timeout, &stopping).await;
                    drop(place);
                });
            }
        }
    }
    drop(door);
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

/// Lets as many in as there are places.
struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    said_at: Option<Instant>,
}

impl Door {
    fn new(listener: TcpListener, connections_max: u32) -> Self {
        let count = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self { listener, places: Arc::new(Semaphore::new(count)), said_at: None }
    }

    /// Waits for a place, then for a client: nobody is accepted who could not be served. Cancel-safe.
    async fn next(&mut self) -> (TcpStream, OwnedSemaphorePermit) {
        let place = self.place().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, place),
                // The client has gone away already.
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    error!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn place(&mut self) -> OwnedSemaphorePermit {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return place;
        }
        if self.said_at.is_none_or(|at| at.elapsed() >= FULL_SAID_EVERY) {
            self.said_at = Some(Instant::now());
            warn!(
                "as many clients are connected as may be (WORDMILL_CONNECTIONS_MAX); others wait"
            );
        }
        match Arc::clone(&self.places).acquire_owned().await {
            Ok(place) => place,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Serves one client.
async fn welcome(
    stream: TcpStream,
    tls: Option<Tls>,
    service: Service,
    timeout: Duration,
    stopping: &CancellationToken,
) {
    // An event is small and must not wait for the next one.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "small answers may be delayed");
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(timeout));
    let stream: Pin<Box<_>> = Box::pin(stream);
    let Some(tls) = tls else {
        return converse(stream, service, timeout, stopping).await;
    };
    let handshake = TlsAcceptor::from(tls.current()).accept(stream);
    match tokio::time::timeout(timeout, handshake).await {
        Ok(Ok(stream)) => converse(stream, service, timeout, stopping).await,
        Ok(Err(error)) => debug!(%error, "no TLS with a client"),
        Err(_) => debug!("a client did not finish its TLS handshake in time"),
    }
}

/// Answers requests until one side has had enough.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    service: Service,
    timeout: Duration,
    stopping: &CancellationToken,
) {
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeout)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(
                TokioIo::new(Speaking::new(stream)),
                TowerToHyperService::new(service)
            )
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

/// A handler's panic is caught and answered further inside: this one is ours.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a connection's task ended");
    }
}

/// Returns how many connections there may be: as many as are `wanted`, if this process may open so
/// many files. A client that takes the last one would cut us off from the broker.
pub(crate) fn affordable(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    // The lower limit is there for programs that cannot count beyond 1024: this one can.
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = current.map_or(u32::MAX, |files| u32::try_from(files).unwrap_or(u32::MAX));
    let affordable = files.saturating_sub(FILES_RESERVED).max(1);
    if affordable < wanted {
        warn!(files, connections_max = affordable, "fewer connections: too few open files allowed");
    }
    wanted.min(affordable)
}

/// Tells whether only this machine can reach an address.
pub(crate) fn is_private(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
