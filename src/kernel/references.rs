//! Finds the rows that use another row: a delete is rejected while there are any, and names them.

use entity::id::OrgId;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Value, json};

use crate::kernel::error::{Refusal, Result};
use crate::kernel::limits;

/// The rows found so far that use a row.
#[derive(Debug, Default)]
pub(crate) struct References {
    found: Vec<Value>,
    more: bool,
}

impl References {
    /// Finds a few rows of one table that refer to an id; `show` returns a row's id and name.
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

    /// Rejects if there are any. Errors: CONFLICT, with `usedBy`.
    pub(crate) fn none(self, noun: &str) -> Result<()> {
        if self.found.is_empty() {
            return Ok(());
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut users: Vec<String> =
            self.found.iter().map(|one| format!("the {} \"{}\"", text(&one["noun"]), text(&one["name"]))).collect();
        if self.more {
            users.push("others".into());
        }
        let message = format!("the {noun} is in use by {}", users.join(", "));
        Err(Refusal::conflict(message).with("usedBy", Value::Array(self.found)).into())
    }
}

/// The condition `column = id`.
pub(crate) fn is(column: impl ColumnTrait, id: impl Into<sea_orm::Value>) -> Expr {
    Expr::col(column.as_column_ref()).eq(id.into())
}
