//! Periods of time in filters.

use async_graphql::InputObject;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, Condition};
use serde::Serialize;

use crate::kernel::error::{Refusal, Result};
use crate::kernel::storable;

/// The message for a condition of a filter without a value.
pub(crate) const NO_VALUE: &str = "has no value: give one, or leave the condition out";

/// Period of time. At least one end is required.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
pub struct DateTimeRange {
    /// Start, inclusive.
    pub from: Option<DateTime<Utc>>,
    /// End, exclusive.
    pub to: Option<DateTime<Utc>>,
}

impl DateTimeRange {
    /// True if at least one end is given.
    pub(crate) fn has_end(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    /// Rejects a period without ends: an end that a client did not send must not widen a filter to all
    /// rows.
    pub(crate) fn require_end(&self, path: &str) -> Result<()> {
        if self.has_end() { Ok(()) } else { Err(Refusal::input(path, NO_VALUE).into()) }
    }

    /// Adds the condition that a column is within the period. Errors: BAD_USER_INPUT for a period
    /// without ends, and for a time that can't be stored, with its path.
    pub(crate) fn narrow(&self, mut all: Condition, column: impl ColumnTrait, path: &str) -> Result<Condition> {
        self.require_end(path)?;
        if let Some(from) = self.from {
            all = all.add(column.gte(storable::time(from).map_err(|unfit| unfit.of(&format!("{path}.from")))?));
        }
        if let Some(to) = self.to {
            all = all.add(column.lt(storable::time(to).map_err(|unfit| unfit.of(&format!("{path}.to")))?));
        }
        Ok(all)
    }

    /// Adds the conditions that `narrow` implies for the sort keys of a nullable column. They select
    /// nothing more; the indexes of the orders serve them, and don't serve the column's own.
    pub(crate) fn narrow_keys(&self, mut all: Condition, keys: impl IntoIterator<Item = Expr>) -> Condition {
        for key in keys {
            all = all.add_option(self.from.map(|from| key.clone().gte(from)));
            all = all.add_option(self.to.map(|to| key.lt(to)));
        }
        all
    }
}
