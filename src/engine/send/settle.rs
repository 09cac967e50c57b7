//! Settles messages that people have released: updates the ledger, the send queue, the activities
//! and the step's result.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::queued_message::{COLUMN, Column, Entity, Model};
use entity::step::StepStatus;
use entity::{RunStatus, RunType, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{SendOutcome, renew_leases};
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

/// Settles each run's messages. Retries while the database is unavailable: the messages are sent,
/// and only this process knows their outcomes. If a settle fails, settles in halves: the one
/// message that can't be settled gets an unknown outcome, which a person resolves.
pub(super) async fn settle_batch(
    context: &EngineContext,
    claimed: &[Model],
    outcomes: &[(usize, SendOutcome)],
) -> Result<()> {
    let begun = tokio::time::Instant::now();
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<(&Model, &SendOutcome)>> = BTreeMap::new();
    for (number, outcome) in outcomes {
        let Some(message) = claimed.get(*number) else { continue };
        by_run.entry((message.org_id, message.run_id)).or_default().push((message, outcome));
    }
    let failed_work = FailedWork::read(context, &[StuckWork::Settle]).await.unwrap_or_default();
    for ((org_id, run_id), sent) in by_run {
        let mut outcome = Ok(());
        let mut open: Vec<&[(&Model, &SendOutcome)]> = vec![&sent];
        while let Some(part) = open.pop() {
            match with_retries(context, claimed, org_id, run_id, part, begun).await {
                Err(err) if err.is_transient() => return Err(err),
                Err(err) if part.len() > 1 => {
                    log_failure!(warn, err, messages = part.len(), "a settle of messages failed; trying halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                }
                Err(err) => {
                    log_failure!(error, err, message = %part[0].0.communication_id, "a message could not be settled");
                    let unstorable = send::unstorable(part[0].1, &format!("UNSTORABLE: {}", err.public_message()));
                    let part = [(part[0].0, &unstorable)];
                    outcome = outcome.and(with_retries(context, claimed, org_id, run_id, &part, begun).await);
                }
                Ok(()) => {}
            }
        }
        failed_work.record(context, WorkItem::of_run(StuckWork::Settle, org_id, run_id), outcome).await;
    }
    Ok(())
}

/// Settles messages of a run, with retries while the database is unavailable.
async fn with_retries(
    context: &EngineContext,
    claimed: &[Model],
    org_id: OrgId,
    run_id: RunId,
    part: &[(&Model, &SendOutcome)],
    begun: tokio::time::Instant,
) -> Result<()> {
    let mut pause = std::time::Duration::from_millis(50);
    loop {
        match guarded(settle(context, org_id, run_id, part)).await {
            Err(err) if err.is_transient() && begun.elapsed() < limits::SETTLE_RETRY_TIME => {
                log_failure!(warn, err, "messages could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
                let _ = renew_leases(context, claimed).await;
            }
            outcome => return outcome,
        }
    }
}

/// Settles messages of one run in one transaction: the ledger, the queue, the activities, the
/// step's result. A message whose lease was lost meanwhile matches no row and is ignored.
async fn settle(context: &EngineContext, org_id: OrgId, run_id: RunId, mine: &[(&Model, &SendOutcome)]) -> Result<()> {
    let engine = Viewer::engine(org_id);
    transact!(context.db, |tx| {
        let run = runs::must_lock(tx, &engine, run_id, None).await?;
        let ids: Vec<CommunicationId> = mine.iter().map(|(queued, _)| queued.communication_id).collect();
        let held = queue::of(tx, &ids).await?;
        let is_held = |queued: &Model| {
            held.iter().any(|now| {
                now.communication_id == queued.communication_id
                    && now.attempt == queued.attempt
                    && now.lease_owner.as_ref() == Some(&context.worker)
            })
        };
        let mine: Vec<(&Model, &SendOutcome)> = mine.iter().copied().filter(|(queued, _)| is_held(queued)).collect();
        // The ledger first: what was handed over, with its outcome.
        let delivered = mine
            .iter()
            .filter_map(|(queued, outcome)| Some((outcome.data()?, is_later(outcome) || is_retried(queued, outcome))));
        let rows = delivered.map(|((id, delivery), is_retried)| {
            send::row(*id, delivery, if is_retried { StepStatus::Queued } else { StepStatus::Failed }, tx)
        });
        let rows = rows.collect();
        let sent = send::settle(tx, &run, rows).await?;
        send::contacted(tx, &sent).await?;
        give_up(tx, &run, mine.iter().copied().filter(|(queued, outcome)| !is_retried(queued, outcome))).await?;
        let unsent: Vec<CommunicationId> = mine
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Later { data: None, .. }))
            .map(|(queued, _)| queued.communication_id)
            .collect();
        let turns = send::meeting_turns::next_tries(tx, &unsent).await?;
        let mut back: BTreeMap<(DateTime<Utc>, bool), Vec<CommunicationId>> = BTreeMap::new();
        for (queued, outcome) in &mine {
            let (at, failed) = match outcome {
                Outcome::Later { at, .. } => (turns.get(&queued.communication_id).copied().unwrap_or(*at), false),
                _ if is_retried(queued, outcome) => (tx.now() + retry::pause(queued.failures + 1, None), true),
                _ => continue,
            };
            back.entry((at, failed)).or_default().push(queued.communication_id);
        }
        for ((at, failed), ids) in back {
            put_back(tx, &ids, at, failed).await?;
        }
        let ended_messages: Vec<&Model> = mine
            .iter()
            .filter(|(queued, outcome)| !is_later(outcome) && !is_retried(queued, outcome))
            .map(|(queued, _)| *queued)
            .collect();
        let through = communication::Entity::find()
            .filter(any_of(
                tx.dialect(),
                communication::COLUMN.id,
                ended_messages.iter().map(|queued| queued.communication_id),
            ))
            .order_by_asc(communication::COLUMN.step_id)
            .order_by_asc(communication::COLUMN.id)
            .all(tx.db())
            .await?;
        let settled: Vec<(Model, communication::Model)> = through
            .into_iter()
            // One that could not be reserved but is still released is sent another time.
            .filter(|message| message.status != CommunicationStatus::Approved)
            .filter_map(|message| {
                let queued = ended_messages.iter().find(|queued| queued.communication_id == message.id)?;
                Some(((*queued).clone(), message))
            })
            .collect();
        let recipients: Vec<RunRecordId> = settled.iter().map(|(_, message)| message.run_record_id).collect();
        let cancelled = run.status == RunStatus::Cancelled;
        // In a campaign's run, what people wrote decides nothing about the recipients.
        let decides = !run.status.is_open() && run.run_type == RunType::Guided;
        let run = queue::settle(tx, run, &settled).await?;
        if cancelled {
            close_cancelled(tx, &engine, &run, &mine).await?;
        }
        if decides {
            // The run ended before this: its recipients' outcomes are updated.
            runs::sweep::close::update_outcomes(tx, &recipients).await?;
        }
        failpoint::reach("posting_settled");
        Ok(())
    })
}

/// Closes messages that were in flight when their run was cancelled, and their entries in the
/// queue: the run's sweep may already have passed them.
async fn close_cancelled(tx: &Tx, engine: &Viewer, run: &run::Model, mine: &[(&Model, &SendOutcome)]) -> Result<()> {
    let ids = mine.iter().map(|(queued, _)| queued.communication_id);
    if run.run_type != RunType::Guided {
        let these = Condition::all().add(any_of(tx.dialect(), communication::COLUMN.id, ids));
        return queue::withdraw(tx, engine, run, these, "the run was cancelled").await;
    }
    let recipients: Vec<RunRecordId> = communication::Entity::find()
        .select_only()
        .column(communication::Column::RunRecordId)
        .filter(any_of(tx.dialect(), communication::COLUMN.id, ids))
        .into_tuple()
        .all(tx.db())
        .await?;
    runs::sweep::cancel::settled(tx, engine, run, &recipients).await?;
    queue::drop_cancelled(tx, run).await
}

/// Fails messages that could not be handed over in any of their attempts.
async fn give_up<'a>(
    tx: &Tx,
    run: &run::Model,
    mine: impl Iterator<Item = (&'a Model, &'a SendOutcome)>,
) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    for (queued, outcome) in mine {
        let Outcome::Failed { why, data: None, .. } = outcome else { continue };
        // A reserved message may have been sent: only a person can tell.
        let reserved = Expr::col(communication::Column::Id)
            .eq(queued.communication_id)
            .and(Expr::col(communication::Column::Status).eq(CommunicationStatus::Sending.to_value()));
        crate::domain::message::communication::mark_unknown(tx, &engine, run, reserved).await?;
        let failed = communication::Entity::update_many()
            .col_expr(communication::Column::Status, Expr::value(CommunicationStatus::Failed.to_value()))
            .col_expr(communication::Column::Error, Expr::value(storable::reason(why)))
            .col_expr(communication::Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(communication::Column::Revision, Expr::col(communication::Column::Revision).add(1))
            .filter(communication::COLUMN.id.eq(queued.communication_id))
            .filter(communication::COLUMN.status.eq(CommunicationStatus::Approved))
            .exec_with_returning(tx.db())
            .await?;
        // Two transitions of the state machine in one write: sending, then failed.
        let (from, between) = (CommunicationStatus::Approved, CommunicationStatus::Sending);
        for row in &failed {
            let sending = communication::Model { status: between, ..row.clone() };
            crate::domain::message::communication::emit(
                tx,
                &engine,
                run,
                "communication.sending",
                &sending,
                from,
                None,
            );
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

fn is_later(outcome: &SendOutcome) -> bool {
    matches!(outcome, Outcome::Later { .. })
}

/// True if a message failed in a way that is retried, with attempts left.
fn is_retried(queued: &Model, outcome: &SendOutcome) -> bool {
    matches!(outcome, Outcome::Failed { retryable: true, .. }) && queued.failures + 1 < entity::definition::ATTEMPTS
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
