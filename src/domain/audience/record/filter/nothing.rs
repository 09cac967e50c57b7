//! Rejects empty filters and conditions. A condition whose values are all absent or null is
//! rejected everywhere; a filter without any condition is rejected in mutations and where it is
//! saved, unless it has `all: true`. A client that forgets to send a variable must not address
//! everybody by accident.

use super::{AttributeFilter, PriorityFilter, RecordFilter, TextFilter, TimeFilter};
use crate::kernel::error::{Refusal, Result};

/// Error message for a filter without a condition.
pub(crate) const NO_CONDITION: &str =
    "has no condition and would match everything: give a condition, or set `all: true`";
/// Error message for a condition without a value.
pub(super) use crate::kernel::period::NO_VALUE;
/// Error message for `all` beside other conditions.
pub(crate) const NOT_ALONE: &str = "can't be combined with other conditions";

/// Error message for `segmentIds` where a filter is saved or selects objects for a change.
pub(super) const NOT_HERE: &str =
    "segments can be named in lists and previews only: give the conditions of the segment instead";

/// A condition whose values may all be absent.
pub(super) trait MaybeEmpty {
    /// True if at least one of its values is given.
    fn has_value(&self) -> bool;
}

impl MaybeEmpty for TextFilter {
    fn has_value(&self) -> bool {
        *self != Self::default()
    }
}

impl MaybeEmpty for TimeFilter {
    fn has_value(&self) -> bool {
        Self { or_never: None, ..self.clone() } != Self::default()
    }
}

impl MaybeEmpty for PriorityFilter {
    fn has_value(&self) -> bool {
        *self != Self::default()
    }
}

impl MaybeEmpty for AttributeFilter {
    fn has_value(&self) -> bool {
        Self { name: String::new(), ..self.clone() } != Self::default()
    }
}

impl RecordFilter {
    /// Rejects a filter for a mutation or for saving if it, or a filter nested in it, has no
    /// condition, or none that excludes anything, such as `not: { ids: [] }`. Errors: BAD_USER_INPUT.
    pub fn require_condition(&self) -> Result<()> {
        self.require("filter")
    }

    fn require(&self, path: &str) -> Result<()> {
        let refusal = || Err(Refusal::input(path, NO_CONDITION).into());
        if !self.has_condition() {
            return refusal();
        }
        for (i, inner) in self.and.iter().flatten().enumerate() {
            inner.require(&format!("{path}.and[{i}]"))?;
        }
        for (i, inner) in self.or.iter().flatten().enumerate() {
            inner.require(&format!("{path}.or[{i}]"))?;
        }
        self.not.as_ref().map_or(Ok(()), |not| not.require(&format!("{path}.not")))?;
        if self.matches_all() { refusal() } else { Ok(()) }
    }

    /// True if it, or a filter nested in it, has a condition.
    fn has_condition(&self) -> bool {
        self.has_own_condition()
            || self.and.iter().flatten().any(Self::has_condition)
            || self.or.iter().flatten().any(Self::has_condition)
            || self.not.as_ref().is_some_and(|not| not.has_condition())
    }

    /// True if it matches every record without saying so by `all: true`.
    fn matches_all(&self) -> bool {
        let or = self.or.as_deref().unwrap_or_default();
        !self.has_own_condition()
            && self.and.iter().flatten().all(Self::matches_all)
            && (or.is_empty() || or.iter().any(Self::matches_all))
            && self.not.as_ref().is_none_or(|not| not.matches_none())
    }

    /// True if it matches no record, whatever there is.
    fn matches_none(&self) -> bool {
        let or = self.or.as_deref().unwrap_or_default();
        let has_no_text = |text: &&TextFilter| text.one_of.as_ref().is_some_and(Vec::is_empty);
        [&self.ids, &self.segment_ids].into_iter().flatten().any(Vec::is_empty)
            || self.texts().iter().flatten().any(has_no_text)
            || self.and.iter().flatten().any(Self::matches_none)
            || (!or.is_empty() && or.iter().all(Self::matches_none))
            || self.not.as_ref().is_some_and(|not| not.matches_all())
    }

    /// True if it has a condition of its own, apart from empty strings and lists that exclude nothing.
    fn has_own_condition(&self) -> bool {
        let text = |text: &&TextFilter| {
            TextFilter {
                contains: text.contains.clone().filter(|part| !part.is_empty()),
                not_in: text.not_in.clone().filter(|texts| !texts.is_empty()),
                ..(*text).clone()
            }
            .has_value()
        };
        self.all == Some(true)
            || self.ids.is_some()
            || self.segment_ids.is_some()
            || self.texts().iter().flatten().any(text)
            || self.times().into_iter().flatten().any(MaybeEmpty::has_value)
            || self.priority.as_ref().is_some_and(MaybeEmpty::has_value)
            || [&self.linked_from, &self.linked_to].into_iter().flatten().any(|links| !links.admits_all())
            || self.unsubscribed.is_some()
            || self.attributes.iter().flatten().any(MaybeEmpty::has_value)
            || self.search.as_ref().is_some_and(|text| !text.trim().is_empty())
    }

    fn texts(&self) -> [Option<&TextFilter>; 7] {
        [&self.kind, &self.external_id, &self.name, &self.email, &self.phone, &self.time_zone, &self.stage]
            .map(Option::as_ref)
    }

    fn times(&self) -> [Option<&TimeFilter>; 3] {
        [&self.last_contacted_at, &self.created_at, &self.last_replied_at].map(Option::as_ref)
    }

    /// Converts an older saved filter to a form that is accepted today: without empty conditions,
    /// and with `all: true` if none is left.
    pub fn explicit(mut self) -> Self {
        for text in [
            &mut self.kind,
            &mut self.external_id,
            &mut self.name,
            &mut self.email,
            &mut self.phone,
            &mut self.time_zone,
            &mut self.stage,
        ] {
            if let Some(text) = text
                && text.contains.take_if(|part| part.is_empty()).is_some()
            {
                // Every present string contains the empty one.
                text.is_null.get_or_insert(false);
            }
            if let Some(text) = text {
                text.not_in.take_if(|texts| texts.is_empty());
            }
            text.take_if(|text| !text.has_value());
        }
        for time in [&mut self.last_contacted_at, &mut self.created_at, &mut self.last_replied_at] {
            time.take_if(|time| !time.has_value());
        }
        self.priority.take_if(|priority| !priority.has_value());
        for links in [&mut self.linked_from, &mut self.linked_to] {
            links.take_if(|links| !links.has_value());
        }
        if let Some(attributes) = &mut self.attributes {
            attributes.retain(MaybeEmpty::has_value);
        }
        self.attributes.take_if(|attributes| attributes.is_empty());
        self.search.take_if(|text| text.trim().is_empty());
        self.and.take_if(|and| and.is_empty());
        self.all.take_if(|all| !*all);
        for inner in self.and.iter_mut().flatten().chain(self.or.iter_mut().flatten()) {
            *inner = std::mem::take(inner).explicit();
        }
        self.not = self.not.map(|not| Box::new(not.explicit()));
        if self == Self::default() {
            self.all = Some(true);
        }
        self
    }
}
