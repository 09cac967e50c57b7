//! Like subscriptions share one execution and one serialisation: those of the same document and variables, for the same org
//! and role; where an answer is about the one who asks, also for the same member. What came is kept for a while by its position in the log, so that each follower takes what lies behind its own
//! place; who is further back is told by an execution of its own, until it has come to where the shared one began.
//!
//! It is counted for its followers' key as long as that is one; where several follow, for their org alone, so that what one
//! of them does besides neither ends nor slows the others' streams.

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

/// What is the same for subscriptions that share an execution.
type Key = [u8; 32];

/// The executions that are shared.
#[derive(Clone, Debug, Default)]
pub struct SharedSubscriptions(Arc<Mutex<HashMap<Key, Weak<SharedStream>>>>);

/// One shared execution, as its followers see it.
#[derive(Debug)]
struct SharedStream {
    heard: RwLock<Buffer>,
    wake: watch::Sender<()>,
    org: OrgId,
    /// The keys that follow it, and by how many subscriptions each.
    keys: Mutex<HashMap<Uuid, usize>>,
}

impl SharedStream {
    fn keys(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The asker that it is counted for.
    fn payer(&self) -> CostOwner {
        let keys = self.keys();
        match keys.keys().next() {
            Some(key) if keys.len() == 1 => CostOwner { org: self.org, key: *key },
            _ => CostOwner::of_org(self.org),
        }
    }
}

/// One subscription in a crowd, for as long as it follows.
#[derive(Debug)]
struct Membership {
    crowd: Arc<SharedStream>,
    key: Uuid,
    wake: watch::Receiver<()>,
}

impl Membership {
    fn new(crowd: Arc<SharedStream>, key: Uuid, wake: watch::Receiver<()>) -> Self {
        *crowd.keys().entry(key).or_default() += 1;
        Self { crowd, key, wake }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut keys = self.crowd.keys();
        if let Some(count) = keys.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

/// What came of it lately.
#[derive(Debug)]
struct Buffer {
    /// All that came behind this position is in `items`.
    before: i64,
    items: VecDeque<(i64, Payload)>,
    /// That nothing more will come; why, and whom it was counted for, where something went wrong.
    over: Option<Option<Ended>>,
    /// Whether the newest item stands for all before it.
    coalesced: bool,
}

/// Why an execution ended, and whom it was counted for.
type Ended = (RequestError, Option<CostOwner>);

/// What there is behind a position.
enum Lookup {
    Items(VecDeque<(i64, Payload)>),
    /// More than is kept, up to this position.
    More(i64),
    Over(Option<Ended>),
    Nothing,
}

impl Buffer {
    fn behind(&self, position: i64) -> Lookup {
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
        let kept = if self.coalesced { 1 } else { limits::SHARED_KEPT };
        while self.items.len() > kept {
            if let Some((gone, _)) = self.items.pop_front() {
                self.before = gone;
            }
        }
    }
}

impl SharedSubscriptions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<SharedStream>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The crowd of a key; begun behind the log's head, where there is none.
    async fn join(&self, app: &App, like: &ShareKey) -> Result<Membership, RequestError> {
        // Subscribed under the lock: it does not end between.
        let there = |all: &HashMap<Key, Weak<SharedStream>>| {
            let crowd = all.get(&like.key).and_then(Weak::upgrade)?;
            let wake = crowd.wake.subscribe();
            Some(Membership::new(crowd, like.asker.key, wake))
        };
        if let Some(found) = there(&self.lock()) {
            return Ok(found);
        }
        let begin = event::head(&app.db, &like.again.viewer).await.map_err(RequestError::ours)?;
        let mut all = self.lock();
        // Another may have been quicker.
        if let Some(found) = there(&all) {
            return Ok(found);
        }
        let heard = Buffer { before: begin, items: VecDeque::new(), over: None, coalesced: like.coalesced };
        let (org, keys) = (like.asker.org, Mutex::default());
        let crowd = Arc::new(SharedStream { heard: RwLock::new(heard), wake: watch::Sender::new(()), org, keys });
        let wake = crowd.wake.subscribe();
        let follows = Membership::new(crowd.clone(), like.asker.key, wake);
        all.insert(like.key, Arc::downgrade(&crowd));
        let (app, key, place) = (app.clone(), like.key, LogScope::between(begin, None));
        let request = like.again.request(&app, &like.parsed).data(place.clone());
        let paying = crowd.clone();
        let items = alone(&app, request, &place, CostAccount::new(move || paying.payer()));
        tokio::spawn(run(app, key, crowd, items));
        Ok(follows)
    }
}

/// Executes for a crowd, as long as there is one.
async fn run(app: App, key: Key, crowd: Arc<SharedStream>, mut items: BoxStream<'static, Item>) {
    loop {
        let item = tokio::select! {
            item = items.next() => item,
            () = crowd.wake.closed() => {
                let mut all = app.crowds.lock();
                // Who joined meanwhile is gone on for.
                if crowd.wake.receiver_count() > 0 {
                    continue;
                }
                all.remove(&key);
                return;
            }
        };
        let over = {
            let mut heard = crowd.heard.write().unwrap_or_else(PoisonError::into_inner);
            match item {
                Some(Item { payload: Ok(payload), position: Some(position), .. }) => heard.push(position, payload),
                Some(Item { payload: Err(why), held, .. }) => {
                    heard.over = Some(Some((why, held.map(|cost| cost.asker()))));
                }
                Some(Item { payload: Ok(_), position: None, .. }) | None => heard.over = Some(None),
            }
            heard.over.is_some()
        };
        if over {
            // Who comes from now on begins another.
            app.crowds.lock().remove(&key);
        }
        crowd.wake.send_replace(());
        if over {
            return;
        }
    }
}

/// A subscription that may share its execution.
#[derive(Debug)]
struct ShareKey {
    key: Key,
    coalesced: bool,
    parsed: Arc<Parsed>,
    again: RequestContext,
    asker: CostOwner,
}

impl ShareKey {
    /// The payer of an execution of its own.
    fn payer(&self) -> CostAccount {
        CostAccount::of(self.asker)
    }
}

/// Executes a subscription, together with those that are like it.
pub(super) fn items(app: &App, admitted: Admitted) -> BoxStream<'static, Item> {
    let Some((like, after)) = like(&admitted) else {
        let place = admitted.resume.map_or_else(LogScope::default, |from| LogScope::between(from, None));
        let asker = admitted.cost.asker();
        return alone(app, admitted.request.data(place.clone()), &place, CostAccount::of(asker));
    };
    let after = admitted.resume.or(after);
    let first = (like.coalesced && after.is_none()).then(|| {
        let place = LogScope::default();
        // What stands now comes first, and is nobody else's.
        (alone(app, admitted.request.data(place.clone()), &place, like.payer()), None)
    });
    let follower = Follower {
        app: app.clone(),
        like,
        position: after,
        crowd: None,
        ready: VecDeque::new(),
        own: first,
        over: false,
    };
    stream::unfold(follower, |mut follower| async move { follower.next().await.map(|item| (item, follower)) }).boxed()
}

/// One follower of a crowd.
struct Follower {
    app: App,
    like: ShareKey,
    /// Behind what it has been told; none before it is known where it begins.
    position: Option<i64>,
    crowd: Option<Membership>,
    ready: VecDeque<(i64, Payload)>,
    /// An execution of its own, up to a position; none: for one item.
    own: Option<(BoxStream<'static, Item>, Option<i64>)>,
    over: bool,
}

impl Follower {
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
            if let Err(why) = self.look().await {
                self.over = true;
                return Some(Item { payload: Err(why), position: None, resume: self.position, held: None });
            }
        }
    }

    /// Takes what the crowd has, or waits for it.
    async fn look(&mut self) -> Result<(), RequestError> {
        let viewer = &self.like.again.viewer;
        let position = match self.position {
            Some(position) if self.crowd.is_none() => {
                Box::pin(cursor::within(&self.app.db, viewer, "after", position)).await?;
                position
            }
            Some(position) => position,
            // On the heap, as what is seldom awaited here: a follower waits for long, and for little.
            None => Box::pin(event::head(&self.app.db, viewer)).await.map_err(RequestError::ours)?,
        };
        self.position = Some(position);
        let follows = match &mut self.crowd {
            Some(crowd) => crowd,
            None => self.crowd.insert(Box::pin(self.app.crowds.join(&self.app, &self.like)).await?),
        };
        follows.wake.mark_unchanged();
        let behind = follows.crowd.heard.read().unwrap_or_else(PoisonError::into_inner).behind(position);
        match behind {
            Lookup::Items(items) => self.ready = items,
            Lookup::More(until) => {
                let place = LogScope::between(position, Some(until));
                let request = self.like.again.request(&self.app, &self.like.parsed).data(place.clone());
                self.own = Some((alone(&self.app, request, &place, self.like.payer()), Some(until)));
            }
            Lookup::Over(None) => self.over = true,
            // What another's key had too much of is no reason of this one's: it goes on in a crowd of its own.
            Lookup::Over(Some((why, Some(payer))))
                if why.retry.is_some() && !payer.is_org() && payer.key != self.like.asker.key =>
            {
                self.crowd = None;
            }
            Lookup::Over(Some((why, _))) => return Err(why),
            // A crowd that has gone without a word is joined anew.
            Lookup::Nothing => {
                if follows.wake.changed().await.is_err() {
                    self.crowd = None;
                }
            }
        }
        Ok(())
    }
}

/// What makes a subscription like others, and behind which position it begins; none where that can't be told.
fn like(admitted: &Admitted) -> Option<(ShareKey, Option<i64>)> {
    let (again, root) = (admitted.again.as_ref()?, admitted.operation.roots.first()?);
    if admitted.operation.kind != OperationType::Subscription {
        return None;
    }
    let after = match root.after.as_ref() {
        None => None,
        _ if admitted.resume.is_some() => None,
        // What is no cursor is for the executor to refuse.
        Some(cursor) => Some(cursor::position_of(again.viewer.org_id, "after", cursor.as_str()?).ok()?),
    };
    let normal = normal(&admitted.parsed.text);
    // The variable that holds the cursor, where it is used for nothing else: declared once, and used once.
    let cursor = root.after_variable.as_deref().filter(|name| {
        let word = |found: &(usize, &str)| {
            !normal[found.0 + found.1.len()..].starts_with(|next: char| next.is_alphanumeric() || next == '_')
        };
        normal.match_indices(&format!("${name}")).filter(word).count() == 2
    });
    let variables: Vec<_> =
        again.checked.variables().iter().filter(|(name, _)| Some(name.as_str()) != cursor).collect();
    let (org, role) = (again.viewer.org_id, again.viewer.role);
    let asker = &again.viewer.actor;
    let own = asker.agent_id.is_some() || is_personal(&normal) || is_personal(&json!(variables).to_string());
    let who = own.then_some((asker.member_id, asker.agent_id));
    let said = json!([normal, again.checked.operation_name(), variables, org, role, who]).to_string();
    let viewer = if own { again.viewer.clone() } else { again.viewer.anybody() };
    let again = RequestContext { checked: again.checked.clone(), viewer };
    let coalesced = COALESCED.contains(&root.field.as_str());
    let key = Sha256::digest(said.as_bytes()).into();
    Some((ShareKey { key, coalesced, parsed: admitted.parsed.clone(), again, asker: admitted.cost.asker() }, after))
}
