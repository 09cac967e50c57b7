//! The audit: who asked for which mutation, from where, and what became of it. What was done is noted in its own transaction,
//! what was not, after it.

use std::sync::OnceLock;

use entity::AuditOutcome;
use entity::audit::{ActiveModel, COLUMN, Entity, Model};
use entity::id::*;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, Set};
use serde_json::{Value, json};

use crate::db::Db;
use crate::db::batch::any_of;
use crate::error::Result;
use crate::page::{self, Args, Page};
use crate::viewer::Viewer;
use crate::{gate, limits, transact};

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
        let (alias, mutation) = (alias.to_owned(), mutation.to_owned());
        Self { viewer: viewer.clone(), address, alias, mutation, input: cut(input, 0), noted: OnceLock::new() }
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
        };
        row.insert(db).await?;
        Ok(())
    }
}

/// Notes what was not done, or did nothing.
pub async fn note(db: &Db, entry: &Entry, outcome: AuditOutcome, code: Option<&str>) -> Result<()> {
    transact!(db, |tx| entry.write(tx.db(), tx.now(), None, outcome, code).await)
}

/// Notes that a key of an org was shown in vain, as `authenticate`.
pub async fn rejected(db: &Db, key: &entity::api_key::Model, address: String, reason: &str) -> Result<()> {
    let Some(viewer) = Viewer::named_by_key(db, key).await? else { return Ok(()) };
    let entry = Entry::new(&viewer, address, "", "authenticate", &json!({ "reason": reason }));
    note(db, &entry, AuditOutcome::Refused, Some(crate::error::Code::Unauthenticated.as_str())).await
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
            crate::input::ids::<MemberId>(ids, "filter", "memberIds")?,
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
fn cut(value: &Value, depth: usize) -> Value {
    match value {
        Value::String(text) if text.chars().nth(limits::AUDIT_CHARS).is_some() => {
            let kept: String = text.chars().take(limits::AUDIT_CHARS).collect();
            json!(format!("{}…", storable(&kept)))
        }
        Value::String(text) => json!(storable(text)),
        Value::Number(number) if gate::number(number).is_err() => json!(number.to_string()),
        Value::Array(_) | Value::Object(_) if depth >= limits::FILTER_DEPTH => json!("…"),
        Value::Array(items) => {
            let mut kept: Vec<Value> =
                items.iter().take(limits::AUDIT_ITEMS).map(|item| cut(item, depth + 1)).collect();
            if items.len() > limits::AUDIT_ITEMS {
                kept.push(json!(format!("… {} in all", items.len())));
            }
            Value::Array(kept)
        }
        Value::Object(parts) => {
            let kept =
                parts.iter().take(limits::AUDIT_ITEMS).map(|(name, part)| (storable(name), cut(part, depth + 1)));
            Value::Object(kept.collect())
        }
        plain => plain.clone(),
    }
}
