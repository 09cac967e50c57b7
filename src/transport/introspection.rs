//! Turns for large introspection, each of which uses a whole core while it runs, and its responses.
//!
//! The schema is the same for every viewer, so a response depends on nothing but the document, the
//! operation and the variables: it is written once, and kept. What is not kept runs one request at a
//! time for each org, so that the orgs take turns, and few requests of a key may wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_graphql::parser::types::OperationType;
use entity::id::OrgId;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::Admitted;
use crate::kernel::cost::CostOwner;
use crate::kernel::error::Refusal;
use crate::kernel::limits;

/// Permits of all orgs together.
static ALL: Semaphore = Semaphore::const_new(limits::INTROSPECTIONS);

/// Written responses by the hash of what they depend on.
static KNOWN: LazyLock<Cache<[u8; 32], Arc<[u8]>, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(limits::INTROSPECTIONS_KEPT, limits::INTROSPECTIONS_KEPT_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<[u8; 32], Arc<[u8]>> for Bytes {
    fn weight(&self, _: &[u8; 32], response: &Arc<[u8]>) -> u64 {
        response.len() as u64 + 64
    }
}

/// A request with large introspection.
#[derive(Clone, Debug)]
pub(super) struct Introspection {
    owner: CostOwner,
    /// The hash of what the response depends on; `None` if it has more than the schema.
    key: Option<[u8; 32]>,
}

/// A permit to run.
#[derive(Debug)]
pub(super) struct Turn {
    _of_all: SemaphorePermit<'static>,
    _of_org: (OwnedSemaphorePermit, Shared<OrgId>),
    _of_key: (OwnedSemaphorePermit, Shared<Uuid>),
}

impl Introspection {
    /// Returns it for a query with large introspection; a small one needs no turn.
    pub(super) fn of(admitted: &Admitted) -> Option<Self> {
        let operation = &admitted.operation;
        let is_small = admitted.parsed.introspection <= limits::INTROSPECTION_SMALL;
        if operation.kind != OperationType::Query || !operation.asks_schema() || is_small {
            return None;
        }
        let of_schema = |name: &str| matches!(name, "__schema" | "__type" | "__typename");
        let only_schema = operation.roots.iter().all(|root| of_schema(&root.field));
        let key = only_schema.then(|| {
            let request = &admitted.request;
            let parts = json!([admitted.parsed.text, request.operation_name, request.variables]);
            Sha256::digest(parts.to_string()).into()
        });
        Some(Self { owner: admitted.cost.owner(), key })
    }

    /// Returns the response if it was written before.
    pub(super) fn known(&self) -> Option<Vec<u8>> {
        Some(KNOWN.get(&self.key?)?.to_vec())
    }

    /// Keeps a response without errors.
    pub(super) fn keep(&self, response: &[u8]) {
        if let Some(key) = self.key {
            KNOWN.insert(key, response.into());
        }
    }

    /// Waits for the org's turn. Errors: LIMIT_EXCEEDED if too many requests of the key wait.
    pub(super) async fn turn(&self) -> Result<Turn, Refusal> {
        static KEYS: LazyLock<Shares<Uuid>> = LazyLock::new(Shares::default);
        static ORGS: LazyLock<Shares<OrgId>> = LazyLock::new(Shares::default);
        let busy = || {
            let seconds = limits::RETRY_AFTER.as_secs();
            let message = format!("too many introspection requests of this key are waiting; retry in {seconds} s");
            Refusal::limit(message).with("retryAfterSeconds", json!(seconds))
        };
        let key = KEYS.of(self.owner.key, limits::INTROSPECTIONS_OF_KEY);
        let of_key = key.permits.clone().try_acquire_owned().map_err(|_| busy())?;
        let org = ORGS.of(self.owner.org, 1);
        // The semaphores are never closed.
        let of_org = org.permits.clone().acquire_owned().await.map_err(|_| busy())?;
        let of_all = ALL.acquire().await.map_err(|_| busy())?;
        Ok(Turn { _of_all: of_all, _of_org: (of_org, org), _of_key: (of_key, key) })
    }
}

/// The permits of keys or orgs that have requests.
type Map<K> = Arc<Mutex<HashMap<K, Arc<Semaphore>>>>;

#[derive(Debug)]
struct Shares<K>(Map<K>);

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<K: Copy + Eq + Hash> Shares<K> {
    fn of(&self, owner: K, permits: usize) -> Shared<K> {
        let permits = lock(&self.0).entry(owner).or_insert_with(|| Arc::new(Semaphore::new(permits))).clone();
        Shared { all: self.0.clone(), owner, permits }
    }
}

/// One user of an owner's permits; the last one removes them.
#[derive(Debug)]
struct Shared<K: Copy + Eq + Hash> {
    all: Map<K>,
    owner: K,
    permits: Arc<Semaphore>,
}

impl<K: Copy + Eq + Hash> Drop for Shared<K> {
    fn drop(&mut self) {
        let mut all = lock(&self.all);
        // This reference and the map's; a permit that is still held is dropped before.
        if Arc::strong_count(&self.permits) == 2 {
            all.remove(&self.owner);
        }
    }
}

fn lock<K>(map: &Map<K>) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}
