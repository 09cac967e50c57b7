//! The cost of one request: the rows that it reads, the answer that it makes, and what its key and org hold at once.
//!
//! Whatever runs for a request finds it in the task: statements and texts are counted where they are read and made, not
//! when the answer is whole. A request that passes a bound is over: its statements end, and it is answered by one error.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use entity::id::{Id, OrgId};
use serde_json::json;
use uuid::Uuid;

use crate::error::Refusal;
use crate::limits;
use crate::viewer::Viewer;

pub mod answer;
pub mod live;

tokio::task_local! {
    static REQUEST: Arc<Request>;
}

/// The key and the org that a request is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Asker {
    /// The org.
    pub org: OrgId,
    /// The key's id; the member's for a token, and in development mode.
    pub key: Uuid,
}

impl Asker {
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
    /// By key, and by org.
    purses: Mutex<HashMap<Uuid, Arc<Purse>>>,
}

/// What a key, or an org, holds at the moment.
#[derive(Debug, Default)]
struct Purse {
    /// Bytes of rows and answers.
    bytes: AtomicUsize,
    /// The time of its live executions.
    live: Mutex<live::Pace>,
}

impl Costs {
    /// None yet; an answer may have so many bytes.
    pub fn new(answer_bytes: usize) -> Self {
        Self(Arc::new(Inner { answer_bytes, purses: Mutex::default() }))
    }

    /// A request, with nothing counted yet.
    pub fn request(&self, viewer: &Viewer) -> Arc<Request> {
        self.begin(Asker::of(viewer), true)
    }

    /// One item of a subscription: as a request, but for its time, most of which is waiting.
    pub fn item(&self, asker: Asker) -> Arc<Request> {
        self.begin(asker, false)
    }

    fn begin(&self, asker: Asker, timed: bool) -> Arc<Request> {
        let (key, org) = self.purses(asker);
        Arc::new(Request {
            asker,
            timed,
            costs: self.clone(),
            key,
            org,
            read: AtomicUsize::new(0),
            made: AtomicUsize::new(0),
            over: OnceLock::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Purse>>> {
        self.0.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn purses(&self, asker: Asker) -> (Arc<Purse>, Arc<Purse>) {
        let mut all = self.lock();
        let key = all.entry(asker.key).or_default().clone();
        (key, all.entry(asker.org.uuid()).or_default().clone())
    }

    /// Lets purses go that nobody holds any more.
    fn forget(&self, asker: Asker) {
        let mut all = self.lock();
        for id in [asker.key, asker.org.uuid()] {
            if all.get(&id).is_some_and(|purse| Arc::strong_count(purse) == 1) {
                all.remove(&id);
            }
        }
    }
}

/// One request, or one item of a subscription, while it is executed and written.
#[derive(Debug)]
pub struct Request {
    /// Whom it is counted for.
    pub asker: Asker,
    /// True if its time is bounded as a whole.
    pub timed: bool,
    costs: Costs,
    key: Arc<Purse>,
    org: Arc<Purse>,
    /// Bytes of rows that were read for it.
    read: AtomicUsize,
    /// Bytes of the values that its answer is made of.
    made: AtomicUsize,
    /// Why it was ended.
    over: OnceLock<Refusal>,
}

impl Request {
    /// The bound of its answer, in bytes.
    pub fn answer_bytes(&self) -> usize {
        self.costs.0.answer_bytes
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
        let answer = self.answer_bytes();
        for (purse, answers, whose) in
            [(&self.key, limits::ANSWERS_PER_KEY, "key"), (&self.org, limits::ANSWERS_PER_ORG, "org")]
        {
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
        let held = self.read.load(Ordering::Relaxed).saturating_add(self.made.load(Ordering::Relaxed));
        for purse in [&self.key, &self.org] {
            purse.bytes.fetch_sub(held, Ordering::Relaxed);
        }
        // Not while there are others of them: most often the next request finds them again.
        if Arc::strong_count(&self.key) == 2 {
            let gone = (std::mem::take(&mut self.key), std::mem::take(&mut self.org));
            drop(gone);
            self.costs.forget(self.asker);
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
