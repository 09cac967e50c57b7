//! A connection's place among those that there may be, and the meter on what is read from it once it is a socket: hyper
//! bounds what it reads of HTTP itself, while a message of a socket grows in memory until it is whole.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::address_limits::{BufferedBytes, Connection};
use crate::kernel::limits;

/// A place; a socket takes it along when it outlives the HTTP that began it. It is free again when its last clone goes.
#[derive(Clone, Debug)]
pub struct ConnectionPermit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    meter: Mutex<Meter>,
    _permit: OwnedSemaphorePermit,
    _connection: Connection,
}

/// What is read, by how far it is known who sends it.
#[derive(Debug)]
enum Meter {
    /// HTTP.
    Http,
    /// A socket that has not said yet who it is: so many bytes are left to it.
    Unknown(usize),
    /// A socket of somebody who is known: the message that is on its way, and until when it must be whole.
    Authenticated { load: BufferedBytes, patience: Duration, until: Option<Instant> },
}

impl ConnectionPermit {
    /// Taken.
    pub fn new(permit: OwnedSemaphorePermit, connection: Connection) -> Self {
        metrics::gauge!("sortie_connections").increment(1);
        Self(Arc::new(Inner { meter: Mutex::new(Meter::Http), _permit: permit, _connection: connection }))
    }

    fn lock(&self) -> MutexGuard<'_, Meter> {
        self.0.meter.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From here on a socket is spoken, by somebody unknown.
    pub fn upgraded(&self) {
        *self.lock() = Meter::Unknown(limits::SOCKET_UNKNOWN_BYTES);
    }

    /// It is known who speaks; each message must be whole within this time.
    pub fn known(&self, load: BufferedBytes, patience: Duration) {
        *self.lock() = Meter::Authenticated { load, patience, until: None };
    }

    /// A message is whole: the load that it is, to be held while it is worked on.
    pub fn message(&self, next: impl FnOnce() -> BufferedBytes) -> Option<BufferedBytes> {
        match &mut *self.lock() {
            Meter::Authenticated { load, until, .. } if load.came() > 0 => {
                *until = None;
                Some(std::mem::replace(load, next()))
            }
            Meter::Authenticated { .. } | Meter::Unknown(_) | Meter::Http => None,
        }
    }

    /// A frame that is no part of a message, a ping or pong with so many bytes in it, came among the others.
    pub fn control(&self, bytes: usize) {
        if let Meter::Authenticated { load, until, .. } = &mut *self.lock() {
            // With its head and its mask.
            load.take_off(bytes + 6);
            if load.came() == 0 {
                *until = None;
            }
        }
    }

    /// Counts what was read; an error ends the connection.
    pub fn read(&self, bytes: usize) -> io::Result<()> {
        let refused = |why: &str| Err(io::Error::new(io::ErrorKind::QuotaExceeded, why.to_owned()));
        match &mut *self.lock() {
            Meter::Http => Ok(()),
            Meter::Unknown(left) => match left.checked_sub(bytes) {
                Some(less) => {
                    *left = less;
                    Ok(())
                }
                None => refused("too much before connection_init"),
            },
            Meter::Authenticated { load, patience, until } => {
                let now = Instant::now();
                if now > *until.get_or_insert(now + *patience) {
                    return refused("a message did not come whole in time");
                }
                load.add(bytes).or_else(|_| refused("too much is under way"))
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        metrics::gauge!("sortie_connections").decrement(1);
    }
}
