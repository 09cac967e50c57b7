//! Periods of time in filters.

use async_graphql::InputObject;
use chrono::{DateTime, Utc};
use sea_orm::{ColumnTrait, Condition};
use serde::Serialize;

use crate::kernel::error::Result;
use crate::kernel::storable;

/// Period of time. Both ends are optional.
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

    /// Adds the condition that a column is within the period. Errors: BAD_USER_INPUT for a time that
    /// can't be stored, with the end's path.
    pub(crate) fn narrow(&self, mut all: Condition, column: impl ColumnTrait, path: &str) -> Result<Condition> {
        if let Some(from) = self.from {
            all = all.add(column.gte(storable::time(from).map_err(|unfit| unfit.of(&format!("{path}.from")))?));
        }
        if let Some(to) = self.to {
            all = all.add(column.lt(storable::time(to).map_err(|unfit| unfit.of(&format!("{path}.to")))?));
        }
        Ok(all)
    }
}
