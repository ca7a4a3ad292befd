//! HTTP/1.1 server for clients that may be slow, silent or hostile.
//!
//! A slow client occupies one connection and nothing else, for a limited time: the server has
//! timeouts for the TLS handshake, for the head of a request, and for a write that makes no
//! progress. Handlers set their own limits for bodies. Connections without an authenticated request
//! share a small part of all connections.

mod bare_response;
mod unauthenticated;

use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use self::bare_response::CompletingStream;
pub use self::unauthenticated::Connection;
use self::unauthenticated::UnauthenticatedConnections;

/// Maximum size of the head of a request (request line and header fields), in bytes. A larger one
/// gets status 431.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Maximum size of the buffer for a body that is read, in bytes. With 16 KiB, large documents
/// arrive 10 % slower.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Maximum memory of a connection before its first authenticated request, in bytes.
///
/// It is the sum of a head of `HEAD_BYTES_MAX`, a TLS handshake message of 64 KiB (the limit of
/// rustls), a response in a buffer of `BUFFER_BYTES_MAX`, and the state of all three. Measured with
/// the shipped allocator: 41 KiB for an unfinished head, 67 KiB with half a TLS record after it, 97
/// KiB for a compressed response that the client does not read. Kernel buffers are not included.
pub const CONNECTION_BYTES_MAX: usize = 128 << 10;
/// Maximum size of the unsent part of a response in the kernel, in bytes. Without it, the kernel
/// would buffer up to 4 MiB for each client that does not read.
const UNSENT_BYTES_MAX: u32 = 128 << 10;
/// Delay after a failed `accept`, for example for lack of file descriptors.
const ACCEPT_DELAY: Duration = Duration::from_millis(200);
/// Time after the start of a shutdown in which open connections still accept requests. Otherwise a
/// request in flight would find its connection closed, and a proxy could not know whether it was
/// processed.
const LAST_REQUEST_TIME: Duration = Duration::from_millis(500);
/// Minimum time between two log messages about too many connections.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Number of file descriptors that are not available to clients: they are reserved for the broker,
/// the log, and files that are reloaded.
const FILES_RESERVED: u32 = 64;

/// TLS configuration for new connections. It can be replaced at any time.
pub type Certificate = watch::Receiver<Arc<ServerConfig>>;
/// Function that maps a response that hyper generates itself (`400` or `431`, a head without a
/// body) to the complete response. It returns `None` for any other bytes, which are then sent
/// unchanged.
pub type CompleteResponseFn = fn(&[u8]) -> Option<String>;

/// Limits for clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of open connections. Further ones wait in the backlog of the listener.
    pub connections_max: u32,
    /// Maximum number of open connections without an authenticated request. A further one closes
    /// the oldest of them, or waits if the oldest has only just been accepted.
    pub unauthenticated_max: usize,
    /// Timeout for the TLS handshake, for the head of a request (and so for an idle connection),
    /// and for a write that makes no progress.
    pub client_timeout: Duration,
}

/// Configuration of the server.
#[derive(Debug)]
pub struct Settings {
    /// Limits for clients.
    pub limits: Limits,
    /// TLS configuration. If it is set, the server accepts HTTPS only, otherwise plain HTTP only.
    pub certificate: Option<Certificate>,
    /// Completes the responses that hyper generates itself.
    pub complete_response: CompleteResponseFn,
}

/// Serves connections until `shutdown`. Then refuses new clients, closes idle connections after
/// half a second, and returns when all open requests are finished.
///
/// `make_service` creates the service of one connection. The service calls
/// [`Connection::mark_authenticated`] once a request on that connection is authenticated.
pub async fn serve<S, B>(
    listener: TcpListener,
    make_service: impl Fn(Connection) -> S,
    settings: Settings,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Settings { limits, certificate, complete_response } = settings;
    limit_unsent(&listener);
    let mut acceptor = Acceptor::new(listener, limits.connections_max);
    let unauthenticated = UnauthenticatedConnections::new(limits.unauthenticated_max);
    // If the caller drops this future at the end of the grace period, the set aborts all
    // connections.
    let mut connections = JoinSet::new();
    let serve_client = |(stream, permit)| {
        let (connection, close_token) = unauthenticated.add();
        let client = Client {
            service: make_service(connection.clone()),
            // A certificate that is replaced later applies to later connections only.
            tls: certificate.as_ref().map(|current| Arc::clone(&current.borrow())),
            timeout: limits.client_timeout,
            complete_response,
            stopping: shutdown.clone(),
        };
        async move {
            tokio::select! {
                () = client.serve(stream) => {}
                () = close_token.cancelled() => {}
            }
            drop((connection, permit));
        }
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = connections.join_next() => log_panic(ended),
            // The other branches may cancel `next` at any await, which loses no client.
            client = acceptor.next(&unauthenticated) => {
                connections.spawn(serve_client(client));
            }
        }
    }
    // Closes the listener, so that new clients are refused while open requests finish.
    acceptor.close(&unauthenticated, |client| {
        connections.spawn(serve_client(client));
    });
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

/// Limits the unsent bytes of every connection that the listener accepts.
fn limit_unsent(listener: &TcpListener) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_BYTES_MAX) {
        warn!(
            %error,
            "cannot limit unsent bytes; a client that does not read may take 4 MiB of memory"
        );
    }
}

/// Accepts connections up to a maximum number of open ones.
struct Acceptor {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    logged_at: Option<Instant>,
}

impl Acceptor {
    fn new(listener: TcpListener, connections_max: u32) -> Self {
        let count = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Self { listener, permits: Arc::new(Semaphore::new(count)), logged_at: None }
    }

    /// Waits for a permit, then for room in `list`, and only then accepts a client, so that every
    /// accepted client is served. Cancel-safe.
    async fn next(
        &mut self,
        list: &UnauthenticatedConnections,
    ) -> (TcpStream, OwnedSemaphorePermit) {
        let permit = self.acquire_permit().await;
        list.make_room().await;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return (stream, permit),
                // The client closed the connection before it was accepted.
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    error!(%error, "cannot accept a connection; retrying in 200 ms");
                    tokio::time::sleep(ACCEPT_DELAY).await;
                }
            }
        }
    }

    /// Closes the listener. Before that, calls `start` for each connection in its backlog, as far
    /// as the limits allow. Closing the listener resets the others, and a proxy cannot know whether
    /// their requests were processed.
    fn close(
        self,
        list: &UnauthenticatedConnections,
        mut start: impl FnMut((TcpStream, OwnedSemaphorePermit)),
    ) {
        // Uses the non-blocking `accept` of std: that of tokio may wait although the backlog has a
        // connection.
        let Ok(listener) = self.listener.into_std() else { return };
        while list.try_make_room().is_none()
            && let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned()
        {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionAborted => continue,
                // The backlog is empty.
                Err(_) => return,
            };
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                start((stream, permit));
            }
        }
    }

    async fn acquire_permit(&mut self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        if self.logged_at.is_none_or(|at| at.elapsed() >= FULL_LOG_INTERVAL) {
            self.logged_at = Some(Instant::now());
            warn!(
                "connection limit reached; new clients must wait (gateway: \
                 WORDMILL_CONNECTIONS_MAX)"
            );
        }
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => permit,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }
}

/// An accepted client, and the settings for its connection.
struct Client<S> {
    service: S,
    tls: Option<Arc<ServerConfig>>,
    timeout: Duration,
    complete_response: CompleteResponseFn,
    stopping: CancellationToken,
}

impl<S, B> Client<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Serves the client until one side closes the connection.
    async fn serve(self, stream: TcpStream) {
        // Disable Nagle's algorithm, so that small events are sent immediately.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot set TCP_NODELAY; small responses may be delayed");
        }
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.timeout));
        let stream: Pin<Box<_>> = Box::pin(stream);
        let Some(tls) = &self.tls else {
            return self.serve_requests(stream).await;
        };
        let handshake = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
        match tokio::time::timeout(self.timeout, handshake).await {
            Ok(Ok(stream)) => self.serve_requests(stream).await,
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_) => debug!("TLS handshake timed out"),
        }
    }

    async fn serve_requests(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.timeout)
                .max_header_size(HEAD_BYTES_MAX)
                .max_buf_size(BUFFER_BYTES_MAX)
                .serve_connection(
                    TokioIo::new(CompletingStream::new(stream, self.complete_response)),
                    self.service
                )
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopping.cancelled() => {
                match tokio::time::timeout(LAST_REQUEST_TIME, connection.as_mut()).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        // Finishes the request that is being served, then closes the connection.
                        // If the client has sent nothing yet, closes it immediately.
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "connection ended with an error");
        }
    }
}

/// Logs the panic of a connection task. The service itself catches panics in handlers.
fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "connection task panicked");
    }
}

/// Raises the soft limit of open files to the hard limit. Returns `wanted`, or the number of
/// connections that the limit allows if that is lower. `FILES_RESERVED` files remain free for other
/// purposes.
#[must_use]
pub fn raise_file_limit(wanted: u32) -> u32 {
    let limit = getrlimit(Resource::Nofile);
    // The soft limit is low for the sake of programs that use `select`, which cannot handle
    // descriptors above 1023. The services do not use it.
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = current.map_or(u32::MAX, |files| u32::try_from(files).unwrap_or(u32::MAX));
    let affordable = files.saturating_sub(FILES_RESERVED).max(1);
    if affordable < wanted {
        warn!(
            files,
            connections_max = affordable,
            "too few file descriptors; lowered the connection limit: raise 'ulimit -n'"
        );
    }
    wanted.min(affordable)
}
