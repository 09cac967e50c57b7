//! Skips open steps that nobody holds.

use std::collections::HashMap;

use entity::id::*;
use entity::step::{self, Executor, StepStatus};
use entity::{RunType, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, QueryFilter};

use super::step::{Change, ReasonText, record_changes, skip_open};
use super::sweep::close;
use super::{early_events, unhandled_replies};
use crate::domain::message::communication;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Skips steps, with their events.
pub(crate) async fn skip(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    steps: Vec<step::Model>,
    why: &ReasonText,
) -> Result<()> {
    let statuses: HashMap<StepId, StepStatus> = steps.iter().map(|step| (step.id, step.status)).collect();
    let mut skipping = skip_open();
    // A result that a person rejected does not count. Guided work keeps its counts.
    if run.run_type != RunType::Guided {
        let by_engine = Expr::col(step::Column::AssignedTo)
            .eq(Executor::Workflow.to_value())
            .and(Expr::col(step::Column::Outside).eq(false));
        let kept = Expr::case(by_engine, Expr::col(step::Column::Result));
        skipping = skipping.col_expr(step::Column::Result, kept.into());
    }
    let skipped = skipping
        .col_expr(step::Column::Error, Expr::value(why.text.clone()))
        .col_expr(step::Column::Reason, Expr::value(why.code.to_value()))
        .col_expr(step::Column::CompletedAt, Expr::value(tx.now()))
        .col_expr(step::Column::CompletedBy, Expr::value(serde_json::to_value(viewer.actor())?))
        .filter(any_of(tx.dialect(), step::COLUMN.id, steps.iter().map(|step| step.id)))
        .filter(step::COLUMN.lease_owner.is_null())
        .exec_with_returning(tx.db())
        .await?;
    unhandled_replies::follow_up(tx, viewer, run, skipped.iter()).await?;
    let changes: Vec<Change> = skipped
        .into_iter()
        .map(|step| Change {
            from: statuses.get(&step.id).copied(),
            step,
            kind: "step.skipped",
            reason: Some(why.text.clone()),
        })
        .collect();
    record_changes(tx, run, &viewer.actor(), &changes).await?;
    Ok(())
}

/// Skips steps that nobody holds because of an event, with their messages and recipients.
pub(super) async fn interrupted(tx: &Tx, run: &run::Model, open: Vec<step::Model>, name: &str) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    let stopped: Vec<RunRecordId> = open.iter().filter_map(|step| step.run_record_id).collect();
    communication::cancel_unsent(tx, &engine, run, &stopped, name).await?;
    close::interrupted(tx, &stopped, name).await?;
    skip(tx, &engine, run, open, &early_events::interrupted_by(name)).await
}
