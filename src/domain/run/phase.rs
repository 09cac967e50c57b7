//! Phases of a run: lookups, and their release by a person.

use async_graphql::Enum;
use entity::id::*;
use entity::phase::{COLUMN, Entity, Model};
use entity::{PhaseStatus, RunStatus, run};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, Set,
};

use super::advance;
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(phase, PhaseId, "phase");

/// Phases of some runs, in order.
pub async fn of_runs(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[RunId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.run_id, runs.iter().copied()))
        .order_by_asc(COLUMN.sequence)
        .all(db)
        .await?)
}

/// Action on a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "PhaseAction")]
pub enum Action {
    /// Releases the phase.
    Release,
}

/// Checks that the phase can be released now; the error names the reason. `release` calls the same
/// check.
pub fn check_release_allowed(run: &run::Model, phase: &Model) -> Result<()> {
    let why = if run.status != RunStatus::InProgress {
        format!("phases are released only in a run that is IN_PROGRESS; this one is {}", run.status)
    } else if phase.status != PhaseStatus::Active {
        format!("only an ACTIVE phase is released; this one is {}", phase.status)
    } else if phase.autonomous {
        "an autonomous phase needs no release".to_owned()
    } else if let Some(actor) = &phase.person_act {
        format!("{} has released it already", actor.name)
    } else {
        return Ok(());
    };
    Err(Refusal::conflict(why).into())
}

/// Releases a phase that is not autonomous. Errors: NOT_FOUND, CONFLICT.
pub async fn release(db: &Db, viewer: &Viewer, id: PhaseId, expected: Option<i32>) -> Result<Model> {
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, run_id, None).await?;
        let phase = must_find(tx.db(), viewer, id).await?;
        validate::expect("phase", phase.revision, expected)?;
        check_release_allowed(&run, &phase)?;
        let revision = phase.revision;
        let mut row = phase.into_active_model();
        row.person_act = Set(Some(viewer.actor()));
        row.revision = Set(revision + 1);
        row.update(tx.db()).await?;
        advance::advance(tx, viewer, run).await?;
        tx.set_result(id);
        must_find(tx.db(), viewer, id).await
    })
}
