//! The audit: who asked for which mutation, from where, and what became of it. What was done is noted in its own transaction,
//! what was not, after it.

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

/// One mutation that is asked for.
#[derive(Debug)]
pub struct Entry {
    viewer: Viewer,
    address: String,
    /// As the answer calls it.
    pub alias: String,
    mutation: String,
    input: Value,
    noted: OnceLock<()>,
}

/// Which entries; all that is given must hold.
#[derive(Clone, Debug, Default, serde::Serialize, async_graphql::InputObject)]
#[graphql(name = "AuditFilter")]
pub struct Filter {
    /// One of these mutations, as the schema calls them.
    pub mutations: Option<Vec<String>>,
    /// With one of these outcomes.
    pub outcomes: Option<Vec<AuditOutcome>>,
    /// Asked by one of these members.
    pub member_ids: Option<Vec<async_graphql::ID>>,
    /// About one of these objects.
    pub target_ids: Option<Vec<async_graphql::ID>>,
}

impl Entry {
    /// One that is asked for, with long texts of its input cut.
    pub fn new(viewer: &Viewer, address: String, alias: &str, mutation: &str, input: &Value) -> Self {
        let mut left = limits::AUDIT_BYTES;
        let input = cut(input, 0, &mut left);
        // Whoever is refused may have made its name up.
        let mutation = mutation.chars().take(limits::AUDIT_CHARS).collect();
        Self { viewer: viewer.clone(), address, alias: alias.to_owned(), mutation, input, noted: OnceLock::new() }
    }

    /// Whether it only asks for work: what comes of it, where something does, is in the audit.
    pub fn is_poll(&self) -> bool {
        matches!(self.mutation.as_str(), "claimSteps" | "renewSteps")
    }

    /// Whether it is in the audit.
    pub fn is_noted(&self) -> bool {
        self.noted.get().is_some()
    }

    /// The transaction that it was written in is committed.
    pub(crate) fn kept(&self) {
        let _ = self.noted.set(());
    }

    /// Writes it down, in the transaction of what it did.
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

/// Notes what was not done, or did nothing. Of one key so many are written one by one in a minute; what comes beyond is
/// counted, and written as one entry for each mutation, outcome and code when the minute is over.
pub async fn note(db: &Db, entry: &Arc<Entry>, outcome: AuditOutcome, code: Option<&str>) -> Result<()> {
    let (alone, over) = db.refusals().take(entry, outcome, code, db.now());
    let written = match alone {
        true => {
            let one =
                RefusalCount { entry: entry.clone(), outcome, code: code.map(str::to_owned), at: db.now(), times: 1 };
            write_beyond(db, vec![one]).await
        }
        false => Ok(()),
    };
    write_beyond(db, over).await.and(written)
}

/// Writes what was counted in minutes that are over.
pub async fn write_counted(db: &Db) -> Result<()> {
    write_beyond(db, db.refusals().over(db.now())).await
}

/// Writes all that was counted, also in minutes that are not over: the process ends.
pub async fn write_rest(db: &Db) -> Result<()> {
    write_beyond(db, db.refusals().over(db.now() + limits::AUDIT_MINUTE)).await
}

async fn write_beyond(db: &Db, over: Vec<RefusalCount>) -> Result<()> {
    if over.is_empty() {
        return Ok(());
    }
    let written = transact!(db, |tx| {
        for one in &over {
            let code = one.code.as_deref();
            one.entry.write_times(tx.db(), one.at, None, one.outcome, code, one.times).await?;
        }
        Ok(())
    });
    if written.is_err() {
        // Nothing of it was: it is written with what is counted next.
        db.refusals().put_back(over);
    }
    written
}

/// Lets entries go that have been kept for long enough, in bounded pieces. Returns their number.
pub async fn delete_expired(db: &Db) -> Result<u64> {
    let before = db.now() - chrono::Duration::days(i64::from(db.audit_days()));
    let mut gone = 0;
    for _ in 0..limits::AUDIT_FORGET_PIECES {
        let old = Entity::find().filter(COLUMN.at.lt(before)).limit(limits::CHUNK).all(db.read()).await?;
        if old.is_empty() {
            break;
        }
        let ids: Vec<AuditId> = old.iter().map(|row| row.id).collect();
        gone += transact!(db, |tx| {
            let these = any_of(tx.dialect(), COLUMN.id, ids.clone());
            Ok(Entity::delete_many().filter(these).exec(tx.db()).await?.rows_affected)
        })?;
    }
    Ok(gone)
}

/// Notes that a key of an org was shown in vain, as `authenticate`.
pub async fn rejected(db: &Db, key: &entity::api_key::Model, address: String, reason: &str) -> Result<()> {
    let Some(viewer) = Viewer::named_by_key(db, key).await? else { return Ok(()) };
    let entry = Entry::new(&viewer, address, "", "authenticate", &json!({ "reason": reason }));
    note(db, &Arc::new(entry), AuditOutcome::Refused, Some(crate::kernel::error::Code::Unauthenticated.as_str())).await
}

/// Those that the filter lets through, the newest first.
pub async fn page(db: &Db, viewer: &Viewer, filter: &Filter, args: &Args) -> Result<Page<Model>> {
    let fingerprint = page::fingerprint(&("audit", filter))?;
    page::page(db.read(), select(db, viewer, filter)?, &NEWEST_FIRST, &fingerprint, args).await
}

/// How many the filter lets through.
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

/// A refused input is kept too, so what the databases can't both hold is replaced.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// What was said, as far as it is kept: the audit tells what was asked for, and is no second place for its content.
fn cut(value: &Value, depth: usize, left: &mut usize) -> Value {
    // All parts of an input share its bound.
    let Some(after) = left.checked_sub(4) else { return json!("…") };
    *left = after;
    match value {
        Value::String(text) => json!(shortened(text, left)),
        Value::Number(number) if storable::number(number).is_err() => json!(shortened(&number.to_string(), left)),
        Value::Array(_) | Value::Object(_) if depth >= limits::FILTER_DEPTH => json!("…"),
        Value::Array(items) => {
            let mut kept: Vec<Value> =
                items.iter().take(limits::AUDIT_ITEMS).map(|item| cut(item, depth + 1, left)).collect();
            if items.len() > limits::AUDIT_ITEMS {
                kept.push(json!(format!("… {} in all", items.len())));
            }
            Value::Array(kept)
        }
        Value::Object(parts) => {
            let mut kept = serde_json::Map::new();
            for (name, part) in parts.iter().take(limits::AUDIT_ITEMS) {
                let name: String = storable(&name.chars().take(limits::AUDIT_CHARS).collect::<String>());
                *left = left.saturating_sub(name.len());
                kept.insert(name, cut(part, depth + 1, left));
            }
            Value::Object(kept)
        }
        plain => plain.clone(),
    }
}

fn shortened(text: &str, left: &mut usize) -> String {
    let most = limits::AUDIT_CHARS.min(*left);
    let kept = storable(&text.chars().take(most).collect::<String>());
    *left = left.saturating_sub(kept.len());
    if text.chars().nth(most).is_some() { format!("{kept}…") } else { kept }
}
