//! Lanes: the connections for requests' reads, shared out fairly.
//!
//! A key has at most half of them at once, an org three quarters. Others wait for a moment, the org
//! with the fewest statements running first. An org without a running statement does not wait long:
//! the longest-running statement of another org is ended for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::kernel::cost::CostOwner;
use crate::kernel::limits;

/// The lanes, numbered from 0. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    per_key: usize,
    per_org: usize,
    state: Mutex<State>,
    /// The signal for each lane that its statement must end.
    ends: Vec<Notify>,
}

#[derive(Debug)]
struct State {
    /// Least recently freed first: its connection is idle by now.
    free: VecDeque<usize>,
    taken: Vec<Taken>,
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    lane: usize,
    owner: CostOwner,
    since: Instant,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    owner: CostOwner,
    permit: oneshot::Sender<LanePermit>,
}

/// A taken lane; freed on drop.
#[derive(Debug)]
pub(super) struct LanePermit {
    lanes: Lanes,
    lane: usize,
}

/// No lane became free in time, or too many requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

impl State {
    fn count(&self, matches: impl Fn(&CostOwner) -> bool) -> usize {
        self.taken.iter().filter(|taken| matches(&taken.owner)).count()
    }

    fn check_allowed(&self, shared: &Shared, owner: CostOwner) -> bool {
        self.count(|other| other.key == owner.key) < shared.per_key
            && self.count(|other| other.org == owner.org) < shared.per_org
    }

    /// The index of the waiting request whose turn it is.
    fn next(&self, shared: &Shared) -> Option<usize> {
        let eligible = self.waiting.iter().enumerate().filter(|(_, waiting)| self.check_allowed(shared, waiting.owner));
        eligible
            .min_by_key(|(index, waiting)| (self.count(|other| other.org == waiting.owner.org), *index))
            .map(|(index, _)| index)
    }
}

impl Lanes {
    /// Creates `count` free lanes.
    pub(super) fn new(count: usize) -> Self {
        let state = State { free: (0..count).collect(), taken: Vec::with_capacity(count), waiting: VecDeque::new() };
        let (per_key, per_org) = ((count / 2).max(1), (count - count / 4).max(1));
        let ends = (0..count).map(|_| Notify::new()).collect();
        Self(Arc::new(Shared { per_key, per_org, state: Mutex::new(state), ends }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lane for a statement; waits in turn, at most `patience`.
    pub(super) async fn acquire(&self, owner: CostOwner, patience: Duration) -> Result<LanePermit, Busy> {
        let mut permit = {
            let mut state = self.lock();
            if state.check_allowed(&self.0, owner)
                && let Some(lane) = state.free.pop_front()
            {
                state.taken.push(Taken { lane, owner, since: Instant::now(), ended: false });
                return Ok(LanePermit { lanes: self.clone(), lane });
            }
            state.waiting.retain(|waiting| !waiting.permit.is_closed());
            if state.waiting.iter().filter(|waiting| waiting.owner.key == owner.key).count() >= limits::WAITING_PER_KEY
            {
                return Err(Busy);
            }
            let (sender, permit) = oneshot::channel();
            state.waiting.push_back(Waiting { owner, permit: sender });
            permit
        };
        let deadline = Instant::now() + patience;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now()).min(limits::LANE_WAIT);
            match tokio::time::timeout(wait, &mut permit).await {
                Ok(permit) => return permit.map_err(|_| Busy),
                Err(_) if Instant::now() >= deadline => return Err(Busy),
                Err(_) => self.make_room(owner),
            }
        }
    }

    /// Ends the longest-running statement of another org, if the owner's org has none running and
    /// that one has had its time.
    fn make_room(&self, owner: CostOwner) {
        let mut state = self.lock();
        if state.count(|other| other.org == owner.org) > 0 || state.taken.iter().any(|taken| taken.ended) {
            return;
        }
        let longest = state.taken.iter_mut().min_by_key(|taken| taken.since);
        if let Some(longest) = longest.filter(|longest| longest.since.elapsed() >= limits::LANE_TIME) {
            longest.ended = true;
            self.0.ends[longest.lane].notify_waiters();
        }
    }

    /// Number of lanes taken.
    pub(super) fn taken(&self) -> usize {
        self.lock().taken.len()
    }

    fn free(&self, lane: usize) {
        // Permits whose receiver is gone are dropped after the lock is released.
        let mut abandoned = Vec::new();
        let mut state = self.lock();
        state.taken.retain(|taken| taken.lane != lane);
        state.free.push_back(lane);
        while !state.free.is_empty()
            && let Some(index) = state.next(&self.0)
            && let Some(Waiting { owner, permit }) = state.waiting.remove(index)
            && let Some(lane) = state.free.pop_front()
        {
            state.taken.push(Taken { lane, owner, since: Instant::now(), ended: false });
            abandoned.extend(permit.send(LanePermit { lanes: self.clone(), lane }).err());
            if !abandoned.is_empty() {
                break;
            }
        }
        drop(state);
        drop(abandoned);
    }
}

impl LanePermit {
    /// The lane's number.
    pub(super) fn lane(&self) -> usize {
        self.lane
    }

    /// Returns when another org needs the lane.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let lanes = self.lanes.clone();
        let lane = self.lane;
        async move { lanes.0.ends[lane].notified().await }
    }
}

impl Drop for LanePermit {
    fn drop(&mut self) {
        self.lanes.free(self.lane);
    }
}
