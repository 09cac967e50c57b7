//! Counts connections, and meters the bytes read from them once they are WebSockets: hyper bounds
//! what it reads of HTTP itself, while a message of a socket grows in memory until it is complete.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::address_limits::{BufferedBytes, Connection};
use crate::kernel::limits;

/// The permit of a connection, released when its last clone is dropped. A socket holds a clone,
/// since it outlives the HTTP request that opened it.
#[derive(Clone, Debug)]
pub struct ConnectionPermit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meter: Mutex<Meter>,
    _permit: OwnedSemaphorePermit,
    _connection: Connection,
}

/// The metering of reads, by the connection's state.
#[derive(Debug)]
enum Meter {
    /// HTTP, which is not metered.
    Http,
    /// An unauthenticated socket, with the number of bytes that it may still send.
    Unknown(usize),
    /// An authenticated socket, with the incoming message and the deadline for it to be complete.
    Authenticated { load: BufferedBytes, patience: Duration, until: Option<Instant> },
}

impl ConnectionPermit {
    /// Counts a connection.
    pub fn new(permit: OwnedSemaphorePermit, connection: Connection) -> Self {
        metrics::gauge!("sortie_connections").increment(1);
        Self(Arc::new(Inner { meter: Mutex::new(Meter::Http), _permit: permit, _connection: connection }))
    }

    fn lock(&self) -> MutexGuard<'_, Meter> {
        self.0.meter.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts metering an unauthenticated socket.
    pub fn upgraded(&self) {
        *self.lock() = Meter::Unknown(limits::SOCKET_UNKNOWN_BYTES);
    }

    /// Starts metering an authenticated socket; each message must be complete within `patience`.
    pub fn known(&self, load: BufferedBytes, patience: Duration) {
        *self.lock() = Meter::Authenticated { load, patience, until: None };
    }

    /// Takes the count of a complete message, to be held while the message is processed.
    pub fn message(&self, next: impl FnOnce() -> BufferedBytes) -> Option<BufferedBytes> {
        match &mut *self.lock() {
            Meter::Authenticated { load, until, .. } if load.received() > 0 => {
                *until = None;
                Some(std::mem::replace(load, next()))
            }
            Meter::Authenticated { .. } | Meter::Unknown(_) | Meter::Http => None,
        }
    }

    /// Subtracts a ping or pong of so many bytes, which is not part of a message.
    pub fn control(&self, bytes: usize) {
        if let Meter::Authenticated { load, until, .. } = &mut *self.lock() {
            // Includes the frame's header and mask.
            load.take_off(bytes + 6);
            if load.received() == 0 {
                *until = None;
            }
        }
    }

    /// Counts bytes read. An error ends the connection.
    pub fn read(&self, bytes: usize) -> io::Result<()> {
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::QuotaExceeded, why.to_owned()));
        match &mut *self.lock() {
            Meter::Http => Ok(()),
            Meter::Unknown(left) => match left.checked_sub(bytes) {
                Some(less) => {
                    *left = less;
                    Ok(())
                }
                None => refused("too many bytes before connection_init"),
            },
            Meter::Authenticated { load, patience, until } => {
                let now = Instant::now();
                if now > *until.get_or_insert(now + *patience) {
                    return refused("a message was not complete in time");
                }
                load.add(bytes).or_else(|_| refused("too many bytes are buffered"))
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        metrics::gauge!("sortie_connections").decrement(1);
    }
}
