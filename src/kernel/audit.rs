//! The audit log: each mutation with its principal, address and outcome.
//!
//! A successful mutation is recorded in its own transaction; a rejected or ineffective one
//! afterwards.

pub(crate) mod entry;
pub(crate) mod refusals;

use std::sync::Arc;

use entity::AuditOutcome;
use entity::audit::{COLUMN, Entity, Model};
use entity::id::*;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use serde_json::json;

use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::page::{self, Args, Page};
use crate::kernel::viewer::Viewer;
use crate::transact;
pub use entry::Entry;
use refusals::RefusalCount;

scoped!(audit, AuditId, "audit entry");

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

/// Records a mutation that was rejected or had no effect. Each key has a number of single entries
/// per minute; further ones are counted, and written as one entry per mutation, outcome and code
/// when the minute is over.
pub async fn record(db: &Db, entry: &Arc<Entry>, outcome: AuditOutcome, code: Option<&str>) -> Result<()> {
    let (single, due) = db.refusals().take(entry, outcome, code, db.now());
    let written = match single {
        true => {
            let one =
                RefusalCount { entry: entry.clone(), outcome, code: code.map(str::to_owned), at: db.now(), times: 1 };
            write_counts(&db.write(), vec![one]).await
        }
        false => Ok(()),
    };
    write_counts(&db.write(), due).await.and(written)
}

/// Writes the counts of minutes that are over.
pub async fn write_counted(db: &WriteContext) -> Result<()> {
    write_counts(db, db.refusals().due(db.now())).await
}

/// Writes all counts, including those of the current minute, when the process ends.
pub async fn write_rest(db: &Db) -> Result<()> {
    write_counts(&db.write(), db.refusals().due(db.now() + limits::AUDIT_MINUTE)).await
}

async fn write_counts(db: &WriteContext, counts: Vec<RefusalCount>) -> Result<()> {
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
pub async fn delete_expired(db: &WriteContext) -> Result<u64> {
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
    record(db, &Arc::new(entry), AuditOutcome::Refused, Some(crate::kernel::error::Code::Unauthenticated.as_str()))
        .await
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
