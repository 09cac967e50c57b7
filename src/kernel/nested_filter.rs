//! Filters with filters nested in them: `not`, and `or`. Their depth and their number are bounded.

use sea_orm::Condition;

use crate::kernel::db::dialect::{self, Dialect};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::limits;

/// Message for a filter that selects the objects of a change and would match all of them.
pub(crate) const NO_CONDITION: &str = "has no condition and would match everything: give at least one";

/// A filter with filters nested in it.
pub trait NestedFilter: Sized {
    /// The filter's own conditions, without those of nested filters. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
    fn own(&self, dialect: Dialect, path: &str) -> Result<Condition>;

    /// The filter that must not hold.
    fn not(&self) -> Option<&Self>;

    /// The filters of which at least one must hold.
    fn or(&self) -> Option<&[Self]>;

    /// True if it has a condition of its own, apart from those of nested filters.
    fn has_own_condition(&self) -> bool;

    /// True if a list of its own has no values, so that nothing matches.
    fn has_empty_list(&self) -> bool;
}

/// True if the filter, or a filter nested in it, has a condition.
pub(crate) fn has_condition<F: NestedFilter>(filter: &F) -> bool {
    filter.has_own_condition()
        || filter.not().is_some_and(has_condition)
        || filter.or().into_iter().flatten().any(has_condition)
}

/// Rejects a filter that selects objects for a change if it, or a filter nested in it, has no condition,
/// or none that excludes anything, such as `not: { ids: [] }`. Errors: BAD_USER_INPUT with `message`.
pub(crate) fn require_condition<F: NestedFilter>(filter: &F, path: &str, message: &str) -> Result<()> {
    let refusal = || Err(Refusal::input(path, message).into());
    if !has_condition(filter) {
        return refusal();
    }
    for (i, one) in filter.or().into_iter().flatten().enumerate() {
        require_condition(one, &format!("{path}.or[{i}]"), message)?;
    }
    filter.not().map_or(Ok(()), |not| require_condition(not, &format!("{path}.not"), message))?;
    if matches_all(filter) { refusal() } else { Ok(()) }
}

/// True if the filter matches everything, whatever there is.
fn matches_all<F: NestedFilter>(filter: &F) -> bool {
    !filter.has_own_condition()
        && filter.not().is_none_or(matches_none)
        && filter.or().is_none_or(|or| or.is_empty() || or.iter().any(matches_all))
}

/// True if the filter matches nothing, whatever there is.
fn matches_none<F: NestedFilter>(filter: &F) -> bool {
    filter.has_empty_list()
        || filter.not().is_some_and(matches_all)
        || filter.or().is_some_and(|or| !or.is_empty() && or.iter().all(matches_none))
}

/// Returns the condition of a filter and all filters nested in it. Errors: BAD_USER_INPUT, also for an
/// empty `or`; LIMIT_EXCEEDED for too many, or too deeply nested ones.
pub fn condition<F: NestedFilter>(filter: &F, dialect: Dialect, path: &str) -> Result<Condition> {
    Reader { dialect, left: limits::FILTER_CONDITIONS }.read(filter, path, 0)
}

struct Reader {
    dialect: Dialect,
    /// Remaining number of nested filters.
    left: usize,
}

impl Reader {
    fn read<F: NestedFilter>(&mut self, filter: &F, path: &str, depth: usize) -> Result<Condition> {
        let mut all = filter.own(self.dialect, path)?;
        if let Some(not) = filter.not() {
            all = all.add(dialect::unmet(self.nested(not, &format!("{path}.not"), depth)?));
        }
        if let Some(or) = filter.or() {
            if or.is_empty() {
                return Err(Refusal::input(&format!("{path}.or"), "must not be empty").into());
            }
            let mut any = Condition::any();
            for (i, one) in or.iter().enumerate() {
                any = any.add(self.nested(one, &format!("{path}.or[{i}]"), depth)?);
            }
            all = all.add(any);
        }
        Ok(all)
    }

    fn nested<F: NestedFilter>(&mut self, filter: &F, path: &str, depth: usize) -> Result<Condition> {
        if depth >= limits::FILTER_DEPTH {
            let message = format!("filters may be nested {} levels deep at most", limits::FILTER_DEPTH);
            return Err(Refusal::limit_for_field(path, message).into());
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Refusal::limit_for_field(path, format!("at most {} nested filters", limits::FILTER_CONDITIONS))
        })?;
        self.read(filter, path, depth + 1)
    }
}
