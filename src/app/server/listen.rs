//! Accepts connections, and bounds their number and the time that a client may be silent, slow or
//! gone. HTTP/1.1 only: the limits on heads, bodies and idle connections would have to be worked
//! out again for HTTP/2 streams.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tower_service::Service;

use super::wire::MeteredStream;
use crate::kernel::limits;
use crate::transport::accept::Type;
use crate::transport::connections::ConnectionPermit;
use crate::transport::origin::{self, Peer};
use crate::transport::{App, response};

/// Serves until the server stops, then lets open requests finish; one task per connection.
pub(super) async fn serve(listener: TcpListener, routes: Router, app: App, connections: usize) {
    let permits = Arc::new(Semaphore::new(connections));
    // Each connection holds a clone of the sender: when the last one is dropped, `recv` returns
    // none.
    let (open, mut ended) = mpsc::channel::<()>(1);
    let mut stop = app.stop.clone();
    let mut rejected = RejectedConnections::default();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(err) => {
                    // For example out of files: a later attempt may succeed, but not immediately.
                    rejected.note(&err.to_string());
                    tokio::time::sleep(limits::ACCEPT_RETRY_DELAY).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            rejected.note(&format!("the maximum of {connections} connections is reached"));
            continue;
        };
        let Some(connection) = app.addresses.connect(peer.ip(), app.authenticator.is_shared_address(peer.ip())) else {
            rejected.note(&format!("{} has reached the maximum number of connections per address", peer.ip()));
            continue;
        };
        if let Err(err) = prepare(&stream) {
            tracing::debug!(error = %err, "setting a connection's options failed");
        }
        let (routes, connection_permit, stop) =
            (routes.clone(), ConnectionPermit::new(permit, connection), stop.clone());
        tokio::spawn(self::connection(stream, peer, routes, app.client_time, connection_permit, stop, open.clone()));
    }
    drop((listener, open));
    let _ = timeout(limits::SOCKET_WRITE, ended.recv()).await;
}

/// Rejected connections: logged immediately, then periodically with their number, so that they
/// cannot fill the log.
#[derive(Default)]
struct RejectedConnections {
    count: u64,
    logged_at: Option<Instant>,
}

impl RejectedConnections {
    fn note(&mut self, why: &str) {
        metrics::counter!("sortie_connections_refused_total").increment(1);
        self.count += 1;
        if self.logged_at.is_none_or(|at| at.elapsed() >= limits::LOG_INTERVAL) {
            tracing::warn!(count = self.count, why, "connections were rejected");
            *self = Self { count: 0, logged_at: Some(Instant::now()) };
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Sets options that detect a vanished peer: unacknowledged data end the connection after a time
/// limit.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limits::PEER_GONE))?;
    socket.set_tcp_user_timeout(Some(limits::PEER_GONE))
}

/// Serves one connection to its end. Each request head must arrive in time, and written data must
/// be acknowledged in time.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Router,
    head: Duration,
    permit: ConnectionPermit,
    mut stop: watch::Receiver<bool>,
    _open: mpsc::Sender<()>,
) {
    let wire = TokioIo::new(MeteredStream::new(stream, permit.clone()));
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(permit.clone());
        let mut routes = routes.clone();
        async move {
            // A client may send many requests at once: other connections have their turns between them.
            tokio::task::yield_now().await;
            match origin::check_host(&request) {
                Ok(()) => routes.call(request).await,
                Err(error) => {
                    let mut response = response::refuse(Type::Json, &error);
                    // Anything that follows on this connection may be interpreted differently by a
                    // proxy.
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    Ok(response)
                }
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(limits::HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(wire, service).with_upgrades());
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = done {
        tracing::debug!(error = %err, %peer, "serving a connection failed");
    }
}
