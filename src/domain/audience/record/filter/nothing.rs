//! Filters and conditions that ask for nothing. A condition whose values are all absent or null is refused wherever it
//! comes in; a filter without any condition is refused where it acts or is kept, unless it says `all: true`: a variable that
//! was not sent must not turn a few into everybody.

use super::{AttributeFilter, PriorityFilter, RecordFilter, TextFilter, TimeFilter};
use crate::kernel::error::{Refusal, Result};

/// The sentence for a filter without a condition.
pub(crate) const NO_CONDITION: &str =
    "has no condition, and would mean all of them: give one, or say so with `all: true`";
/// The sentence for a condition without a value.
pub(crate) const NO_VALUE: &str = "says nothing: give it a value, or leave it out";
/// The sentence for `all` that does not stand alone.
pub(crate) const NOT_ALONE: &str = "stands alone: all of them, or those that meet a condition";

/// A condition that may hold nothing.
pub(super) trait MaybeEmpty {
    /// True if at least one of its values is given.
    fn says(&self) -> bool;
}

impl MaybeEmpty for TextFilter {
    fn says(&self) -> bool {
        *self != Self::default()
    }
}

impl MaybeEmpty for TimeFilter {
    fn says(&self) -> bool {
        Self { or_never: None, ..self.clone() } != Self::default()
    }
}

impl MaybeEmpty for PriorityFilter {
    fn says(&self) -> bool {
        *self != Self::default()
    }
}

impl MaybeEmpty for AttributeFilter {
    fn says(&self) -> bool {
        Self { name: String::new(), ..self.clone() } != Self::default()
    }
}

impl RecordFilter {
    /// Refuses a filter that is to act or to be kept if it, or a filter within it, has no condition. Errors:
    /// BAD_USER_INPUT.
    pub fn require_condition(&self) -> Result<()> {
        self.require("filter")
    }

    fn require(&self, path: &str) -> Result<()> {
        if !self.asks() {
            return Err(Refusal::input(path, NO_CONDITION).into());
        }
        for (i, inner) in self.and.iter().flatten().enumerate() {
            inner.require(&format!("{path}.and[{i}]"))?;
        }
        for (i, inner) in self.or.iter().flatten().enumerate() {
            inner.require(&format!("{path}.or[{i}]"))?;
        }
        self.not.as_ref().map_or(Ok(()), |not| not.require(&format!("{path}.not")))
    }

    /// True if it leaves anything out that is not given as empty.
    fn asks(&self) -> bool {
        let text = |text: &&TextFilter| {
            TextFilter {
                contains: text.contains.clone().filter(|part| !part.is_empty()),
                not_in: text.not_in.clone().filter(|texts| !texts.is_empty()),
                ..(*text).clone()
            }
            .says()
        };
        self.all == Some(true)
            || self.ids.is_some()
            || self.texts().iter().flatten().any(text)
            || self.times().into_iter().flatten().any(MaybeEmpty::says)
            || self.priority.as_ref().is_some_and(MaybeEmpty::says)
            || self.unsubscribed.is_some()
            || self.attributes.iter().flatten().any(MaybeEmpty::says)
            || self.search.as_ref().is_some_and(|text| !text.trim().is_empty())
            || self.and.iter().flatten().any(Self::asks)
            || self.or.iter().flatten().any(Self::asks)
            || self.not.as_ref().is_some_and(|not| not.asks())
    }

    fn texts(&self) -> [Option<&TextFilter>; 7] {
        [&self.kind, &self.external_id, &self.name, &self.email, &self.phone, &self.time_zone, &self.stage]
            .map(Option::as_ref)
    }

    fn times(&self) -> [Option<&TimeFilter>; 3] {
        [&self.last_contacted_at, &self.created_at, &self.last_replied_at].map(Option::as_ref)
    }

    /// The same filter as it may be given today, where it was kept before: without conditions that say nothing, and
    /// `all: true` where none is left.
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
                // What contains the empty text is what is there.
                text.is_null.get_or_insert(false);
            }
            if let Some(text) = text {
                text.not_in.take_if(|texts| texts.is_empty());
            }
            text.take_if(|text| !text.says());
        }
        for time in [&mut self.last_contacted_at, &mut self.created_at, &mut self.last_replied_at] {
            time.take_if(|time| !time.says());
        }
        self.priority.take_if(|priority| !priority.says());
        if let Some(attributes) = &mut self.attributes {
            attributes.retain(MaybeEmpty::says);
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
