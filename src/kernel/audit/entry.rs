//! One entry of the audit log.

use std::sync::OnceLock;

use entity::AuditOutcome;
use entity::audit::{ActiveModel, Entity};
use entity::id::*;
use sea_orm::{ConnectionTrait, EntityTrait, Set};
use serde_json::{Value, json};

use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};

/// One requested mutation.
#[derive(Debug)]
pub struct Entry {
    pub(super) viewer: Viewer,
    address: String,
    /// The mutation's alias in the response.
    pub alias: String,
    pub(super) mutation: String,
    input: Value,
    committed: OnceLock<()>,
}

impl Entry {
    /// An entry for a request; long texts of its input are truncated.
    pub fn new(viewer: &Viewer, address: String, alias: &str, mutation: &str, input: &Value) -> Self {
        let mut left = limits::AUDIT_BYTES;
        let input = truncated(input, 0, &mut left);
        // The name is unchecked if the request is rejected.
        let mutation = mutation.chars().take(limits::AUDIT_CHARS).collect();
        Self { viewer: viewer.clone(), address, alias: alias.to_owned(), mutation, input, committed: OnceLock::new() }
    }

    /// True if it only polls for work; its effects, if any, are in the audit anyway.
    pub fn is_poll(&self) -> bool {
        matches!(self.mutation.as_str(), "claimSteps" | "renewSteps")
    }

    /// True if the entry was committed.
    pub fn is_committed(&self) -> bool {
        self.committed.get().is_some()
    }

    /// Marks that the transaction with the entry was committed.
    pub(crate) fn mark_committed(&self) {
        let _ = self.committed.set(());
    }

    /// Writes the entry, in the mutation's transaction.
    pub(crate) async fn write(
        &self,
        db: &impl ConnectionTrait,
        at: chrono::DateTime<chrono::Utc>,
        target: Option<String>,
        outcome: AuditOutcome,
        code: Option<&str>,
    ) -> Result<()> {
        self.write_times(db, at, target, outcome, code, 1).await
    }

    /// Writes the entry for a number of equal mutations.
    pub(super) async fn write_times(
        &self,
        db: &impl ConnectionTrait,
        at: chrono::DateTime<chrono::Utc>,
        target: Option<String>,
        outcome: AuditOutcome,
        code: Option<&str>,
        times: i32,
    ) -> Result<()> {
        let row = ActiveModel {
            id: Set(AuditId::new()),
            org_id: Set(self.viewer.org_id),
            actor: Set(self.viewer.actor()),
            member_id: Set(self.viewer.member_id()),
            api_key_id: Set(self.viewer.api_key_id),
            address: Set(self.address.clone()),
            mutation: Set(self.mutation.clone()),
            input: Set(self.input.clone()),
            target: Set(target),
            outcome: Set(outcome),
            code: Set(code.map(str::to_owned)),
            at: Set(at),
            times: Set(times),
        };
        Entity::insert(row).exec_without_returning(db).await?;
        Ok(())
    }
}

/// Rejected input is recorded too, so characters that one of the databases can't store are
/// replaced.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The input as recorded: truncated, because the audit shows what was requested and is not a second
/// store of its content.
fn truncated(value: &Value, depth: usize, left: &mut usize) -> Value {
    // All parts of an input share one bound.
    let Some(after) = left.checked_sub(4) else { return json!("…") };
    *left = after;
    match value {
        Value::String(text) => json!(shortened(text, left)),
        Value::Number(number) if storable::number(number).is_err() => json!(shortened(&number.to_string(), left)),
        Value::Array(_) | Value::Object(_) if depth >= limits::FILTER_DEPTH => json!("…"),
        Value::Array(items) => {
            let mut result: Vec<Value> =
                items.iter().take(limits::AUDIT_ITEMS).map(|item| truncated(item, depth + 1, left)).collect();
            if items.len() > limits::AUDIT_ITEMS {
                result.push(json!(format!("… {} in all", items.len())));
            }
            Value::Array(result)
        }
        Value::Object(parts) => {
            let mut result = serde_json::Map::new();
            for (name, part) in parts.iter().take(limits::AUDIT_ITEMS) {
                let name: String = storable(&name.chars().take(limits::AUDIT_CHARS).collect::<String>());
                *left = left.saturating_sub(name.len());
                result.insert(name, truncated(part, depth + 1, left));
            }
            Value::Object(result)
        }
        plain => plain.clone(),
    }
}

fn shortened(text: &str, left: &mut usize) -> String {
    let most = limits::AUDIT_CHARS.min(*left);
    let start = storable(&text.chars().take(most).collect::<String>());
    *left = left.saturating_sub(start.len());
    if text.chars().nth(most).is_some() { format!("{start}…") } else { start }
}
