//! Shares one execution and one serialisation among equal subscriptions: those with the same
//! document and variables, for the same org and role; if the result depends on the viewer, also for
//! the same member. Items are buffered for a while by log position, so that each subscriber reads
//! from its own position. A subscriber further back than the buffer gets an execution of its own
//! until it has caught up.
//!
//! The cost is charged to the subscribers' key as long as it is a single one. With several keys it
//! is charged to their org alone, so that other requests of one of them neither end nor slow the
//! others' streams.

mod normalize;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use async_graphql::parser::types::OperationType;
use entity::id::OrgId;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

pub use normalize::PERSONAL;
use normalize::{is_personal, normal};

use super::error::RequestError;
use super::execute::{Item, Payload, alone};
use super::parsed::Parsed;
use super::{Admitted, App, RequestContext};
use crate::graphql::stream::{COALESCED, LogScope};
use crate::kernel::cost::{CostAccount, CostOwner};
use crate::kernel::event::{self, cursor};
use crate::kernel::limits;

/// The hash of everything that is equal among subscriptions that share an execution.
type Key = [u8; 32];

/// The shared executions by key.
#[derive(Clone, Debug, Default)]
pub struct SharedSubscriptions(Arc<Mutex<HashMap<Key, Weak<SharedStream>>>>);

/// A shared execution, as its subscribers see it.
#[derive(Debug)]
struct SharedStream {
    buffer: RwLock<Buffer>,
    wake: watch::Sender<()>,
    org: OrgId,
    /// The API keys of its subscribers, with the number of subscriptions each.
    keys: Mutex<HashMap<Uuid, usize>>,
}

impl SharedStream {
    fn keys(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner that its cost is charged to.
    fn payer(&self) -> CostOwner {
        let keys = self.keys();
        match keys.keys().next() {
            Some(key) if keys.len() == 1 => CostOwner { org: self.org, key: *key },
            _ => CostOwner::of_org(self.org),
        }
    }
}

/// A subscription's membership in a shared stream, which ends on drop.
#[derive(Debug)]
struct Membership {
    shared: Arc<SharedStream>,
    key: Uuid,
    wake: watch::Receiver<()>,
}

impl Membership {
    fn new(shared: Arc<SharedStream>, key: Uuid, wake: watch::Receiver<()>) -> Self {
        *shared.keys().entry(key).or_default() += 1;
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
    }
}

/// The latest items of a shared execution.
#[derive(Debug)]
struct Buffer {
    /// The log position after which all items are in `items`.
    before: i64,
    items: VecDeque<(i64, Payload)>,
    /// Set when the execution has ended, with the reason if it failed.
    over: Option<Option<Ended>>,
    /// True if the newest item replaces all before it.
    coalesced: bool,
}

/// The error that ended an execution, and the owner that it was charged to.
type Ended = (RequestError, Option<CostOwner>);

/// The result of reading the buffer from a position.
enum Lookup {
    Items(VecDeque<(i64, Payload)>),
    /// Items up to this position are no longer buffered.
    More(i64),
    Over(Option<Ended>),
    Nothing,
}

impl Buffer {
    fn after(&self, position: i64) -> Lookup {
        let skip = self.items.partition_point(|(at, _)| *at <= position);
        let newest = || self.items.back().cloned().into_iter().collect();
        match &self.over {
            _ if self.coalesced && skip < self.items.len() => Lookup::Items(newest()),
            _ if position < self.before => Lookup::More(self.before),
            _ if skip < self.items.len() => Lookup::Items(self.items.range(skip..).cloned().collect()),
            Some(why) => Lookup::Over(why.clone()),
            None => Lookup::Nothing,
        }
    }

    fn push(&mut self, position: i64, item: Payload) {
        self.items.push_back((position, item));
        let capacity = if self.coalesced { 1 } else { limits::SHARED_KEPT };
        while self.items.len() > capacity {
            if let Some((removed, _)) = self.items.pop_front() {
                self.before = removed;
            }
        }
    }
}

impl SharedSubscriptions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<SharedStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the shared stream of a key, or starts one after the log's head.
    async fn join(&self, app: &App, share: &ShareKey) -> Result<Membership, RequestError> {
        // Subscribes under the lock, so that the stream does not end in between.
        let existing = |all: &HashMap<Key, Weak<SharedStream>>| {
            let shared = all.get(&share.key).and_then(Weak::upgrade)?;
            let wake = shared.wake.subscribe();
            Some(Membership::new(shared, share.owner.key, wake))
        };
        if let Some(found) = existing(&self.lock()) {
            return Ok(found);
        }
        let begin = event::head(&app.db, &share.again.viewer).await.map_err(RequestError::ours)?;
        let mut all = self.lock();
        // Another subscriber may have started it meanwhile.
        if let Some(found) = existing(&all) {
            return Ok(found);
        }
        let buffer = Buffer { before: begin, items: VecDeque::new(), over: None, coalesced: share.coalesced };
        let (org, keys) = (share.owner.org, Mutex::default());
        let shared = Arc::new(SharedStream { buffer: RwLock::new(buffer), wake: watch::Sender::new(()), org, keys });
        let wake = shared.wake.subscribe();
        let membership = Membership::new(shared.clone(), share.owner.key, wake);
        all.insert(share.key, Arc::downgrade(&shared));
        let (app, key, scope) = (app.clone(), share.key, LogScope::between(begin, None));
        let request = share.again.request(&app, &share.parsed).data(scope.clone());
        let paying = shared.clone();
        let items = alone(&app, request, &scope, CostAccount::new(move || paying.payer()));
        tokio::spawn(run(app, key, shared, items));
        Ok(membership)
    }
}

/// Executes a shared stream as long as it has subscribers.
async fn run(app: App, key: Key, shared: Arc<SharedStream>, mut items: BoxStream<'static, Item>) {
    loop {
        let item = tokio::select! {
            item = items.next() => item,
            () = shared.wake.closed() => {
                let mut all = app.crowds.lock();
                // A subscriber joined in the meantime; keep running.
                if shared.wake.receiver_count() > 0 {
                    continue;
                }
                all.remove(&key);
                return;
            }
        };
        let over = {
            let mut buffer = shared.buffer.write().unwrap_or_else(PoisonError::into_inner);
            match item {
                Some(Item { payload: Ok(payload), position: Some(position), .. }) => buffer.push(position, payload),
                Some(Item { payload: Err(error), held, .. }) => {
                    buffer.over = Some(Some((error, held.map(|cost| cost.owner()))));
                }
                Some(Item { payload: Ok(_), position: None, .. }) | None => buffer.over = Some(None),
            }
            buffer.over.is_some()
        };
        if over {
            // Later subscribers start another stream.
            app.crowds.lock().remove(&key);
        }
        shared.wake.send_replace(());
        if over {
            return;
        }
    }
}

/// The sharing data of a subscription: its key, and the parts to execute it.
#[derive(Debug)]
struct ShareKey {
    key: Key,
    coalesced: bool,
    parsed: Arc<Parsed>,
    again: RequestContext,
    owner: CostOwner,
}

impl ShareKey {
    /// The account of an execution of its own.
    fn payer(&self) -> CostAccount {
        CostAccount::of(self.owner)
    }
}

/// Executes a subscription, shared with equal ones if possible.
pub(super) fn items(app: &App, admitted: Admitted) -> BoxStream<'static, Item> {
    let Some((share, after)) = share_key(&admitted) else {
        let scope = admitted.resume.map_or_else(LogScope::default, |from| LogScope::between(from, None));
        let owner = admitted.cost.owner();
        return alone(app, admitted.request.data(scope.clone()), &scope, CostAccount::of(owner));
    };
    let after = admitted.resume.or(after);
    let first = (share.coalesced && after.is_none()).then(|| {
        let scope = LogScope::default();
        // The current state is the first item, which is not shared.
        (alone(app, admitted.request.data(scope.clone()), &scope, share.payer()), None)
    });
    let subscriber = Subscriber {
        app: app.clone(),
        share,
        position: after,
        membership: None,
        ready: VecDeque::new(),
        own: first,
        over: false,
    };
    stream::unfold(subscriber, |mut subscriber| async move { subscriber.next().await.map(|item| (item, subscriber)) })
        .boxed()
}

/// One subscriber of a shared stream.
struct Subscriber {
    app: App,
    share: ShareKey,
    /// The position of the last delivered item; `None` until the starting position is known.
    position: Option<i64>,
    membership: Option<Membership>,
    ready: VecDeque<(i64, Payload)>,
    /// An execution of its own, up to a position; without one, for a single item.
    own: Option<(BoxStream<'static, Item>, Option<i64>)>,
    over: bool,
}

impl Subscriber {
    async fn next(&mut self) -> Option<Item> {
        loop {
            if self.over {
                return None;
            }
            if let Some((position, payload)) = self.ready.pop_front() {
                let resume = self.position.replace(position);
                return Some(Item { payload: Ok(payload), position: Some(position), resume, held: None });
            }
            if let Some((own, until)) = &mut self.own {
                let item = own.next().await;
                if item.is_none() || until.is_none() {
                    self.position = self.position.max(*until);
                    self.own = None;
                }
                match item {
                    Some(item) => {
                        self.position = self.position.max(item.position);
                        self.over = item.payload.is_err() || item.position.is_none();
                        return Some(item);
                    }
                    None => continue,
                }
            }
            if let Err(error) = self.read().await {
                self.over = true;
                return Some(Item { payload: Err(error), position: None, resume: self.position, held: None });
            }
        }
    }

    /// Reads items from the shared stream, or waits for them.
    async fn read(&mut self) -> Result<(), RequestError> {
        let viewer = &self.share.again.viewer;
        let position = match self.position {
            Some(position) if self.membership.is_none() => {
                Box::pin(cursor::within(&self.app.db, viewer, "after", position)).await?;
                position
            }
            Some(position) => position,
            // Boxed, as are the other rare futures here: there are many subscribers, and they wait
            // long.
            None => Box::pin(event::head(&self.app.db, viewer)).await.map_err(RequestError::ours)?,
        };
        self.position = Some(position);
        let membership = match &mut self.membership {
            Some(membership) => membership,
            None => self.membership.insert(Box::pin(self.app.crowds.join(&self.app, &self.share)).await?),
        };
        membership.wake.mark_unchanged();
        let lookup = membership.shared.buffer.read().unwrap_or_else(PoisonError::into_inner).after(position);
        match lookup {
            Lookup::Items(items) => self.ready = items,
            Lookup::More(until) => {
                let scope = LogScope::between(position, Some(until));
                let request = self.share.again.request(&self.app, &self.share.parsed).data(scope.clone());
                self.own = Some((alone(&self.app, request, &scope, self.share.payer()), Some(until)));
            }
            Lookup::Over(None) => self.over = true,
            // Another key's exhausted quota does not end this subscription: it joins another
            // stream.
            Lookup::Over(Some((error, Some(payer))))
                if error.retry.is_some() && !payer.is_org() && payer.key != self.share.owner.key =>
            {
                self.membership = None;
            }
            Lookup::Over(Some((error, _))) => return Err(error),
            // A stream that vanished without an error is joined again.
            Lookup::Nothing => {
                if membership.wake.changed().await.is_err() {
                    self.membership = None;
                }
            }
        }
        Ok(())
    }
}

/// The sharing data of a subscription and its starting position; `None` if it can't be shared.
fn share_key(admitted: &Admitted) -> Option<(ShareKey, Option<i64>)> {
    let (again, root) = (admitted.again.as_ref()?, admitted.operation.roots.first()?);
    if admitted.operation.kind != OperationType::Subscription {
        return None;
    }
    let after = match root.after.as_ref() {
        None => None,
        _ if admitted.resume.is_some() => None,
        // The executor rejects an invalid cursor.
        Some(cursor) => Some(cursor::position_of(again.viewer.org_id, "after", cursor.as_str()?).ok()?),
    };
    let normal = normal(&admitted.parsed.text);
    // The variable that holds the cursor, if used for nothing else: declared once, and used once.
    let cursor = root.after_variable.as_deref().filter(|name| {
        let is_whole_name = |found: &(usize, &str)| {
            !normal[found.0 + found.1.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
        };
        normal.match_indices(&format!("${name}")).filter(is_whole_name).count() == 2
    });
    let variables: Vec<_> =
        again.checked.variables().iter().filter(|(name, _)| Some(name.as_str()) != cursor).collect();
    let (org, role) = (again.viewer.org_id, again.viewer.role);
    let actor = &again.viewer.actor;
    let personal = actor.agent_id.is_some() || is_personal(&normal) || is_personal(&json!(variables).to_string());
    let member = personal.then_some((actor.member_id, actor.agent_id));
    let parts = json!([normal, again.checked.operation_name(), variables, org, role, member]).to_string();
    let viewer = if personal { again.viewer.clone() } else { again.viewer.anybody() };
    let again = RequestContext { checked: again.checked.clone(), viewer };
    let coalesced = COALESCED.contains(&root.field.as_str());
    let key = Sha256::digest(parts.as_bytes()).into();
    Some((ShareKey { key, coalesced, parsed: admitted.parsed.clone(), again, owner: admitted.cost.owner() }, after))
}
