//! Taking connections: how many there may be, and how long a client may be silent, slow or gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tower_service::Service;

use crate::limits;
use crate::transport::guest::{Peer, Place};

/// Serves until told to stop, then lets what is under way end; each connection in a task of its own.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    connections: usize,
    head: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(connections));
    let ending = GracefulShutdown::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(err) => {
                    // Out of files, say: the next try may do better, but not at once.
                    tracing::warn!(error = %err, "a connection could not be taken");
                    tokio::time::sleep(limits::ACCEPT_AGAIN).await;
                    continue;
                }
            },
            () = stopped(&mut stop) => break,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, connections, "a connection was turned away: there are as many as may be");
            continue;
        };
        if let Err(err) = prepare(&stream) {
            tracing::debug!(error = %err, "a connection's options could not be set");
        }
        tokio::spawn(connection(stream, peer, routes.clone(), head, ending.watcher(), Place::new(place)));
    }
    drop(listener);
    let _ = timeout(limits::SOCKET_WRITE, ending.shutdown()).await;
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

/// One connection, to its end: its head must come in time, and what is written to it must be taken in time.
async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Router,
    head: Duration,
    ending: Watcher,
    place: Place,
) {
    // hyper's time for a head begins with its first byte.
    if !matches!(timeout(head, stream.peek(&mut [0])).await, Ok(Ok(1))) {
        return;
    }
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits::SOCKET_WRITE));
    let answer = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(place.clone());
        routes.clone().call(request)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(limits::HEAD_BYTES);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(Box::pin(stream)), answer);
    if let Err(err) = ending.watch(connection).await {
        tracing::debug!(error = %err, %peer, "a connection ended");
    }
}
