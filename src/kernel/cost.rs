//! The cost of one request: the rows that it reads, the response that it builds, and the memory
//! that its key and org use at the moment.
//!
//! Code that runs for a request finds it in the task: rows and texts are counted where they are
//! read and made, not once the response is complete. A request that exceeds a bound is over: its
//! statements end, and its response is a single error.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use entity::id::{Id, OrgId};
use futures_util::future::BoxFuture;
use serde_json::json;
use uuid::Uuid;

use crate::kernel::error::Refusal;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

pub mod answer;
pub mod execution_time;
mod hold;
mod kept;

tokio::task_local! {
    static REQUEST: Arc<Request>;
}

/// The key and org that costs are charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CostOwner {
    /// The org's id.
    pub org: OrgId,
    /// API key's id; the member's for a token, and in development mode.
    pub key: Uuid,
}

impl CostOwner {
    /// An org, for work that is shared by several of its keys: charged to the org alone.
    pub fn of_org(org: OrgId) -> Self {
        Self { org, key: org.uuid() }
    }

    /// True if costs are charged to the org alone.
    pub fn is_org(&self) -> bool {
        self.key == self.org.uuid()
    }

    /// The owner of a viewer's costs.
    pub fn of(viewer: &Viewer) -> Self {
        let member = || viewer.member_id().map_or(viewer.org_id.uuid(), Id::uuid);
        Self { org: viewer.org_id, key: viewer.api_key_id.map_or_else(member, Id::uuid) }
    }
}

/// The current usage of all requests of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct Costs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    answer_bytes: usize,
    usages: Mutex<Usages>,
}

#[derive(Debug, Default)]
struct Usages {
    /// Usage by key and by org.
    all: HashMap<Uuid, Arc<Usage>>,
    /// Unused entries that still owe time.
    owing: VecDeque<Uuid>,
}

/// The current usage of a key or an org.
#[derive(Debug, Default)]
struct Usage {
    /// Bytes of rows and responses.
    bytes: AtomicUsize,
    /// Part of an org's bytes that is in its reserve.
    reserved: AtomicUsize,
    /// Time of live executions.
    live: Mutex<execution_time::TimeUsed>,
    /// Set while the entry is in `owing`.
    owes: AtomicBool,
}

/// The owner of costs, with the usage of its key and its org.
#[derive(Clone, Debug)]
struct OwnerUsage {
    owner: CostOwner,
    key: Arc<Usage>,
    org: Arc<Usage>,
}

/// Returns the owner of some costs; it may change while the work runs.
#[derive(Clone)]
pub struct CostAccount(Arc<dyn Fn() -> CostOwner + Send + Sync>);

impl CostAccount {
    /// An account whose owner may change.
    pub fn new(owner: impl Fn() -> CostOwner + Send + Sync + 'static) -> Self {
        Self(Arc::new(owner))
    }

    /// An account with a fixed owner.
    pub fn of(owner: CostOwner) -> Self {
        Self::new(move || owner)
    }

    /// The current owner.
    pub fn owner(&self) -> CostOwner {
        (self.0)()
    }
}

impl std::fmt::Debug for CostAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CostAccount").field(&self.owner()).finish()
    }
}

impl Costs {
    /// No usage yet; `answer_bytes` is the maximum size of a response.
    pub fn new(answer_bytes: usize) -> Self {
        Self(Arc::new(Inner { answer_bytes, usages: Mutex::default() }))
    }

    /// Starts a request, with nothing counted yet.
    pub fn request(&self, viewer: &Viewer) -> Arc<Request> {
        self.begin(CostAccount::of(CostOwner::of(viewer)), true, self.0.answer_bytes)
    }

    /// Starts an item of a subscription: like a request, but untimed, because it mostly waits.
    pub fn item(&self, account: &CostAccount) -> Arc<Request> {
        self.begin(account.clone(), false, self.0.answer_bytes)
    }

    fn begin(&self, account: CostAccount, timed: bool, answer_bytes: usize) -> Arc<Request> {
        Arc::new(Request {
            account,
            timed,
            answer_bytes,
            costs: self.clone(),
            held: Mutex::default(),
            read: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
            over: OnceLock::new(),
            undo: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Usages> {
        self.0.usages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owner_usage(&self, owner: CostOwner) -> OwnerUsage {
        let all = &mut self.lock().all;
        let org = all.entry(owner.org.uuid()).or_default().clone();
        // Work for an org alone gets a key usage of its own.
        let key = if owner.is_org() { Arc::default() } else { all.entry(owner.key).or_default().clone() };
        OwnerUsage { owner, key, org }
    }

    /// Deletes usages that are unused and owe nothing: a debt outlives the request that caused it.
    /// Entries kept for a debt are checked again later, a few each time.
    fn delete_expired(&self, owner: CostOwner) {
        let (now, cores) = (Instant::now(), execution_time::cores() * limits::LIVE_OF_KEY);
        let mut usages = self.lock();
        let again: Vec<Uuid> = (0..2).filter_map(|_| usages.owing.pop_front()).collect();
        for id in &again {
            usages.all.get(id).inspect(|usage| usage.owes.store(false, Ordering::Relaxed));
        }
        for id in again.into_iter().chain([owner.key, owner.org.uuid()]) {
            let Some(usage) = usages.all.get(&id).filter(|usage| Arc::strong_count(usage) == 1) else { continue };
            let owes = usage.live.lock().unwrap_or_else(PoisonError::into_inner).owes(now, cores);
            if !owes {
                usages.all.remove(&id);
            } else if !usage.owes.swap(true, Ordering::Relaxed) {
                usages.owing.push_back(id);
            }
        }
    }

    /// Number of usages in memory.
    pub fn usage_count(&self) -> usize {
        self.lock().all.len()
    }
}

/// One request, or one item of a subscription, while it is executed and its response written.
#[derive(Debug)]
pub struct Request {
    account: CostAccount,
    /// True if its total time is bounded.
    pub timed: bool,
    /// Maximum size of its response in bytes.
    answer_bytes: usize,
    costs: Costs,
    held: Mutex<Option<Held>>,
    /// Bytes of rows read for it.
    read: AtomicUsize,
    /// Bytes of the values that its response consists of.
    made: AtomicUsize,
    /// The rejection that ended it.
    over: OnceLock<Refusal>,
    undo: Mutex<Undo>,
}

/// The bytes that a request holds, and their owner.
#[derive(Debug)]
struct Held {
    owner_usage: OwnerUsage,
    bytes: usize,
    /// Part of them that is in the org's reserve.
    reserved: usize,
}

/// Compensating actions for the case that the response can't be delivered.
#[derive(Default)]
struct Undo(Vec<BoxFuture<'static, ()>>);

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Undo").field(&self.0.len()).finish()
    }
}

impl Request {
    /// The current owner of its costs.
    pub fn owner(&self) -> CostOwner {
        self.account.owner()
    }

    /// A part of it, as a request of its own with a smaller bound: it can end while this one
    /// continues.
    pub fn part(&self, answer_bytes: usize) -> Arc<Self> {
        self.costs.begin(CostAccount::of(self.owner()), self.timed, answer_bytes.min(self.answer_bytes))
    }

    /// Registers a compensating action for the case that the response can't be delivered.
    pub fn on_undelivered(&self, undo: BoxFuture<'static, ()>) {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner).0.push(undo);
    }

    /// Runs the compensating actions.
    pub async fn undo(&self) {
        let all = std::mem::take(&mut self.undo.lock().unwrap_or_else(PoisonError::into_inner).0);
        for one in all {
            one.await;
        }
    }

    /// Maximum size of its response in bytes.
    pub fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// Approximate size of the response so far in bytes.
    pub fn response_bytes(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// The rejection that ended it; none while it may continue.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.over.get()
    }

    /// Ends it; returns the rejection that ended it first.
    pub fn end(&self, refusal: Refusal) -> Refusal {
        self.over.get_or_init(|| refusal).clone()
    }

    /// Counts the memory of its document and variables; small ones are free. Errors:
    /// LIMIT_EXCEEDED if its key or org uses too much; the request is over then.
    pub fn hold_input(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes <= limits::INPUT_FREE_BYTES { Ok(()) } else { self.hold(bytes) }
    }

    /// Counts fields of a node that is about to be resolved. Errors: LIMIT_EXCEEDED if the request
    /// is over, or its key or org uses too much memory.
    pub fn count_fields(&self, fields: usize) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal.clone());
        }
        self.hold(fields.saturating_mul(limits::FIELD_BYTES))
    }

    /// Counts bytes of a row that was read. Errors: LIMIT_EXCEEDED if that is too much; the request
    /// is over then.
    pub fn read(&self, bytes: usize) -> Result<(), Refusal> {
        let read = self.read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.hold(bytes)?;
        let most = self.answer_bytes().saturating_mul(limits::READ_PER_ANSWER);
        if read > most {
            return Err(self.end(too_much(format!("the request reads more than {most} bytes of rows"))));
        }
        Ok(())
    }

    /// Counts bytes of values made for the response. Errors: LIMIT_EXCEEDED if that is too much;
    /// the request is over then. The exact bound is enforced when the response is written: a value
    /// may be counted again within another one.
    pub fn count_response_bytes(&self, bytes: usize) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal.clone());
        }
        if bytes == 0 {
            return Ok(());
        }
        let made = self.made.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.hold(bytes)?;
        if made > self.answer_bytes().saturating_mul(limits::MADE_PER_ANSWER) {
            return Err(self.end(self.too_large()));
        }
        Ok(())
    }

    /// The rejection of a response that is too large.
    pub fn too_large(&self) -> Refusal {
        too_much(format!("the answer would be larger than {} bytes", self.answer_bytes()))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(held) = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.costs.release(held);
        }
    }
}

/// Runs work for a request: its reads and values are counted.
pub async fn within<F: Future>(request: Arc<Request>, work: F) -> F::Output {
    REQUEST.scope(request, work).await
}

/// The request that the current task works for; none for the engine and other internal work.
pub fn current() -> Option<Arc<Request>> {
    REQUEST.try_with(Arc::clone).ok()
}

/// The rejection that ended the current request.
pub fn refusal() -> Option<Refusal> {
    REQUEST.try_with(|request| request.refusal().cloned()).ok().flatten()
}

/// Counts bytes of values made for the current request's response; does nothing without a request.
/// Errors: LIMIT_EXCEEDED.
pub fn count_response_bytes(bytes: usize) -> Result<(), Refusal> {
    REQUEST.try_with(|request| request.count_response_bytes(bytes)).unwrap_or(Ok(()))
}

/// Counts fields of a node of the current request's response before they are resolved; does nothing
/// without a request. Errors: LIMIT_EXCEEDED.
pub fn count_fields(fields: usize) -> Result<(), Refusal> {
    REQUEST.try_with(|request| request.count_fields(fields)).unwrap_or(Ok(()))
}

/// The rejection of a request for too much at once (LIMIT_EXCEEDED).
fn too_much(problem: String) -> Refusal {
    let message = format!("{problem}: request fewer nodes (`first`) or fewer fields, or split the request");
    Refusal::limit(message).with("reason", json!("TOO_MUCH"))
}

/// The rejection of work that would succeed a little later (LIMIT_EXCEEDED, with
/// `retryAfterSeconds`).
pub fn busy(problem: String) -> Refusal {
    let seconds = limits::RETRY_AFTER.as_secs();
    let message = format!("{problem}: retry in {seconds} s, and request less at once");
    Refusal::limit(message).with("reason", json!("BUSY")).with("retryAfterSeconds", json!(seconds))
}
