//! The cost of one request: the rows that it reads, the answer that it makes, and what its key and org hold at once.
//!
//! Whatever runs for a request finds it in the task: statements and texts are counted where they are read and made, not
//! when the answer is whole. A request that passes a bound is over: its statements end, and it is answered by one error.

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

tokio::task_local! {
    static REQUEST: Arc<Request>;
}

/// The key and the org that a request is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CostOwner {
    /// The org.
    pub org: OrgId,
    /// The key's id; the member's for a token, and in development mode.
    pub key: Uuid,
}

impl CostOwner {
    /// An org, for what is done for several of its keys: it is counted for the org alone.
    pub fn of_org(org: OrgId) -> Self {
        Self { org, key: org.uuid() }
    }

    /// True if it is an org, and none of its keys.
    pub fn is_org(&self) -> bool {
        self.key == self.org.uuid()
    }

    /// The asker that a viewer is.
    pub fn of(viewer: &Viewer) -> Self {
        let member = || viewer.member_id().map_or(viewer.org_id.uuid(), Id::uuid);
        Self { org: viewer.org_id, key: viewer.api_key_id.map_or_else(member, Id::uuid) }
    }
}

/// What all requests of this process cost at the moment. Clones are the same.
#[derive(Clone, Debug)]
pub struct Costs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    answer_bytes: usize,
    purses: Mutex<Usages>,
}

#[derive(Debug, Default)]
struct Usages {
    /// By key, and by org.
    all: HashMap<Uuid, Arc<Usage>>,
    /// Purses that nobody holds, and that owe something yet.
    owing: VecDeque<Uuid>,
}

/// What a key, or an org, holds at the moment.
#[derive(Debug, Default)]
struct Usage {
    /// Bytes of rows and answers.
    bytes: AtomicUsize,
    /// The time of its live executions.
    live: Mutex<execution_time::TimeUsed>,
    /// Set while it is among those that owe.
    owes: AtomicBool,
}

/// Whoever pays, with the purses of the key and of the org.
#[derive(Clone, Debug)]
struct Account {
    asker: CostOwner,
    key: Arc<Usage>,
    org: Arc<Usage>,
}

/// Says whom something is counted for; that may change while it runs.
#[derive(Clone)]
pub struct CostAccount(Arc<dyn Fn() -> CostOwner + Send + Sync>);

impl CostAccount {
    /// One who may become another.
    pub fn new(asker: impl Fn() -> CostOwner + Send + Sync + 'static) -> Self {
        Self(Arc::new(asker))
    }

    /// One who stays.
    pub fn of(asker: CostOwner) -> Self {
        Self::new(move || asker)
    }

    /// The one at the moment.
    pub fn asker(&self) -> CostOwner {
        (self.0)()
    }
}

impl std::fmt::Debug for CostAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Payer").field(&self.asker()).finish()
    }
}

impl Costs {
    /// None yet; an answer may have so many bytes.
    pub fn new(answer_bytes: usize) -> Self {
        Self(Arc::new(Inner { answer_bytes, purses: Mutex::default() }))
    }

    /// A request, with nothing counted yet.
    pub fn request(&self, viewer: &Viewer) -> Arc<Request> {
        self.begin(CostAccount::of(CostOwner::of(viewer)), true, self.0.answer_bytes)
    }

    /// One item of a subscription: as a request, but for its time, most of which is waiting.
    pub fn item(&self, payer: &CostAccount) -> Arc<Request> {
        self.begin(payer.clone(), false, self.0.answer_bytes)
    }

    fn begin(&self, payer: CostAccount, timed: bool, answer_bytes: usize) -> Arc<Request> {
        Arc::new(Request {
            payer,
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
        self.0.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paying(&self, asker: CostOwner) -> Account {
        let all = &mut self.lock().all;
        let org = all.entry(asker.org.uuid()).or_default().clone();
        // Of an org alone, each has one of its own beside it.
        let key = if asker.is_org() { Arc::default() } else { all.entry(asker.key).or_default().clone() };
        Account { asker, key, org }
    }

    /// Lets purses go that nobody holds any more and that owe nothing: a debt outlasts who made it. Those that were kept for
    /// one are looked at again, a few each time.
    fn delete_expired(&self, asker: CostOwner) {
        let (now, cores) = (Instant::now(), execution_time::cores() * limits::LIVE_OF_KEY);
        let mut purses = self.lock();
        let again: Vec<Uuid> = (0..2).filter_map(|_| purses.owing.pop_front()).collect();
        for id in &again {
            purses.all.get(id).inspect(|purse| purse.owes.store(false, Ordering::Relaxed));
        }
        for id in again.into_iter().chain([asker.key, asker.org.uuid()]) {
            let Some(purse) = purses.all.get(&id).filter(|purse| Arc::strong_count(purse) == 1) else { continue };
            let owes = purse.live.lock().unwrap_or_else(PoisonError::into_inner).owes(now, cores);
            if !owes {
                purses.all.remove(&id);
            } else if !purse.owes.swap(true, Ordering::Relaxed) {
                purses.owing.push_back(id);
            }
        }
    }

    /// Lets go what was held.
    fn let_go(&self, held: Held) {
        for purse in [&held.paying.key, &held.paying.org] {
            purse.bytes.fetch_sub(held.bytes, Ordering::Relaxed);
        }
        let asker = held.paying.asker;
        drop(held);
        self.delete_expired(asker);
    }

    /// The number of purses that are kept.
    pub fn kept(&self) -> usize {
        self.lock().all.len()
    }
}

/// One request, or one item of a subscription, while it is executed and written.
#[derive(Debug)]
pub struct Request {
    payer: CostAccount,
    /// True if its time is bounded as a whole.
    pub timed: bool,
    /// The bound of its answer, in bytes.
    answer_bytes: usize,
    costs: Costs,
    held: Mutex<Option<Held>>,
    /// Bytes of rows that were read for it.
    read: AtomicUsize,
    /// Bytes of the values that its answer is made of.
    made: AtomicUsize,
    /// Why it was ended.
    over: OnceLock<Refusal>,
    undo: Mutex<Undo>,
}

/// The bytes that a request holds, and whoever pays for them.
#[derive(Debug)]
struct Held {
    paying: Account,
    bytes: usize,
}

/// Work to be undone where the answer can't be told.
#[derive(Default)]
struct Undo(Vec<BoxFuture<'static, ()>>);

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Undo").field(&self.0.len()).finish()
    }
}

impl Request {
    /// The one that it is counted for.
    pub fn asker(&self) -> CostOwner {
        self.payer.asker()
    }

    /// A part of it, as a request of its own with a smaller bound: it can be over, and this one goes on.
    pub fn part(&self, answer_bytes: usize) -> Arc<Self> {
        self.costs.begin(CostAccount::of(self.asker()), self.timed, answer_bytes.min(self.answer_bytes))
    }

    /// Has something undone where the answer can't be told.
    pub fn undone_by(&self, undo: BoxFuture<'static, ()>) {
        self.undo.lock().unwrap_or_else(PoisonError::into_inner).0.push(undo);
    }

    /// Undoes what is of use to nobody who has not got the answer.
    pub async fn undo(&self) {
        let all = std::mem::take(&mut self.undo.lock().unwrap_or_else(PoisonError::into_inner).0);
        for one in all {
            one.await;
        }
    }

    /// The bound of its answer, in bytes.
    pub fn answer_bytes(&self) -> usize {
        self.answer_bytes
    }

    /// The refusal that it ended with; none while it may go on.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.over.get()
    }

    /// Ends it, and returns the refusal that it ended with first.
    pub fn end(&self, refusal: Refusal) -> Refusal {
        self.over.get_or_init(|| refusal).clone()
    }

    /// Counts bytes of a row that was read. Errors: LIMIT_EXCEEDED where that is too much; the request is over then.
    pub fn read(&self, bytes: usize) -> Result<(), Refusal> {
        let read = self.read.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.hold(bytes)?;
        let most = self.answer_bytes().saturating_mul(limits::READ_PER_ANSWER);
        if read > most {
            return Err(self.end(too_much(format!("the request reads more than {most} bytes of rows"))));
        }
        Ok(())
    }

    /// Counts bytes of values that were made for the answer. Errors: LIMIT_EXCEEDED where that is too much; the request is
    /// over then. The exact bound is held when the answer is written: a value may be counted again in what it is part of.
    pub fn made(&self, bytes: usize) -> Result<(), Refusal> {
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

    /// The refusal of an answer that is too large.
    pub fn too_large(&self) -> Refusal {
        too_much(format!("the answer would be larger than {} bytes", self.answer_bytes()))
    }

    /// Counts bytes for its key and its org, for as long as it is there.
    fn hold(&self, bytes: usize) -> Result<(), Refusal> {
        let answer = self.costs.0.answer_bytes;
        if bytes == 0 {
            return self.refusal().map_or(Ok(()), |refusal| Err(refusal.clone()));
        }
        let asker = self.payer.asker();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = held.take_if(|held| held.paying.asker != asker) {
            // Another pays by now: for all of it.
            let now = Held { paying: self.costs.paying(asker), bytes: before.bytes };
            for purse in [&now.paying.key, &now.paying.org] {
                purse.bytes.fetch_add(now.bytes, Ordering::Relaxed);
            }
            *held = Some(now);
            self.costs.let_go(before);
        }
        let held = held.get_or_insert_with(|| Held { paying: self.costs.paying(asker), bytes: 0 });
        held.bytes = held.bytes.saturating_add(bytes);
        let Account { key, org, .. } = &held.paying;
        for (purse, answers, whose) in [(key, limits::ANSWERS_PER_KEY, "key"), (org, limits::ANSWERS_PER_ORG, "org")] {
            let held = purse.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
            if held > answer.saturating_mul(answers) {
                let told = format!("the requests under way of this {whose} hold more than {answers} answers may have");
                self.end(busy(told));
            }
        }
        self.refusal().map_or(Ok(()), |refusal| Err(refusal.clone()))
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(held) = self.held.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.costs.let_go(held);
        }
    }
}

/// Runs something for a request: what it reads and makes is counted.
pub async fn within<F: Future>(request: Arc<Request>, work: F) -> F::Output {
    REQUEST.scope(request, work).await
}

/// The request that the current task works for; none for the engine, and whatever else is nobody's request.
pub fn current() -> Option<Arc<Request>> {
    REQUEST.try_with(Arc::clone).ok()
}

/// The refusal that the current request ended with.
pub fn refusal() -> Option<Refusal> {
    REQUEST.try_with(|request| request.refusal().cloned()).ok().flatten()
}

/// Counts bytes of values that are made for the current request's answer; nothing where there is no request. Errors:
/// LIMIT_EXCEEDED.
pub fn made(bytes: usize) -> Result<(), Refusal> {
    REQUEST.try_with(|request| request.made(bytes)).unwrap_or(Ok(()))
}

/// The refusal of what asks for too much at once: LIMIT_EXCEEDED.
fn too_much(what: String) -> Refusal {
    let most = format!("{what}: ask for fewer nodes (`first`), fewer fields, or in several requests");
    Refusal::limit(most).with("reason", json!("TOO_MUCH"))
}

/// The refusal of what would be served a little later: LIMIT_EXCEEDED, with `retryAfterSeconds`.
pub fn busy(what: String) -> Refusal {
    let seconds = limits::RETRY_AFTER.as_secs();
    let told = format!("{what}: ask again in {seconds} s, and for less at once");
    Refusal::limit(told).with("reason", json!("BUSY")).with("retryAfterSeconds", json!(seconds))
}
