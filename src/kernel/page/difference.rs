//! The difference between two states of a list, as the changes that lead from one to the other.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

/// The changes that lead from one list to another: first `left` is removed, then each of `entered`
/// is put behind its predecessor, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ids that are no longer in the list.
    pub left: Vec<Uuid>,
    /// Ids that are new or elsewhere, each with the id before it; none at the head.
    pub entered: Vec<(Uuid, Option<Uuid>)>,
}

impl Difference {
    /// Computes the difference between two lists, in each of which an id occurs once.
    pub fn between(before: &[Uuid], after: &[Uuid]) -> Self {
        let places: HashMap<Uuid, usize> = before.iter().copied().zip(0..).collect();
        let now: HashSet<Uuid> = after.iter().copied().collect();
        let left = before.iter().copied().filter(|id| !now.contains(id)).collect();
        let common = after.iter().filter_map(|id| Some((*places.get(id)?, *id))).collect::<Vec<_>>();
        let kept = in_place(&common);
        let predecessors = std::iter::once(None).chain(after.iter().copied().map(Some));
        let entered = after.iter().copied().zip(predecessors).filter(|(id, _)| !kept.contains(id)).collect();
        Self { left, entered }
    }
}

/// The ids that stay where they are: a longest subsequence whose former places increase, so that as
/// few as possible move.
fn in_place(common: &[(usize, Uuid)]) -> HashSet<Uuid> {
    // By length, the end of the subsequence of that length that ends at the lowest place.
    let mut ends: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = Vec::with_capacity(common.len());
    for (nth, (place, _)) in common.iter().enumerate() {
        let length = ends.partition_point(|end| common[*end].0 < *place);
        previous.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(nth);
        } else {
            ends[length] = nth;
        }
    }
    let longest = std::iter::successors(ends.last().copied(), |nth| previous[*nth]);
    longest.map(|nth| common[nth].1).collect()
}
