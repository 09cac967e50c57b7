//! Memory of responses after they are made: kept for several readers, or copied for one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{CostAccount, CostOwner, Costs, Request};
use crate::kernel::error::Refusal;
use crate::kernel::limits;

impl Costs {
    /// Counts a copy of a response for its reader, until the returned request is dropped; with the
    /// rejection (LIMIT_EXCEEDED) if the reader holds too much.
    pub fn copy(&self, reader: CostOwner, bytes: usize) -> (Arc<Request>, Result<(), Refusal>) {
        let copy = self.item(&CostAccount::of(reader));
        let held = copy.hold(bytes);
        (copy, held)
    }
}

impl Request {
    /// Counts the text of the response only: the rows and values that it was made of are gone.
    /// Errors: LIMIT_EXCEEDED, if the text is larger than what was counted, and that is too much.
    pub fn keep_text(&self, bytes: usize) -> Result<(), Refusal> {
        let less = {
            let mut held = self.held();
            let counted = held.as_ref().map_or(0, |held| held.bytes);
            if let Some(held) = held.as_mut() {
                held.shrink(bytes);
            }
            bytes.saturating_sub(counted)
        };
        self.hold(less)
    }

    /// True if its key or its org holds much of what it may hold.
    pub fn is_much_held(&self) -> bool {
        let answer = self.costs.0.answer_bytes;
        self.held().as_ref().is_some_and(|held| {
            let usages =
                [(&held.owner_usage.key, limits::ANSWERS_PER_KEY), (&held.owner_usage.org, limits::ANSWERS_PER_ORG)];
            let is_much = |(usage, answers): (&Arc<super::Usage>, usize)| {
                usage.bytes.load(Ordering::Relaxed) > answer.saturating_mul(answers) / limits::MUCH_HELD
            };
            usages.into_iter().any(is_much)
        })
    }
}
