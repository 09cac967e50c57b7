//! Shares one execution and one serialisation among equal subscriptions: those with the same
//! document and variables, for the same org and role; if the result depends on the viewer, also for
//! the same member. Items are buffered for a while by log position, so that each subscriber reads
//! from its own position; they count as the execution's until the last reader has them. A
//! subscriber further back than the buffer gets an execution of its own
//! until it has caught up.
//!
//! The items of a live list build on each other. A subscriber therefore begins with a snapshot that
//! the shared execution itself made: it waits with the items after it, and is made again when a new
//! subscriber needs a newer one. A subscriber further back than the buffer begins anew.
//!
//! The cost is charged to the subscribers' key as long as it is a single one. With several keys it
//! is charged to their org alone, so that other requests of one of them neither end nor slow the
//! others' streams.

mod buffer;
mod membership;
mod normalize;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};

use async_graphql::parser::types::OperationType;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use buffer::{Buffer, Lookup, SharedItem};
use membership::{Membership, SharedStream};
pub use normalize::PERSONAL;
use normalize::{is_personal, normal};

use super::error::RequestError;
use super::execute::{Item, alone};
use super::parsed::Parsed;
use super::{Admitted, App, RequestParts};
use crate::graphql::stream::{LogScope, StreamKind};
use crate::kernel::cost::{self, CostAccount, CostOwner};
use crate::kernel::event::{self, cursor};
use crate::kernel::{large, limits};

/// The hash of everything that is equal among subscriptions that share an execution.
type Key = [u8; 32];

/// The shared executions by key.
#[derive(Clone, Debug, Default)]
pub struct SharedSubscriptions(Arc<Mutex<HashMap<Key, Weak<SharedStream>>>>);

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
        let begin = event::head(&app.db, &share.parts.viewer).await.map_err(RequestError::internal)?;
        let mut all = self.lock();
        // Another subscriber may have started it meanwhile.
        if let Some(found) = existing(&all) {
            return Ok(found);
        }
        let buffer = Buffer::new(begin, share.kind);
        let scope = LogScope::between(begin, None);
        let (org, keys) = (share.owner.org, Mutex::default());
        let (parsed, checked) = (share.parsed.clone(), share.parts.checked.clone());
        let (buffer, wake, input) = (RwLock::new(buffer), watch::Sender::new(()), OnceLock::new());
        let shared = Arc::new(SharedStream { buffer, wake, scope: scope.clone(), org, keys, parsed, checked, input });
        let wake = shared.wake.subscribe();
        let membership = Membership::new(shared.clone(), share.owner.key, wake);
        // Weak, because the stream has the costs, and these their account.
        let paying = Arc::downgrade(&shared);
        let payer = move || paying.upgrade().map_or(CostOwner::of_org(org), |stream| stream.payer());
        let account = CostAccount::new(payer);
        let input = app.costs.item(&account);
        // The stream's own variables, and the executor's copy.
        let variables = share.parts.checked.bytes().saturating_mul(2);
        let bytes = share.parsed.weight_in_stream().saturating_add(variables);
        shared.input.get_or_init(|| input).hold_input(bytes)?;
        all.insert(share.key, Arc::downgrade(&shared));
        let (app, key) = (app.clone(), share.key);
        let request = share.parts.request(&app, &share.parsed);
        let items = alone(&app, request, &scope, account);
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
                let mut all = app.shared_subscriptions.lock();
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
            match item.map(kept) {
                Some(Item { payload: Ok(payload), position: Some(position), held, snapshot, .. }) => {
                    let item = SharedItem { position, number: 0, payload, held };
                    if snapshot { buffer.set_snapshot(item) } else { buffer.push(item) }
                }
                Some(Item { payload: Err(error), held, .. }) => {
                    buffer.over = Some(Some((error, held.map(|cost| cost.owner()))));
                }
                Some(Item { payload: Ok(_), position: None, .. }) | None => buffer.over = Some(None),
            }
            buffer.over.is_some()
        };
        if over {
            // Later subscribers start another stream.
            app.shared_subscriptions.lock().remove(&key);
        }
        shared.wake.send_replace(());
        if over {
            return;
        }
    }
}

/// An item whose text alone is counted from now on; an error if that is too much.
fn kept(mut item: Item) -> Item {
    if let (Ok(payload), Some(held)) = (&item.payload, &item.held)
        && let Err(refusal) = held.keep_text(payload.len())
    {
        item.payload = Err(refusal.into());
    }
    item
}

/// The sharing data of a subscription: its key, and the parts to execute it.
#[derive(Debug)]
struct ShareKey {
    key: Key,
    kind: StreamKind,
    parsed: Arc<Parsed>,
    parts: RequestParts,
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
    let variables = admitted.parts.as_ref().map_or(0, |parts| parts.checked.bytes());
    if variables < limits::LARGE_BYTES {
        let share = share_key(&admitted);
        return begin(app, admitted, share);
    }
    let app = app.clone();
    // The key is made of large variables.
    let begun = async move {
        let share = large::run(variables, || share_key(&admitted)).await;
        begin(&app, admitted, share)
    };
    stream::once(begun).flatten().boxed()
}

/// Begins the items of a subscription, shared with equal ones if it has a key.
fn begin(app: &App, admitted: Admitted, share: Option<(ShareKey, Option<i64>)>) -> BoxStream<'static, Item> {
    let Some((share, after)) = share else {
        let scope = admitted.resume.map_or_else(LogScope::default, |from| LogScope::between(from, None));
        let owner = admitted.cost.owner();
        return alone(app, admitted.request, &scope, CostAccount::of(owner));
    };
    let after = admitted.resume.or(after);
    let first = (share.kind == StreamKind::Newest && after.is_none()).then(|| {
        let scope = LogScope::default();
        // The current state is the first item, which is not shared.
        (alone(app, admitted.request, &scope, share.payer()), None)
    });
    let (app, input) = (app.clone(), admitted.cost);
    let subscriber = Subscriber {
        app,
        share,
        input,
        position: after,
        number: None,
        membership: None,
        own: first,
        snapshot_from: None,
        over: false,
    };
    stream::unfold(subscriber, |mut subscriber| async move { subscriber.next().await.map(|item| (item, subscriber)) })
        .boxed()
}

/// One subscriber of a shared stream.
struct Subscriber {
    app: App,
    share: ShareKey,
    /// The memory of its document, until it shares another's, and of its variables.
    input: Arc<cost::Request>,
    /// The position of the last delivered item; `None` until the starting position is known.
    position: Option<i64>,
    /// The number of the last delivered item of a list in the shared stream; `None` before.
    number: Option<u64>,
    membership: Option<Membership>,
    /// An execution of its own, up to a position; without one, for a single item.
    own: Option<(BoxStream<'static, Item>, Option<i64>)>,
    /// The position that the snapshot must have reached with which a list begins; `None` once it
    /// has begun, and for other streams.
    snapshot_from: Option<i64>,
    over: bool,
}

impl Subscriber {
    async fn next(&mut self) -> Option<Item> {
        loop {
            if self.over {
                return None;
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
            match self.read().await {
                Ok(None) => {}
                Ok(Some(SharedItem { position, number, payload, held })) => {
                    self.number = (self.share.kind == StreamKind::List).then_some(number);
                    let resume = self.position.replace(position);
                    let payload = Ok(payload);
                    return Some(Item {
                        payload,
                        position: Some(position),
                        resume,
                        held,
                        shared: true,
                        snapshot: false,
                    });
                }
                Err(error) => {
                    self.over = true;
                    return Some(Item::failed(error, self.position));
                }
            }
        }
    }

    /// Reads the next item from the shared stream, or waits for it.
    async fn read(&mut self) -> Result<Option<SharedItem>, RequestError> {
        let viewer = &self.share.parts.viewer;
        let is_new = self.position.is_none();
        let position = match self.position {
            Some(position) if self.membership.is_none() => {
                Box::pin(cursor::within(&self.app.db, viewer, "after", position)).await?;
                position
            }
            Some(position) => position,
            // Boxed, as are the other rare futures here: there are many subscribers, and they wait
            // long.
            None => Box::pin(event::head(&self.app.db, viewer)).await.map_err(RequestError::internal)?,
        };
        self.position = Some(position);
        let membership = match &mut self.membership {
            Some(membership) => membership,
            None => {
                let is_list = self.share.kind == StreamKind::List;
                // A list begins as new as a query's answer would be.
                self.snapshot_from = match is_list {
                    true if is_new => Some(position),
                    true => Some(Box::pin(event::head(&self.app.db, viewer)).await.map_err(RequestError::internal)?),
                    false => None,
                };
                let joined = Box::pin(self.app.shared_subscriptions.join(&self.app, &self.share)).await?;
                // Its own are not kept: the document may be as long, and have other comments only.
                self.share.parsed = joined.shared.parsed.clone();
                self.share.parts.checked = joined.shared.checked.clone();
                self.input.shrink_input(self.share.parts.checked.bytes());
                self.membership.insert(joined)
            }
        };
        membership.wake.mark_unchanged();
        let lookup = {
            let buffer = membership.shared.buffer.read().unwrap_or_else(PoisonError::into_inner);
            self.snapshot_from.map_or_else(|| buffer.after(position, self.number), |from| buffer.snapshot(from))
        };
        match lookup {
            Lookup::Item(item) => {
                self.snapshot_from = None;
                return Ok(Some(item));
            }
            // Its items can't be made again: their changes were computed from what was read then.
            Lookup::More(until) if self.share.kind == StreamKind::List => self.snapshot_from = Some(until),
            Lookup::More(until) => {
                let scope = LogScope::between(position, Some(until));
                // The executor's copy of both, as long as this lasts.
                let copy = self.app.costs.item(&self.share.payer());
                copy.hold_input(self.share.parsed.weight().saturating_add(self.share.parts.checked.bytes()))?;
                let request = self.share.parts.request(&self.app, &self.share.parsed);
                let counted = move |item| {
                    let _ = &copy;
                    item
                };
                let items = alone(&self.app, request, &scope, self.share.payer()).map(counted).boxed();
                self.own = Some((items, Some(until)));
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
                if let Some(from) = self.snapshot_from {
                    membership.shared.scope.request_snapshot(from);
                }
                if membership.wake.changed().await.is_err() {
                    self.membership = None;
                }
            }
        }
        Ok(None)
    }
}

/// The position that a subscription names as its start; `None` without one.
pub(super) fn starting_position(admitted: &Admitted) -> Option<i64> {
    let after = || {
        let cursor = admitted.operation.roots.first()?.after.as_ref()?.as_str()?;
        cursor::position_of(admitted.org_id, "after", cursor).ok()
    };
    admitted.resume.or_else(after)
}

/// The sharing data of a subscription and its starting position; `None` if it can't be shared.
fn share_key(admitted: &Admitted) -> Option<(ShareKey, Option<i64>)> {
    let (parts, root) = (admitted.parts.as_ref()?, admitted.operation.roots.first()?);
    if admitted.operation.kind != OperationType::Subscription {
        return None;
    }
    let after = match root.after.as_ref() {
        None => None,
        _ if admitted.resume.is_some() => None,
        // The executor rejects an invalid cursor.
        Some(cursor) => Some(cursor::position_of(parts.viewer.org_id, "after", cursor.as_str()?).ok()?),
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
        parts.checked.variables().iter().filter(|(name, _)| Some(name.as_str()) != cursor).collect();
    let (org, role) = (parts.viewer.org_id, parts.viewer.role);
    let actor = &parts.viewer.actor;
    let personal = actor.agent_id.is_some() || is_personal(&normal) || is_personal(&json!(variables).to_string());
    let member = personal.then_some((actor.member_id, actor.agent_id));
    let identity = json!([normal, parts.checked.operation_name(), variables, org, role, member]).to_string();
    let viewer = if personal { parts.viewer.clone() } else { parts.viewer.anybody() };
    let parts = RequestParts { checked: parts.checked.clone(), viewer };
    let kind = StreamKind::of(&root.field);
    let key = Sha256::digest(identity.as_bytes()).into();
    Some((ShareKey { key, kind, parsed: admitted.parsed.clone(), parts, owner: admitted.cost.owner() }, after))
}
