//! Like subscriptions share one execution and one serialisation: those of the same document and variables, for the same org
//! and role; where an answer is about the one who asks, also for the same member. What came is kept for a while by its position in the log, so that each follower takes what lies behind its own
//! place; who is further back is told by an execution of its own, until it has come to where the shared one began.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use async_graphql::parser::types::OperationType;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::flow::{Item, Payload, alone};
use super::parsed::Parsed;
use super::told::Told;
use super::{Admitted, Again, App};
use crate::cost::Asker;
use crate::event::{self, cursor};
use crate::graphql::stream::{COALESCED, Place};
use crate::limits;

/// What is the same for subscriptions that share an execution.
type Key = [u8; 32];

/// The executions that are shared.
#[derive(Clone, Debug, Default)]
pub struct Crowds(Arc<Mutex<HashMap<Key, Weak<Crowd>>>>);

/// One shared execution, as its followers see it.
#[derive(Debug)]
struct Crowd {
    heard: RwLock<Heard>,
    wake: watch::Sender<()>,
}

/// What came of it lately.
#[derive(Debug)]
struct Heard {
    /// All that came behind this position is in `items`.
    before: i64,
    items: VecDeque<(i64, Payload)>,
    /// That nothing more will come, and why, where something went wrong.
    over: Option<Option<Told>>,
    /// Whether the newest item stands for all before it.
    coalesced: bool,
}

/// What there is behind a position.
enum Behind {
    Items(VecDeque<(i64, Payload)>),
    /// More than is kept, up to this position.
    More(i64),
    Over(Option<Told>),
    Nothing,
}

impl Heard {
    fn behind(&self, position: i64) -> Behind {
        let skip = self.items.partition_point(|(at, _)| *at <= position);
        let newest = || self.items.back().cloned().into_iter().collect();
        match &self.over {
            _ if self.coalesced && skip < self.items.len() => Behind::Items(newest()),
            _ if position < self.before => Behind::More(self.before),
            _ if skip < self.items.len() => Behind::Items(self.items.range(skip..).cloned().collect()),
            Some(why) => Behind::Over(why.clone()),
            None => Behind::Nothing,
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

impl Crowds {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Crowd>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The crowd of a key; begun behind the log's head, where there is none.
    async fn join(&self, app: &App, like: &Like) -> Result<(Arc<Crowd>, watch::Receiver<()>), Told> {
        // Subscribed under the lock: it does not end between.
        let there = |all: &HashMap<Key, Weak<Crowd>>| {
            let crowd = all.get(&like.key).and_then(Weak::upgrade)?;
            let wake = crowd.wake.subscribe();
            Some((crowd, wake))
        };
        if let Some(found) = there(&self.lock()) {
            return Ok(found);
        }
        let begin = event::head(&app.db, &like.again.viewer).await.map_err(Told::ours)?;
        let mut all = self.lock();
        // Another may have been quicker.
        if let Some(found) = there(&all) {
            return Ok(found);
        }
        let heard = Heard { before: begin, items: VecDeque::new(), over: None, coalesced: like.coalesced };
        let crowd = Arc::new(Crowd { heard: RwLock::new(heard), wake: watch::Sender::new(()) });
        let wake = crowd.wake.subscribe();
        all.insert(like.key, Arc::downgrade(&crowd));
        let (app, key, place) = (app.clone(), like.key, Place::between(begin, None));
        let request = like.again.request(&app, &like.parsed).data(place.clone());
        let items = alone(&app, request, &place, like.asker);
        tokio::spawn(run(app, key, crowd.clone(), items));
        Ok((crowd, wake))
    }
}

/// Executes for a crowd, as long as there is one.
async fn run(app: App, key: Key, crowd: Arc<Crowd>, mut items: BoxStream<'static, Item>) {
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
                Some(Item { payload: Err(why), .. }) => heard.over = Some(Some(why)),
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
struct Like {
    key: Key,
    coalesced: bool,
    parsed: Arc<Parsed>,
    again: Again,
    asker: Asker,
}

/// Executes a subscription, together with those that are like it.
pub(super) fn items(app: &App, admitted: Admitted) -> BoxStream<'static, Item> {
    let Some((like, after)) = like(&admitted) else {
        let place = admitted.resume.map_or_else(Place::default, |from| Place::between(from, None));
        return alone(app, admitted.request.data(place.clone()), &place, admitted.cost.asker);
    };
    let after = admitted.resume.or(after);
    let first = (like.coalesced && after.is_none()).then(|| {
        let place = Place::default();
        // What stands now comes first, and is nobody else's.
        (alone(app, admitted.request.data(place.clone()), &place, like.asker), None)
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
    like: Like,
    /// Behind what it has been told; none before it is known where it begins.
    position: Option<i64>,
    crowd: Option<(Arc<Crowd>, watch::Receiver<()>)>,
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
    async fn look(&mut self) -> Result<(), Told> {
        let viewer = &self.like.again.viewer;
        let position = match self.position {
            Some(position) if self.crowd.is_none() => {
                Box::pin(cursor::within(&self.app.db, viewer, "after", position)).await?;
                position
            }
            Some(position) => position,
            // On the heap, as what is seldom awaited here: a follower waits for long, and for little.
            None => Box::pin(event::head(&self.app.db, viewer)).await.map_err(Told::ours)?,
        };
        self.position = Some(position);
        let (crowd, wake) = match &mut self.crowd {
            Some(crowd) => crowd,
            None => self.crowd.insert(Box::pin(self.app.crowds.join(&self.app, &self.like)).await?),
        };
        wake.mark_unchanged();
        let behind = crowd.heard.read().unwrap_or_else(PoisonError::into_inner).behind(position);
        match behind {
            Behind::Items(items) => self.ready = items,
            Behind::More(until) => {
                let place = Place::between(position, Some(until));
                let request = self.like.again.request(&self.app, &self.like.parsed).data(place.clone());
                self.own = Some((alone(&self.app, request, &place, self.like.asker), Some(until)));
            }
            Behind::Over(None) => self.over = true,
            Behind::Over(Some(why)) => return Err(why),
            // A crowd that has gone without a word is joined anew.
            Behind::Nothing => {
                if wake.changed().await.is_err() {
                    self.crowd = None;
                }
            }
        }
        Ok(())
    }
}

/// What makes a subscription like others, and behind which position it begins; none where that can't be told.
fn like(admitted: &Admitted) -> Option<(Like, Option<i64>)> {
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
    let again = Again { checked: again.checked.clone(), viewer };
    let coalesced = COALESCED.contains(&root.field.as_str());
    let key = Sha256::digest(said.as_bytes()).into();
    Some((Like { key, coalesced, parsed: admitted.parsed.clone(), again, asker: admitted.cost.asker }, after))
}

/// Names in a document or its variables by which an answer may be about the one who asks.
pub const PERSONAL: [&str; 4] = ["availableActions", "preflight", "mine", "viewer"];

fn is_personal(text: &str) -> bool {
    PERSONAL.iter().any(|name| text.contains(name))
}

/// A document without what means nothing: comments, commas, and spaces that part no words.
fn normal(text: &str) -> String {
    let (mut out, mut rest, mut apart) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        match first {
            '#' => {
                let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
                (apart, rest) = (true, &rest[end..]);
            }
            ' ' | '\t' | '\n' | '\r' | ',' | '\u{feff}' => (apart, rest) = (true, &rest[first.len_utf8()..]),
            _ => {
                let length = match first {
                    '"' => crate::graphql::document::text::string(rest),
                    _ => first.len_utf8(),
                };
                let word = |of: char| of.is_alphanumeric() || matches!(of, '_' | '"' | '-' | '.');
                if apart && word(first) && out.ends_with(word) {
                    out.push(' ');
                }
                out.push_str(&rest[..length]);
                (apart, rest) = (false, &rest[length..]);
            }
        }
    }
    out
}
