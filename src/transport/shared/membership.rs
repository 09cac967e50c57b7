//! A shared execution, its subscribers, and the owner of its costs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use entity::id::OrgId;
use tokio::sync::watch;
use uuid::Uuid;

use super::super::parsed::Parsed;
use super::buffer::Buffer;
use crate::graphql::document::Checked;
use crate::graphql::stream::LogScope;
use crate::kernel::cost::{self, CostOwner};

/// A shared execution, as its subscribers see it.
#[derive(Debug)]
pub(super) struct SharedStream {
    pub buffer: RwLock<Buffer>,
    pub wake: watch::Sender<()>,
    /// The part of the log that it covers; a new reader of a list requests a snapshot here.
    pub scope: LogScope,
    pub org: OrgId,
    /// The API keys of its subscribers, with the number of subscriptions each.
    pub keys: Mutex<HashMap<Uuid, usize>>,
    /// The stream's document and variables, which its subscribers use instead of their own.
    pub parsed: Arc<Parsed>,
    pub checked: Checked,
    /// The memory of the document and the variables, and of the executor's copies, charged once for
    /// all subscribers.
    pub input: OnceLock<Arc<cost::Request>>,
}

impl SharedStream {
    fn keys(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner that its cost is charged to.
    pub(super) fn payer(&self) -> CostOwner {
        let keys = self.keys();
        match keys.keys().next() {
            Some(key) if keys.len() == 1 => CostOwner { org: self.org, key: *key },
            _ => CostOwner::of_org(self.org),
        }
    }

    /// Charges its document to those who subscribe now.
    fn charge_subscribers(&self) {
        if let Some(input) = self.input.get() {
            input.follow_owner();
        }
    }
}

/// A subscription's membership in a shared stream, which ends on drop.
#[derive(Debug)]
pub(super) struct Membership {
    pub shared: Arc<SharedStream>,
    key: Uuid,
    pub wake: watch::Receiver<()>,
}

impl Membership {
    pub(super) fn new(shared: Arc<SharedStream>, key: Uuid, wake: watch::Receiver<()>) -> Self {
        *shared.keys().entry(key).or_default() += 1;
        shared.charge_subscribers();
        Self { shared, key, wake }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut keys = self.shared.keys();
        if let Some(count) = keys.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                keys.remove(&self.key);
            }
        }
        drop(keys);
        self.shared.charge_subscribers();
    }
}
