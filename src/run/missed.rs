//! Who was not reached by a run, nor by any run that repeats it: the records that a repeat or a retry of what failed is for.
//!
//! Runs that repeat only what failed stand in one family with the run whose audience they are of. Nobody whom one of the
//! family has reached, or left out for a reason, is reached again by another one of it.

use entity::id::*;
use entity::run::{COLUMN, Column, Entity, Model};
use entity::run_record::{self, Outcome, RecipientReason};
use entity::{CommunicationStatus, RunStatus, RunType, communication};
use sea_orm::sea_query::{Expr, ExprTrait, LikeExpr, Query, SelectStatement};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect};
use serde_json::json;

use super::{brief, sweep};
use crate::communication::compared;
use crate::db::batch::any_of;
use crate::db::dialect::Dialect;
use crate::error::{Error, Refusal, Result};
use crate::viewer::Viewer;

/// A run with those that repeat it.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// The run whose audience it is, and every run that repeats one of the family.
    all: Vec<Model>,
    dialect: Dialect,
}

impl Family {
    /// Reads the family of a run.
    pub(crate) async fn of(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<Self> {
        let mut base = run.clone();
        while let Some(parent) = base.parent_id {
            let told = brief::of(db, &base).await?;
            if !told.instructions.as_ref().is_some_and(|told| told.only_failed) {
                break;
            }
            base = super::must_find(db, viewer, parent).await?;
        }
        let mut all = vec![base];
        let mut newest: Vec<RunId> = all.iter().map(|run| run.id).collect();
        while !newest.is_empty() {
            let children = Entity::find()
                .filter(COLUMN.org_id.eq(viewer.org_id))
                .filter(any_of(db.get_database_backend(), Column::ParentId, newest.iter().copied()))
                .filter(COLUMN.run_type.ne(RunType::TestRun))
                .all(db)
                .await?;
            newest = children.iter().map(|run| run.id).collect();
            all.extend(children);
        }
        Ok(Self { all, dialect: db.get_database_backend().into() })
    }

    /// Refuses while another run of the family than this one is open: it may reach those whom this one would.
    pub(super) fn alone(&self, run: RunId) -> Result<()> {
        match self.all.iter().find(|other| other.id != run && other.status.is_open()) {
            Some(other) => {
                let told =
                    format!("the run {} of the same audience is {}: wait for it, or cancel it", other.id, other.status);
                Err(Refusal::conflict(told).with("runId", json!(other.id)).into())
            }
            None => Ok(()),
        }
    }

    /// The records that the family is through with: reached, or left out for a reason that stands.
    pub(super) fn closed(&self) -> SelectStatement {
        let mut records = Query::select();
        records
            .column(run_record::Column::RecordId)
            .from(run_record::Entity)
            .and_where(any_of(self.dialect, run_record::COLUMN.run_id, self.all.iter().map(|run| run.id)))
            .and_where(run_record::Column::RecordId.is_not_null())
            .and_where(open_ended().not());
        records
    }

    /// What went to some addresses, as they are compared, or may have gone: the message, its record, its step, the address.
    /// Neither tests nor meetings are among it.
    pub(crate) async fn written(
        &self,
        db: &impl ConnectionTrait,
        keys: &[String],
    ) -> Result<Vec<(CommunicationId, Option<RecordId>, StepId, String)>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found = communication::Entity::find()
            .select_only()
            .columns([
                communication::Column::Id,
                communication::Column::RecordId,
                communication::Column::StepId,
                communication::Column::ToAddress,
            ])
            .filter(any_of(self.dialect, communication::COLUMN.run_id, self.all.iter().map(|run| run.id)))
            .filter(communication::COLUMN.status.is_in([
                CommunicationStatus::Sending,
                CommunicationStatus::Sent,
                CommunicationStatus::Unknown,
            ]))
            .filter(communication::COLUMN.test.eq(false))
            .filter(communication::Column::MeetingId.is_null())
            .filter(any_of(self.dialect, compared(), keys.iter().cloned()));
        Ok(found.into_tuple().all(db).await?)
    }

    /// Those of some addresses, as they are compared, that it has reached or may have.
    pub(in crate::run) async fn reached(&self, db: &impl ConnectionTrait, keys: &[String]) -> Result<Vec<String>> {
        let reached: Vec<Option<String>> = run_record::Entity::find()
            .select_only()
            .column(run_record::Column::AddressKey)
            .filter(any_of(self.dialect, run_record::COLUMN.run_id, self.all.iter().map(|run| run.id)))
            .filter(any_of(self.dialect, run_record::Column::AddressKey, keys.iter().cloned()))
            .filter(run_record::COLUMN.outcome.is_in([Outcome::Sent, Outcome::Unknown]))
            .into_tuple()
            .all(db)
            .await?;
        Ok(reached.into_iter().flatten().collect())
    }

    /// The run whose audience the family is of.
    pub(super) fn base(&self) -> &Model {
        &self.all[0]
    }

    /// Whether it has but one run.
    fn is_single(&self) -> bool {
        self.all.len() == 1
    }
}

/// A place that was not closed well: given up, called off, or still open when its run ended.
fn open_ended() -> Expr {
    let outcome = || Expr::col(run_record::Column::Outcome);
    let called_off = outcome().eq(Outcome::Skipped.to_value()).and(is_because(RecipientReason::RunCancelled));
    // What is in hand may go out yet.
    let open = outcome().is_null().and(sweep::has_message(CommunicationStatus::Sending).not());
    // Never null, so that its opposite covers the rest.
    open.or(outcome().is_not_null().and(outcome().eq(Outcome::Failed.to_value()).or(called_off)))
}

/// The condition that a place has a reason's code, with any sentence behind it. Never null.
fn is_because(code: RecipientReason) -> Expr {
    let reason = || Expr::col(run_record::Column::Reason);
    let said = LikeExpr::new(format!("{}:%", code.to_string().replace('_', "\\_"))).escape('\\');
    reason().is_not_null().and(reason().eq(code.to_string()).or(reason().like(said)))
}

/// The records of a run that it did not reach, nor another one of its family.
pub(super) fn records(run: &Model, family: &Family) -> SelectStatement {
    let mut records = Query::select();
    records
        .column(run_record::Column::RecordId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.run_id.eq(run.id))
        .and_where(run_record::Column::RecordId.is_not_null())
        .and_where(open_ended())
        .and_where(run_record::Column::RecordId.not_in_subquery(family.closed()));
    records
}

/// Those of some runs that have recipients whom they did not reach themselves, whoever has reached them since.
pub async fn any_of_runs(db: &impl ConnectionTrait, viewer: &Viewer, ids: &[RunId]) -> Result<Vec<RunId>> {
    let found = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::RunId)
        .filter(run_record::COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), run_record::COLUMN.run_id, ids.iter().copied()))
        .filter(run_record::Column::RecordId.is_not_null())
        .filter(open_ended())
        .distinct();
    Ok(found.into_tuple().all(db).await?)
}

/// The refusal to try again those whom a run did not reach, where it has taken its whole audience in and reached all.
pub fn reached_all(run: &Model) -> Refusal {
    if run.run_type == RunType::TestRun {
        return Refusal::conflict("a test run is repeated whole: its recipients are not tried again one by one");
    }
    let told = format!("nobody of it is left to be reached: it is {}, and none of its recipients failed", run.status);
    Refusal::conflict(told)
}

/// The run whose places say who was meant: a run that ended before it had taken its audience in stands for the one that it
/// repeats. None: not even the first one had, so that its audience says so.
pub(super) async fn meant(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    run: Model,
    family: &Family,
) -> Result<Option<Model>> {
    let mut run = run;
    while !run.audience_done {
        if run.id == family.base().id {
            return Ok(None);
        }
        let parent = run.parent_id.ok_or_else(|| Error::ours("a run that repeats none"))?;
        run = super::must_find(db, viewer, parent).await?;
    }
    Ok(Some(run))
}

/// Refuses where nobody is left whom a repeat or a retry of what failed would reach; says why.
pub(super) async fn anybody(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model, family: &Family) -> Result<()> {
    let Some(meant) = meant(db, viewer, run.clone(), family).await? else { return Ok(()) };
    let left = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(meant.id))
        .filter(run_record::Column::RecordId.in_subquery(records(&meant, family)))
        .count(db)
        .await?;
    if left > 0 {
        return Ok(());
    }
    if family.is_single() {
        return Err(reached_all(run).into());
    }
    let told = "nobody of it is left to be reached: who failed was reached by a run that repeats it";
    Err(Refusal::conflict(told).into())
}

/// Whether a run that has ended can be tried again, beside its status and its campaign's; the refusal tells why not. The verb
/// asks the same. Completed: where some of its recipients failed, and no run that repeats it has reached them. Failed: where a
/// run repeats it that is not open, and somebody is left; says whether only those who are left are tried again.
pub async fn retryable(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<bool> {
    let only_left = match run.status {
        RunStatus::Completed => run.run_type != RunType::Guided,
        RunStatus::Failed => true,
        RunStatus::Scheduled | RunStatus::Queued | RunStatus::InProgress | RunStatus::Paused | RunStatus::Cancelled => {
            false
        }
    };
    if !only_left {
        return Ok(false);
    }
    let family = Family::of(db, viewer, run).await?;
    // Where nobody is written to, or nothing repeats it, what failed is tried again as a whole.
    if run.status == RunStatus::Failed && (family.is_single() || brief::of(db, run).await?.flow.silent) {
        return Ok(false);
    }
    family.alone(run.id)?;
    anybody(db, viewer, run, &family).await?;
    Ok(true)
}

/// Whether a run can be repeated over those who were not reached; the refusal tells why not. The verb asks the same.
pub async fn repeatable(db: &impl ConnectionTrait, viewer: &Viewer, run: &Model) -> Result<()> {
    if run.run_type == RunType::TestRun {
        return Err(Refusal::conflict("a test run is repeated whole").into());
    }
    let family = Family::of(db, viewer, run).await?;
    family.alone(run.id)?;
    anybody(db, viewer, run, &family).await
}
