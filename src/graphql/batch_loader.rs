//! Loaders: collect the keys that the fields of a response ask for, and load those of one kind
//! together.
//!
//! `async_graphql::dataloader` does the same with some 3,700 lines of LLVM IR for each kind of key;
//! here everything but the key's own types exists once (docs/performance.md, Builds).

use std::any::{Any, TypeId};
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::loader::Rows;
use crate::kernel::error::{Error, Result};

/// Maximum number of keys that are loaded together.
const KEYS_OF_A_LOAD: usize = 1_000;

/// Loads the values of one kind of key.
pub trait Loader<K: Key>: Send + Sync + 'static {
    /// The value that a key stands for.
    type Value: Clone + Send + Sync + 'static;

    /// Loads the values of several keys, each of which comes once. Keys without a value are left
    /// out.
    fn load(&self, keys: &[K]) -> impl Future<Output = Result<HashMap<K, Self::Value>>> + Send;
}

/// A kind of key.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Key for K {}

/// A load that has yet to run; it takes the keys collected until then.
pub type Load = BoxFuture<'static, ()>;

/// The loaders of one response.
pub struct Loaders {
    rows: Arc<Rows>,
    /// Takes a load, to run it once no more keys come.
    schedule: Box<dyn Fn(Load) + Send + Sync>,
    /// The open batch of each kind of key: a `Batch<K>` under the type `K`.
    open: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
}

/// The keys that one load will take.
struct Batch<K> {
    keys: Arc<Keys<K>>,
    loaded: Loaded,
}

/// Keys of an open batch; `None` once the load has taken them.
type Keys<K> = Mutex<Option<Vec<K>>>;

/// The result of a load, an `Outcome`, for everybody who waits for it.
type Loaded = Shared<oneshot::Receiver<Arc<dyn Any + Send + Sync>>>;

/// The values that a load found by their keys, or its failure.
type Outcome<K> = std::result::Result<HashMap<K, <Rows as Loader<K>>::Value>, Arc<Error>>;

impl Loaders {
    /// Creates the loaders of a response, whose loads `schedule` runs.
    pub fn new(rows: Rows, schedule: impl Fn(Load) + Send + Sync + 'static) -> Self {
        Self { rows: Arc::new(rows), schedule: Box::new(schedule), open: Mutex::default() }
    }

    /// Returns the value of a key, loaded together with the others of its kind.
    pub async fn load_one<K: Key>(&self, key: K) -> Result<Option<<Rows as Loader<K>>::Value>>
    where
        Rows: Loader<K>,
    {
        let loaded = self.join(&key).await.map_err(|_| Error::internal("a load was dropped"))?;
        match loaded.downcast_ref::<Outcome<K>>() {
            Some(Ok(values)) => Ok(values.get(&key).cloned()),
            Some(Err(err)) => Err(Error::shared(err)),
            None => Err(Error::internal("a load of another kind of key")),
        }
    }

    /// Adds a key to the open batch of its kind, or to a new one.
    fn join<K: Key>(&self, key: &K) -> Loaded
    where
        Rows: Loader<K>,
    {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = open.get(&TypeId::of::<K>()).and_then(|batch| batch.downcast_ref::<Batch<K>>());
        if let Some(batch) = batch
            && add(&batch.keys, key)
        {
            return batch.loaded.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let batch = Batch { keys: Arc::new(Mutex::new(Some(vec![key.clone()]))), loaded: receiver.shared() };
        let loaded = batch.loaded.clone();
        (self.schedule)(Box::pin(load(self.rows.clone(), batch.keys.clone(), sender)));
        open.insert(TypeId::of::<K>(), Box::new(batch));
        loaded
    }
}

/// Adds a key to a batch. False if the batch is full, or its load has begun.
fn add<K: Key>(keys: &Keys<K>, key: &K) -> bool {
    match &mut *keys.lock().unwrap_or_else(PoisonError::into_inner) {
        Some(keys) if keys.len() < KEYS_OF_A_LOAD => {
            keys.push(key.clone());
            true
        }
        _ => false,
    }
}

/// Loads the keys of a batch, each of them once.
async fn load<K: Key>(rows: Arc<Rows>, keys: Arc<Keys<K>>, sender: oneshot::Sender<Arc<dyn Any + Send + Sync>>)
where
    Rows: Loader<K>,
{
    let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    let mut seen = HashSet::with_capacity(keys.len());
    keys.retain(|key| seen.insert(key.clone()));
    let loaded: Outcome<K> = rows.load(&keys).await.map_err(Arc::new);
    // Nobody waits any more once the request has ended.
    let _ = sender.send(Arc::new(loaded));
}
