//! Limits connections by client address, and buffered bytes by address, key and org. The table holds
//! only those that use something, so that strangers can't fill it.
//!
//! Bytes have bounds of keys and orgs besides those of addresses, because an address may stand for
//! many clients: bodies that never end take up a part of the memory, not everybody's. The last part
//! of each bound is for small messages, which most are.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use entity::id::OrgId;
use uuid::Uuid;

use super::error::RequestError;
use crate::kernel::cost::CostOwner;
use crate::kernel::limits;

/// The key of an address in the table: for IPv6 its /64, the least that one customer is assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.into()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into())
            }
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

/// The table of addresses, shared by all clones.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections_each: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by: HashMap<Network, Held>,
    bytes: usize,
    by_owner: HashMap<Owner, usize>,
}

/// A key or an org whose bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Key(Uuid),
    Org(OrgId),
}

/// Returns the key and the org.
fn owners(of: CostOwner) -> [Owner; 2] {
    [Owner::Key(of.key), Owner::Org(of.org)]
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    connections: usize,
    bytes: usize,
}

impl Table {
    fn release(&mut self, net: Network, given: Held) {
        self.bytes -= given.bytes;
        if let Some(held) = self.by.get_mut(&net) {
            held.connections -= given.connections;
            held.bytes -= given.bytes;
            if *held == Held::default() {
                self.by.remove(&net);
            }
        }
    }
}

impl Addresses {
    /// Creates an empty table with a limit of connections per address.
    pub fn new(connections_each: usize) -> Self {
        Self(Arc::new(Inner { connections_each, table: Mutex::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Counts a connection; `None` if the address has reached its limit. An address that stands for
    /// many clients, such as a proxy, is counted without a limit.
    pub fn connect(&self, address: IpAddr, is_shared: bool) -> Option<Connection> {
        let net = Network::from(address);
        let mut table = self.lock();
        let held = table.by.entry(net).or_default();
        if !is_shared && held.connections >= self.0.connections_each {
            return None;
        }
        held.connections += 1;
        Some(Connection { addresses: self.clone(), net })
    }

    /// An empty count of bytes buffered for a client at an address.
    pub fn load(&self, address: IpAddr, is_shared: bool, owner: CostOwner) -> BufferedBytes {
        BufferedBytes { addresses: self.clone(), net: address.into(), is_shared, owner, received: 0, counted: 0 }
    }

    /// Number of addresses, keys and orgs that use something.
    pub fn count(&self) -> usize {
        let table = self.lock();
        table.by.len() + table.by_owner.len()
    }
}

/// A counted connection, released on drop.
#[derive(Debug)]
pub struct Connection {
    addresses: Addresses,
    net: Network,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.addresses.lock().release(self.net, Held { connections: 1, bytes: 0 });
    }
}

/// A count of received bytes that are still in memory, released on drop. The first
/// `limits::LOAD_FREE_BYTES` are not counted, so that a usual request does not take the table's
/// lock; the limit of connections bounds them.
#[derive(Debug)]
pub struct BufferedBytes {
    addresses: Addresses,
    net: Network,
    is_shared: bool,
    owner: CostOwner,
    received: usize,
    counted: usize,
}

impl BufferedBytes {
    /// Adds bytes. Fails if the address, the key, the org, or all together, have too many buffered.
    pub fn add(&mut self, bytes: usize) -> Result<(), RequestError> {
        self.received = self.received.saturating_add(bytes);
        let more = self.received.saturating_sub(limits::LOAD_FREE_BYTES) - self.counted;
        if more == 0 {
            return Ok(());
        }
        let is_small = self.received <= limits::LOAD_SMALL_BYTES;
        let mut table = self.addresses.lock();
        let exceeds = |held: usize, most: usize| {
            let reserved = if is_small { 0 } else { most / limits::LOAD_RESERVED };
            held.saturating_add(more) > most - reserved
        };
        let busy = |of: &str| {
            let message = format!("too many large requests {of} are in progress: retry in a moment");
            Err(RequestError::busy(message).retry_after(1))
        };
        let [key, org] = owners(self.owner).map(|owner| table.by_owner.get(&owner).copied().unwrap_or_default());
        let held = table.by.get(&self.net).map_or(0, |held| held.bytes);
        if exceeds(key, limits::LOAD_BYTES_OF_KEY) {
            return busy("of your key");
        }
        if exceeds(org, limits::LOAD_BYTES_OF_ORG) {
            return busy("of your organisation");
        }
        if !self.is_shared && exceeds(held, limits::LOAD_BYTES_EACH) {
            return busy("from your address");
        }
        if exceeds(table.bytes, limits::LOAD_BYTES) {
            return Err(RequestError::unavailable("too many large requests are in progress: retry in a moment", 1));
        }
        table.by.entry(self.net).or_default().bytes += more;
        table.bytes += more;
        for owner in owners(self.owner) {
            *table.by_owner.entry(owner).or_default() += more;
        }
        self.counted += more;
        Ok(())
    }

    /// Subtracts bytes that turned out not to be part of the message.
    pub fn take_off(&mut self, bytes: usize) {
        self.received = self.received.saturating_sub(bytes);
        let less = self.counted - self.counted.min(self.received.saturating_sub(limits::LOAD_FREE_BYTES));
        if less > 0 {
            self.release(less);
        }
    }

    /// Number of bytes received.
    pub fn received(&self) -> usize {
        self.received
    }

    fn release(&mut self, bytes: usize) {
        self.counted -= bytes;
        let mut table = self.addresses.lock();
        table.release(self.net, Held { connections: 0, bytes });
        for owner in owners(self.owner) {
            if let Some(held) = table.by_owner.get_mut(&owner) {
                *held -= bytes;
                if *held == 0 {
                    table.by_owner.remove(&owner);
                }
            }
        }
    }
}

impl Drop for BufferedBytes {
    fn drop(&mut self) {
        if self.counted > 0 {
            self.release(self.counted);
        }
    }
}
