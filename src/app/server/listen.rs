//! Taking connections: how many there may be, and how long a client may be silent, slow or gone. HTTP/1.1 only: what holds
//! of its heads, bodies and idle connections would have to be found anew for the streams of HTTP/2.

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
use crate::transport::connections::ConnectionPermit;
use crate::transport::origin::{self, Peer};
use crate::transport::{App, http};

/// Serves until told to stop, then lets what is under way end; each connection in a task of its own.
pub(super) async fn serve(listener: TcpListener, routes: Router, app: App, connections: usize) {
    let places = Arc::new(Semaphore::new(connections));
    // Each connection holds a clone: when the last one goes, nothing is received any more.
    let (open, mut ended) = mpsc::channel::<()>(1);
    let mut stop = app.stop.clone();
    let mut turned_away = RejectedConnections::default();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(err) => {
                    // Out of files, say: the next try may do better, but not at once.
                    turned_away.note(&err.to_string());
                    tokio::time::sleep(limits::ACCEPT_AGAIN).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        let Ok(permit) = places.clone().try_acquire_owned() else {
            turned_away.note(&format!("there are {connections}, as many as may be"));
            continue;
        };
        let Some(connection) = app.addresses.connect(peer.ip(), app.authenticator.speaks_for_many(peer.ip())) else {
            turned_away.note(&format!("{} has as many as one address may have", peer.ip()));
            continue;
        };
        if let Err(err) = prepare(&stream) {
            tracing::debug!(error = %err, "a connection's options could not be set");
        }
        let (routes, place, stop) = (routes.clone(), ConnectionPermit::new(permit, connection), stop.clone());
        tokio::spawn(self::connection(stream, peer, routes, app.client_time, place, stop, open.clone()));
    }
    drop((listener, open));
    let _ = timeout(limits::SOCKET_WRITE, ended.recv()).await;
}

/// Connections that were not taken: told at once, and then once in a while with how many there were, so that they can't
/// fill the log.
#[derive(Default)]
struct RejectedConnections {
    count: u64,
    told: Option<Instant>,
}

impl RejectedConnections {
    fn note(&mut self, why: &str) {
        metrics::counter!("sortie_connections_refused_total").increment(1);
        self.count += 1;
        if self.told.is_none_or(|at| at.elapsed() >= limits::TOLD_EVERY) {
            tracing::warn!(count = self.count, why, "connections were turned away");
            *self = Self { count: 0, told: Some(Instant::now()) };
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A peer that has vanished is noticed: what it does not acknowledge in time ends the connection.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limits::PEER_GONE))?;
    socket.set_tcp_user_timeout(Some(limits::PEER_GONE))
}

/// One connection, to its end: its head must come in time, the first one and each that follows, and what is written to it
/// must be taken in time.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Router,
    head: Duration,
    place: ConnectionPermit,
    mut stop: watch::Receiver<bool>,
    _open: mpsc::Sender<()>,
) {
    let wire = TokioIo::new(MeteredStream::new(stream, place.clone()));
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(place.clone());
        let mut routes = routes.clone();
        async move {
            match origin::check_host(&request) {
                Ok(()) => routes.call(request).await,
                Err(told) => {
                    let mut refused = http::refuse(http::Type::Json, &told);
                    // What follows on the connection may be read otherwise by others, too.
                    refused.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    Ok(refused)
                }
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(limits::HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(wire, answer).with_upgrades());
    let done = tokio::select! {
        done = connection.as_mut() => done,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = done {
        tracing::debug!(error = %err, %peer, "a connection ended");
    }
}
