//! The settle of messages that people let out: the ledger, the queue, the activities, the step's result.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::queued_message::{COLUMN, Column, Entity, Model};
use entity::step::StepStatus;
use entity::{RunStatus, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{Came, renew};
use crate::domain::message::send_queue as queue;
use crate::domain::run::{self as runs, retry};
use crate::engine::EngineContext;
use crate::engine::failed_work::{FailedWork, guarded};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::stuck::{StuckWork, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits, storable};
use crate::step_kind::Outcome;
use crate::step_kind::send;
use crate::transact;

/// Settles each run's messages, and tries again while the database is away: what was done is done, and nobody else knows.
/// Where that fails, in halves: one bad message stays alone, and its fate is for a person to say.
pub(super) async fn keep(context: &EngineContext, claimed: &[Model], came: &[(usize, Came)]) -> Result<()> {
    let begun = tokio::time::Instant::now();
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<(&Model, &Came)>> = BTreeMap::new();
    for (number, came) in came {
        let Some(posting) = claimed.get(*number) else { continue };
        by_run.entry((posting.org_id, posting.run_id)).or_default().push((posting, came));
    }
    let aside = FailedWork::of(context, &[StuckWork::Settle]).await.unwrap_or_default();
    for ((org_id, run_id), mine) in by_run {
        let mut outcome = Ok(());
        let mut open: Vec<&[(&Model, &Came)]> = vec![&mine];
        while let Some(part) = open.pop() {
            match with_retries(context, claimed, org_id, run_id, part, begun).await {
                Err(err) if err.passes() => return Err(err),
                Err(err) if part.len() > 1 => {
                    log_failure!(warn, err, messages = part.len(), "a settle of messages failed; trying halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                }
                Err(err) => {
                    log_failure!(error, err, message = %part[0].0.communication_id, "a message could not be settled");
                    let unkept = send::unkept(part[0].1, &format!("UNSTORABLE: {}", err.told()));
                    let part = [(part[0].0, &unkept)];
                    outcome = outcome.and(with_retries(context, claimed, org_id, run_id, &part, begun).await);
                }
                Ok(()) => {}
            }
        }
        aside.keep(context, WorkItem::of_run(StuckWork::Settle, org_id, run_id), outcome).await;
    }
    Ok(())
}

/// Settles messages of a run, again and again while the database is away.
async fn with_retries(
    context: &EngineContext,
    claimed: &[Model],
    org_id: OrgId,
    run_id: RunId,
    part: &[(&Model, &Came)],
    begun: tokio::time::Instant,
) -> Result<()> {
    let mut pause = std::time::Duration::from_millis(50);
    loop {
        match guarded(settle(context, org_id, run_id, part)).await {
            Err(err) if err.passes() && begun.elapsed() < limits::KEEP => {
                log_failure!(warn, err, "messages could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
                let _ = renew(context, claimed).await;
            }
            outcome => return outcome,
        }
    }
}

/// Settles messages of one run in one transaction: the ledger, the queue, the activities, the step's result. Who comes late
/// finds no row.
async fn settle(context: &EngineContext, org_id: OrgId, run_id: RunId, mine: &[(&Model, &Came)]) -> Result<()> {
    let engine = Viewer::engine(org_id);
    transact!(context.db, |tx| {
        let run = runs::must_lock(tx, &engine, run_id, None).await?;
        let ids: Vec<CommunicationId> = mine.iter().map(|(posting, _)| posting.communication_id).collect();
        let held = queue::of(tx, &ids).await?;
        let still = |posting: &Model| {
            held.iter().any(|now| {
                now.communication_id == posting.communication_id
                    && now.attempt == posting.attempt
                    && now.lease_owner.as_ref() == Some(&context.worker)
            })
        };
        let mine: Vec<(&Model, &Came)> = mine.iter().copied().filter(|(posting, _)| still(posting)).collect();
        // The ledger first: what was handed over, and what became of it.
        let told =
            mine.iter().filter_map(|(posting, came)| Some((came.note()?, is_later(came) || again(posting, came))));
        let rows = told.map(|((id, delivery), again)| {
            send::row(*id, delivery, if again { StepStatus::Queued } else { StepStatus::Failed }, tx)
        });
        let rows = rows.collect();
        let sent = send::settle(tx, &run, rows).await?;
        send::contacted(tx, &sent).await?;
        give_up(tx, &run, mine.iter().copied().filter(|(posting, came)| !again(posting, came))).await?;
        let mut back: BTreeMap<(DateTime<Utc>, bool), Vec<CommunicationId>> = BTreeMap::new();
        for (posting, came) in &mine {
            let (at, failed) = match came {
                Outcome::Later { at, .. } => (*at, false),
                _ if again(posting, came) => (tx.now() + retry::pause(posting.failures + 1, None), true),
                _ => continue,
            };
            back.entry((at, failed)).or_default().push(posting.communication_id);
        }
        for ((at, failed), ids) in back {
            put_back(tx, &ids, at, failed).await?;
        }
        let over: Vec<&Model> = mine
            .iter()
            .filter(|(posting, came)| !is_later(came) && !again(posting, came))
            .map(|(posting, _)| *posting)
            .collect();
        let through = communication::Entity::find()
            .filter(any_of(tx.dialect(), communication::COLUMN.id, over.iter().map(|posting| posting.communication_id)))
            .order_by_asc(communication::COLUMN.step_id)
            .order_by_asc(communication::COLUMN.id)
            .all(tx.db())
            .await?;
        let settled: Vec<(Model, communication::Model)> = through
            .into_iter()
            // One that could not be reserved and is still let out goes another time.
            .filter(|message| message.status != CommunicationStatus::Approved)
            .filter_map(|message| {
                let posting = over.iter().find(|posting| posting.communication_id == message.id)?;
                Some(((*posting).clone(), message))
            })
            .collect();
        let places: Vec<RunRecordId> = settled.iter().map(|(_, message)| message.run_record_id).collect();
        let (cancelled, ended) = (run.status == RunStatus::Cancelled, !run.status.is_open());
        let run = queue::through(tx, run, &settled).await?;
        if cancelled {
            called_off(tx, &engine, &run, &mine).await?;
        }
        if ended {
            // What was said of the places at its end was said before this.
            runs::sweep::close::follow(tx, &places).await?;
        }
        failpoint::reach("posting_settled");
        Ok(())
    })
}

/// What was in hand when its run was cancelled, and goes no more: its message and its place in the queue are closed with the
/// run, which its sweep may have gone through already.
async fn called_off(tx: &Tx, engine: &Viewer, run: &run::Model, mine: &[(&Model, &Came)]) -> Result<()> {
    let ids = mine.iter().map(|(posting, _)| posting.communication_id);
    let places: Vec<RunRecordId> = communication::Entity::find()
        .select_only()
        .column(communication::Column::RunRecordId)
        .filter(any_of(tx.dialect(), communication::COLUMN.id, ids))
        .into_tuple()
        .all(tx.db())
        .await?;
    runs::sweep::cancel::settled(tx, engine, run, &places).await?;
    queue::drop_cancelled(tx, run).await
}

/// Messages that could not even be handed over, as often as that was tried: they have failed.
async fn give_up<'a>(tx: &Tx, run: &run::Model, mine: impl Iterator<Item = (&'a Model, &'a Came)>) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    for (posting, came) in mine {
        let Outcome::Failed { why, note: None, .. } = came else { continue };
        // One that had been reserved may have gone out: that is for a person to say.
        let reserved = Expr::col(communication::Column::Id)
            .eq(posting.communication_id)
            .and(Expr::col(communication::Column::Status).eq(CommunicationStatus::Sending.to_value()));
        crate::domain::message::communication::mark_unknown(tx, &engine, run, reserved).await?;
        let failed = communication::Entity::update_many()
            .col_expr(communication::Column::Status, Expr::value(CommunicationStatus::Failed.to_value()))
            .col_expr(communication::Column::Error, Expr::value(storable::reason(why)))
            .col_expr(communication::Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(communication::Column::Revision, Expr::col(communication::Column::Revision).add(1))
            .filter(communication::COLUMN.id.eq(posting.communication_id))
            .filter(communication::COLUMN.status.eq(CommunicationStatus::Approved))
            .exec_with_returning(tx.db())
            .await?;
        // Two edges of the law in one write: taken in hand, and come to its end.
        let (from, between) = (CommunicationStatus::Approved, CommunicationStatus::Sending);
        for row in &failed {
            let begun = communication::Model { status: between, ..row.clone() };
            crate::domain::message::communication::emit(tx, &engine, run, "communication.sending", &begun, from, None);
            crate::domain::message::communication::emit(
                tx,
                &engine,
                run,
                "communication.failed",
                row,
                between,
                Some(why.as_str()),
            );
        }
    }
    Ok(())
}

fn is_later(came: &Came) -> bool {
    matches!(came, Outcome::Later { .. })
}

/// Whether it was refused so that it goes once more.
fn again(posting: &Model, came: &Came) -> bool {
    matches!(came, Outcome::Failed { again: true, .. }) && posting.failures + 1 < entity::definition::ATTEMPTS
}

async fn put_back(tx: &Tx, ids: &[CommunicationId], at: DateTime<Utc>, failed: bool) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::LeaseOwner, Expr::value(Option::<String>::None))
        .col_expr(Column::LeaseExpiresAt, Expr::value(Option::<DateTime<Utc>>::None))
        .col_expr(Column::AvailableAt, Expr::value(at))
        .col_expr(Column::Failures, Expr::col(Column::Failures).add(i32::from(failed)))
        .filter(any_of(tx.dialect(), COLUMN.communication_id, ids.iter().copied()))
        .exec(tx.db())
        .await?;
    Ok(())
}
