//! By what a row is used: a delete is refused while there is any such thing, and names it.

use entity::id::OrgId;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Value, json};

use crate::kernel::error::{Refusal, Result};
use crate::kernel::limits;

/// What uses a row, as far as it was looked for.
#[derive(Debug, Default)]
pub(crate) struct References {
    found: Vec<Value>,
    more: bool,
}

impl References {
    /// Looks for rows of one table that refer to an id, a few; `show` gives a row's id and name.
    pub(crate) async fn look<E: EntityTrait>(
        &mut self,
        db: &impl ConnectionTrait,
        org: (E::Column, OrgId),
        of: Expr,
        noun: &str,
        show: impl Fn(&E::Model) -> (String, String),
    ) -> Result<()> {
        let left = limits::USES_SHOWN.saturating_sub(self.found.len() as u64);
        let select = E::find().filter(org.0.eq(org.1)).filter(of);
        let rows = select.limit(left + 1).all(db).await?;
        self.more |= rows.len() as u64 > left;
        for row in rows.iter().take(left as usize) {
            let (id, name) = show(row);
            self.found.push(json!({ "noun": noun, "id": id, "name": name }));
        }
        Ok(())
    }

    /// Refuses where there is any. Errors: CONFLICT, with `usedBy`.
    pub(crate) fn none(self, noun: &str) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut told: Vec<String> =
            self.found.iter().map(|one| format!("the {} \"{}\"", text(&one["noun"]), text(&one["name"]))).collect();
        if self.more {
            told.push("others".into());
        }
        let told = format!("the {noun} is in use by {}", told.join(", "));
        Err(Refusal::conflict(told).with("usedBy", Value::Array(self.found)).into())
    }
}

/// `column = id`, as a condition.
pub(crate) fn is(column: impl ColumnTrait, id: impl Into<sea_orm::Value>) -> Expr {
    Expr::col(column.as_column_ref()).eq(id.into())
}
