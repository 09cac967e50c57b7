//! The audit log: each mutation with its principal, address and outcome.
//!
//! A successful mutation is recorded in its own transaction; a rejected or ineffective one
//! afterwards.

use std::sync::{Arc, OnceLock};

use entity::AuditOutcome;
use entity::audit::{ActiveModel, COLUMN, Entity, Model};
use entity::id::*;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect, Set,
};
use serde_json::{Value, json};

use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Page};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};
use crate::transact;
use refusals::RefusalCount;

pub(crate) mod refusals;

scoped!(audit, AuditId, "audit entry");

/// One requested mutation.
#[derive(Debug)]
pub struct Entry {
    viewer: Viewer,
    address: String,
    /// The mutation's alias in the response.
    pub alias: String,
    mutation: String,
    input: Value,
    noted: OnceLock<()>,
}

/// Filter of audit entries; all given conditions must hold.
#[derive(Clone, Debug, Default, serde::Serialize, async_graphql::InputObject)]
#[graphql(name = "AuditFilter")]
pub struct Filter {
    /// Names of mutations, as in the schema.
    pub mutations: Option<Vec<String>>,
    /// Outcomes to include.
    pub outcomes: Option<Vec<AuditOutcome>>,
    /// Members who requested the mutation.
    pub member_ids: Option<Vec<async_graphql::ID>>,
    /// Objects that the mutation returned.
    pub target_ids: Option<Vec<async_graphql::ID>>,
}

impl Entry {
    /// An entry for a request; long texts of its input are truncated.
    pub fn new(viewer: &Viewer, address: String, alias: &str, mutation: &str, input: &Value) -> Self {
        let mut left = limits::AUDIT_BYTES;
        let input = truncated(input, 0, &mut left);
        // The name is unchecked if the request is rejected.
        let mutation = mutation.chars().take(limits::AUDIT_CHARS).collect();
        Self { viewer: viewer.clone(), address, alias: alias.to_owned(), mutation, input, noted: OnceLock::new() }
    }

    /// True if it only polls for work; its effects, if any, are in the audit anyway.
    pub fn is_poll(&self) -> bool {
        matches!(self.mutation.as_str(), "claimSteps" | "renewSteps")
    }

    /// True if the entry was committed.
    pub fn is_noted(&self) -> bool {
        self.noted.get().is_some()
    }

    /// Marks that the transaction with the entry was committed.
    pub(crate) fn kept(&self) {
        let _ = self.noted.set(());
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

    async fn write_times(
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
        row.insert(db).await?;
        Ok(())
    }
}

/// Records a mutation that was rejected or had no effect. Each key has a number of single entries
/// per minute; further ones are counted, and written as one entry per mutation, outcome and code
/// when the minute is over.
pub async fn note(db: &Db, entry: &Arc<Entry>, outcome: AuditOutcome, code: Option<&str>) -> Result<()> {
    let (single, due) = db.refusals().take(entry, outcome, code, db.now());
    let written = match single {
        true => {
            let one =
                RefusalCount { entry: entry.clone(), outcome, code: code.map(str::to_owned), at: db.now(), times: 1 };
            write_counts(db, vec![one]).await
        }
        false => Ok(()),
    };
    write_counts(db, due).await.and(written)
}

/// Writes the counts of minutes that are over.
pub async fn write_counted(db: &Db) -> Result<()> {
    write_counts(db, db.refusals().due(db.now())).await
}

/// Writes all counts, including those of the current minute, when the process ends.
pub async fn write_rest(db: &Db) -> Result<()> {
    write_counts(db, db.refusals().due(db.now() + limits::AUDIT_MINUTE)).await
}

async fn write_counts(db: &Db, counts: Vec<RefusalCount>) -> Result<()> {
    if counts.is_empty() {
        return Ok(());
    }
    let written = transact!(db, |tx| {
        for one in &counts {
            let code = one.code.as_deref();
            one.entry.write_times(tx.db(), one.at, None, one.outcome, code, one.times).await?;
        }
        Ok(())
    });
    if written.is_err() {
        // Nothing was written; the counts are retried with the next ones.
        db.refusals().put_back(counts);
    }
    written
}

/// Deletes entries that are past their retention, in bounded chunks. Returns the number.
pub async fn delete_expired(db: &Db) -> Result<u64> {
    let before = db.now() - chrono::Duration::days(i64::from(db.audit_days()));
    let mut deleted = 0;
    for _ in 0..limits::AUDIT_FORGET_PIECES {
        let old = Entity::find().filter(COLUMN.at.lt(before)).limit(limits::CHUNK).all(db.read()).await?;
        if old.is_empty() {
            break;
        }
        let ids: Vec<AuditId> = old.iter().map(|row| row.id).collect();
        deleted += transact!(db, |tx| {
            let condition = any_of(tx.dialect(), COLUMN.id, ids.clone());
            Ok(Entity::delete_many().filter(condition).exec(tx.db()).await?.rows_affected)
        })?;
    }
    Ok(deleted)
}

/// Records a rejected API key of an org, as the mutation `authenticate`.
pub async fn rejected(db: &Db, key: &entity::api_key::Model, address: String, reason: &str) -> Result<()> {
    let Some(viewer) = Viewer::of_rejected_key(db, key).await? else { return Ok(()) };
    let entry = Entry::new(&viewer, address, "", "authenticate", &json!({ "reason": reason }));
    note(db, &Arc::new(entry), AuditOutcome::Refused, Some(crate::kernel::error::Code::Unauthenticated.as_str())).await
}

/// The matching entries, newest first.
pub async fn page(db: &Db, viewer: &Viewer, filter: &Filter, args: &Args) -> Result<Page<Model>> {
    let fingerprint = page::fingerprint(&("audit", filter))?;
    page::page(db.read(), select(db, viewer, filter)?, &NEWEST_FIRST, &fingerprint, args).await
}

/// Number of matching entries.
pub async fn count(db: &Db, viewer: &Viewer, filter: &Filter) -> Result<u64> {
    Ok(select(db, viewer, filter)?.count(db.read()).await?)
}

fn select(db: &Db, viewer: &Viewer, filter: &Filter) -> Result<sea_orm::Select<Entity>> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(mutations) = &filter.mutations {
        select = select.filter(any_of(db.dialect(), COLUMN.mutation, mutations.clone()));
    }
    if let Some(outcomes) = &filter.outcomes {
        select = select.filter(any_of(db.dialect(), COLUMN.outcome, outcomes.clone()));
    }
    if let Some(ids) = &filter.member_ids {
        select = select.filter(any_of(
            db.dialect(),
            COLUMN.member_id,
            crate::kernel::validate::ids::<MemberId>(ids, "filter", "memberIds")?,
        ));
    }
    if let Some(ids) = &filter.target_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.target, ids.iter().map(|id| id.to_string())));
    }
    Ok(select)
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
