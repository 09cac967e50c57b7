//! Applies bulk actions, for the engine: takes a few targets under a lease, and applies the verb to
//! each in a transaction that begins with the target's result.
//!
//! The transaction counts the result in the bulk action's row, which it thereby locks: nobody else
//! can settle the same target, a stop waits for it and prevents the next one, and the counts are those
//! of the results at any time. Targets get their results in order, so a process that takes over from
//! one that was killed knows the next one from the counts.

use std::collections::HashSet;

use entity::bulk_action::{self, BulkTransition, COLUMN, Column, Entity, Model};
use entity::id::*;
use entity::run::RunTransition;
use entity::{Actor, BulkResultStatus, BulkStatus, BulkVerb, bulk_result};
use sea_orm::sea_query::{Expr, ExprTrait, UpdateStatement};
use sea_orm::{
    ActiveEnum, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Set,
};
use serde_json::json;

use super::{apply_transition, check_role, emit};
use crate::domain::people::member;
use crate::domain::plan::campaign::archive;
use crate::domain::run::step::{self as steps, ActionInput};
use crate::domain::run::{control, resolve, retry};
use crate::kernel::db::{Db, Tx, WriteContext, fair};
use crate::kernel::error::{Code, Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits};
use crate::transact;

/// The process that works on a bulk action.
#[derive(Clone, Copy, Debug)]
pub struct BulkLease<'a> {
    /// The name of the process.
    pub owner: &'a str,
    /// The duration of the lease; each target renews it.
    pub duration: chrono::Duration,
}

/// A bulk action and its next targets.
#[derive(Debug)]
pub struct BulkChunk {
    /// The bulk action.
    pub action: Model,
    /// The targets, in order.
    pub targets: Vec<bulk_result::Model>,
}

/// Bulk actions to work on: of each org the one that has waited longest.
pub async fn open(db: &Db) -> Result<Vec<(OrgId, BulkActionId)>> {
    let candidates = Entity::find()
        // A literal, so that the partial index on open bulk actions is used.
        .filter(Expr::cust("bulk_action.status IN ('PENDING', 'RUNNING')"))
        .filter(COLUMN.lease_expires_at.is_null().or(COLUMN.lease_expires_at.lt(db.now())));
    let mut found = fair::in_turn(db.read(), candidates, &["taken_at", "id"], limits::BULK_OPEN).await?;
    let mut orgs = HashSet::new();
    found.retain(|(org_id, _)| orgs.insert(*org_id));
    Ok(found)
}

/// Takes a lease on a bulk action, and its next targets; `None` if it has ended, or another process
/// holds a lease. The first time, it begins.
pub async fn take(
    db: &WriteContext,
    org_id: OrgId,
    id: BulkActionId,
    lease: BulkLease<'_>,
) -> Result<Option<BulkChunk>> {
    let action = transact!(db, |tx| {
        let found = super::must_lock(tx, &Viewer::engine(org_id), id, None).await?;
        if !found.status.is_open() || found.lease_expires_at.is_some_and(|at| at >= tx.now()) {
            return Ok(None);
        }
        let set = |row: &mut bulk_action::ActiveModel| {
            row.lease_owner = Set(Some(lease.owner.to_owned()));
            row.lease_expires_at = Set(Some(tx.now() + lease.duration));
            row.taken_at = Set(tx.now());
        };
        if found.status == BulkStatus::Pending {
            let begun = apply_transition(tx, &Actor::engine(), found, BulkTransition::Start, |row| {
                set(row);
                row.started_at = Set(Some(tx.now()));
            })
            .await?;
            return Ok(Some(begun));
        }
        let mut row = found.into_active_model();
        set(&mut row);
        Ok(Some(row.update(tx.db()).await?))
    })?;
    let Some(action) = action else { return Ok(None) };
    let targets = bulk_result::Entity::find()
        .filter(bulk_result::COLUMN.bulk_action_id.eq(action.id))
        .filter(bulk_result::COLUMN.sequence.gt(action.settled()))
        .order_by_asc(bulk_result::COLUMN.sequence)
        .limit(limits::BULK_CHUNK)
        .all(db.read())
        .await?;
    Ok(Some(BulkChunk { action, targets }))
}

/// Applies the verb to one target, as the actor that started the bulk action, with the role that it
/// has now, and stores its result: each of these verbs is one transaction. Errors are those of the
/// single mutation; nothing is stored then.
pub async fn apply(db: &WriteContext, action: &Model, target: &bulk_result::Model, lease: BulkLease<'_>) -> Result<()> {
    let viewer = &viewer(db, action).await?;
    check_role(viewer, action.verb)?;
    let db = &db.clone().with_claims(claims(db, action, target, lease, (BulkResultStatus::Done, None, None)));
    let (run, step) = (RunId(target.target_id), StepId(target.target_id));
    let reason = action.reason.as_deref();
    let act = async |act: steps::Action| {
        let input = ActionInput { result: None, reason: action.reason.clone(), code: None };
        Box::pin(steps::act::apply_action(db, viewer, step, None, act, &input)).await.map(drop)
    };
    match action.verb {
        BulkVerb::CancelRuns => Box::pin(control::cancel(db, viewer, run, None, reason)).await.map(drop),
        BulkVerb::RetryRuns => Box::pin(retry::retry(db, viewer, run, None, reason)).await.map(drop),
        BulkVerb::PauseRuns | BulkVerb::ResumeRuns => {
            let transition =
                if action.verb == BulkVerb::PauseRuns { RunTransition::Pause } else { RunTransition::Resume };
            Box::pin(control::pause_or_resume(db, viewer, run, None, transition, reason)).await.map(drop)
        }
        BulkVerb::ApproveSteps => act(steps::Action::Approve).await,
        BulkVerb::RejectSteps => act(steps::Action::Reject).await,
        BulkVerb::SkipSteps => act(steps::Action::Skip).await,
        BulkVerb::AssignSteps => {
            Box::pin(steps::assign::assign(db, viewer, step, None, action.assignee_id)).await.map(drop)
        }
        BulkVerb::ResolveCommunications => {
            let missing = || Error::internal("a bulk action that resolves messages without a resolution");
            let (id, resolution) = (CommunicationId(target.target_id), action.resolution.ok_or_else(missing)?);
            Box::pin(resolve::resolve(db, viewer, id, None, resolution)).await.map(drop)
        }
        BulkVerb::ArchiveCampaigns => {
            Box::pin(archive::set(db, viewer, CampaignId(target.target_id), None, true, reason)).await.map(drop)
        }
    }
}

/// Stores the result of a target that `apply` has returned an error for. Returns false if the bulk
/// action is no longer this process's: it was stopped, or the lease was lost. Errors: the failure
/// itself if it is transient; the target is tried again then.
pub async fn settle(
    db: &WriteContext,
    action: &Model,
    target: &bulk_result::Model,
    lease: BulkLease<'_>,
    outcome: Result<()>,
) -> Result<bool> {
    let result = match outcome {
        Ok(()) => {
            failpoint::reach("bulk_settled");
            return Ok(true);
        }
        Err(err) if err.is_transient() => return Err(err),
        Err(Error::Refused(refusal)) => {
            (BulkResultStatus::Refused, Some(refusal.code.as_str().to_owned()), Some(refusal.message))
        }
        Err(Error::Internal(fault)) if let Some(message) = fault.conflict() => {
            (BulkResultStatus::Refused, Some(Code::Conflict.as_str().to_owned()), Some(message.to_owned()))
        }
        Err(err) => {
            log_failure!(error, err, bulk_action = %action.id, sequence = target.sequence, "a target of a bulk action failed");
            (BulkResultStatus::Failed, Some("INTERNAL".to_owned()), Some(err.public_message()))
        }
    };
    let db = db.clone().with_claims(claims(db, action, target, lease, result));
    let stored: Result<()> = async {
        transact!(db, |tx| {
            let _ = tx;
            Ok(())
        })
    }
    .await;
    match stored {
        Ok(()) => Ok(true),
        Err(Error::Refused(_)) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Gives the lease back, and completes a bulk action whose targets all have results. `settled` is the
/// number of targets that got theirs in this turn.
pub async fn give_back(db: &WriteContext, action: &Model, lease: BulkLease<'_>, settled: usize) -> Result<()> {
    transact!(db, |tx| {
        let found = super::must_lock(tx, &Viewer::engine(action.org_id), action.id, None).await?;
        if found.status != BulkStatus::Running || found.lease_owner.as_deref() != Some(lease.owner) {
            return Ok(());
        }
        let free = |row: &mut bulk_action::ActiveModel| {
            row.lease_owner = Set(None);
            row.lease_expires_at = Set(None);
        };
        if found.settled() == found.matched {
            apply_transition(tx, &Actor::engine(), found, BulkTransition::Complete, |row| {
                free(row);
                row.ended_at = Set(Some(tx.now()));
            })
            .await?;
            return Ok(());
        }
        if settled > 0 {
            emit(tx, &Actor::engine(), "bulk_action.progressed", &found, json!({}));
        }
        update(tx, found, free).await
    })
}

async fn update(tx: &Tx, row: Model, set: impl FnOnce(&mut bulk_action::ActiveModel)) -> Result<()> {
    let mut row = row.into_active_model();
    set(&mut row);
    row.update(tx.db()).await?;
    Ok(())
}

/// The actor that started a bulk action, with the role that it has now. Errors: FORBIDDEN if the
/// member no longer exists.
async fn viewer(db: &Db, action: &Model) -> Result<Viewer> {
    let actor = action.created_by.clone();
    let mut role = action.role;
    if let Some(id) = actor.member_id {
        let found = member::find(db.read(), &Viewer::engine(action.org_id), id).await?;
        let Some(found) = found else {
            let message = format!("{}, who started this, is no longer a member", actor.name);
            return Err(Refusal::new(Code::Forbidden, message).into());
        };
        role = role.within(found.role);
    }
    Ok(Viewer { actor, role, ..Viewer::engine(action.org_id) })
}

/// The updates that give a target its result: each changes one row, unless the target has a result, or
/// the bulk action is no longer this process's.
fn claims(
    db: &Db,
    action: &Model,
    target: &bulk_result::Model,
    lease: BulkLease<'_>,
    (status, code, message): (BulkResultStatus, Option<String>, Option<String>),
) -> Vec<UpdateStatement> {
    let counter = match status {
        BulkResultStatus::Pending | BulkResultStatus::Done => Column::Done,
        BulkResultStatus::Refused => Column::Refused,
        BulkResultStatus::Failed => Column::Failed,
    };
    let counted = Entity::update_many()
        .col_expr(counter, Expr::col(counter).add(1))
        .col_expr(Column::LeaseExpiresAt, Expr::value(db.now() + lease.duration))
        .filter(COLUMN.id.eq(action.id))
        .filter(COLUMN.status.eq(BulkStatus::Running))
        .filter(COLUMN.lease_owner.eq(lease.owner));
    let settled = bulk_result::Entity::update_many()
        .col_expr(bulk_result::Column::Status, Expr::value(status.to_value()))
        .col_expr(bulk_result::Column::Code, Expr::value(code))
        .col_expr(bulk_result::Column::Message, Expr::value(message))
        .filter(bulk_result::COLUMN.bulk_action_id.eq(target.bulk_action_id))
        .filter(bulk_result::COLUMN.sequence.eq(target.sequence))
        .filter(bulk_result::COLUMN.status.eq(BulkResultStatus::Pending));
    vec![counted.into_query(), settled.into_query()]
}
