//! What people let out by an action of their own goes out: claim, reserve, hand over, settle; as for a campaign's steps, but
//! for single messages.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::posting::{COLUMN, Column, Entity, Model};
use entity::run;
use entity::step::StepStatus;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Statement};
use tracing::Instrument;

use super::aside::{Aside, guarded};
use super::{Gear, Wake};
use crate::channel::Delivery;
use crate::db::batch::any_of;
use crate::db::{Db, Tx};
use crate::error::{Error, Result};
use crate::posting as queue;
use crate::run::{self as runs, retry};
use crate::stuck::{Piece, StuckWork};
use crate::viewer::Viewer;
use crate::work::Outcome;
use crate::work::send::{self, By, Send};
use crate::{failpoint, gate, limits, transact};

type Came = Outcome<(CommunicationId, Delivery)>;

/// Sends, for ever.
pub(super) async fn run(gear: Gear, send: Send, mut wake: Wake) {
    loop {
        wake.look();
        let worked = match guarded(tick(&gear, &send)).await {
            Ok(count) => count > 0,
            Err(err) => {
                tracing::error!(error = %err, "what people let out could not be sent");
                false
            }
        };
        if wake.stopping() || (!worked && !wake.wait().await) {
            return;
        }
    }
}

/// Takes what there is to send, up to a batch, and sends it. Says how much.
pub async fn tick(gear: &Gear, send: &Send) -> Result<usize> {
    if candidates(&gear.db, 1, false).await?.is_empty() {
        return Ok(0);
    }
    let room = send.free(&gear.db).await?;
    let due = if room.count == 0 { Vec::new() } else { candidates(&gear.db, room.count, room.latest_first).await? };
    if due.is_empty() {
        return Ok(0);
    }
    let claimed = claim(gear, &due).await?;
    if claimed.is_empty() {
        return Ok(0);
    }
    failpoint::reach("posted");
    let span = tracing::info_span!("post", messages = claimed.len());
    async {
        let came = perform(gear, send, &claimed).await;
        keep(gear, &claimed, &came).await?;
        Ok(claimed.len())
    }
    .instrument(span)
    .await
}

/// Those that look due: of runs at work, or ended with a meeting that still changes; and what somebody did not come back
/// with, whatever has become of its run. Without a write, so that idling costs none.
async fn candidates(db: &Db, most: u64, latest_first: bool) -> Result<Vec<CommunicationId>> {
    let order = if latest_first { "DESC" } else { "ASC" };
    let sql = format!(
        "SELECT p.communication_id FROM posting p JOIN run r ON r.id = p.run_id WHERE p.available_at <= $1 \
         AND ((p.lease_owner IS NULL AND r.status IN ('IN_PROGRESS', 'COMPLETED')) OR p.lease_expires_at < $1) \
         AND p.run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $1 AND work = 'SETTLE') \
         ORDER BY p.available_at {order}, p.communication_id LIMIT $2"
    );
    let values = [db.now().into(), i64::try_from(most).map_err(Error::ours)?.into()];
    let rows =
        db.read().query_all_raw(Statement::from_sql_and_values(db.read().get_database_backend(), sql, values)).await?;
    rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
}

/// Claims postings: one guarded update writes lease and attempt.
async fn claim(gear: &Gear, due: &[CommunicationId]) -> Result<Vec<Model>> {
    transact!(gear.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(gear.lease).map_err(Error::ours)?;
        let free = Column::LeaseOwner.is_null().or(Column::LeaseExpiresAt.lt(tx.now()));
        Ok(Entity::update_many()
            .col_expr(Column::LeaseOwner, Expr::value(gear.worker.clone()))
            .col_expr(Column::LeaseExpiresAt, Expr::value(until))
            .col_expr(Column::Attempt, Expr::col(Column::Attempt).add(1))
            .filter(any_of(tx.dialect(), COLUMN.communication_id, due.iter().copied()))
            .filter(free)
            .exec_with_returning(tx.db())
            .await?)
    })
}

/// Hands over, and keeps the leases alive meanwhile.
async fn perform(gear: &Gear, send: &Send, claimed: &[Model]) -> Vec<Came> {
    let renewing = async {
        let mut beat = tokio::time::interval(gear.lease / 3);
        beat.tick().await;
        loop {
            beat.tick().await;
            if let Err(err) = renew(gear, claimed).await {
                tracing::warn!(error = %err, "leases could not be renewed");
            }
        }
    };
    tokio::select! {
        outcomes = each(gear, send, claimed) => outcomes,
        () = renewing => Vec::new(),
    }
}

/// Hands over all together; where that fails, in halves, so that what makes it fail stays alone. That one is tried again as
/// often as any message that is refused.
async fn each(gear: &Gear, send: &Send, claimed: &[Model]) -> Vec<Came> {
    let (mut all, mut open) = (Vec::with_capacity(claimed.len()), vec![claimed]);
    while let Some(part) = open.pop() {
        let runs: Vec<RunId> = part.iter().map(|posting| posting.run_id).collect();
        let keys: Vec<_> = part.iter().map(|posting| Some(posting.communication_id.0)).collect();
        match guarded(send.hand_over(&gear.db, &runs, By::Message, &keys)).await {
            Ok(outcomes) => all.extend(outcomes),
            Err(err) if err.passes() => {
                tracing::warn!(error = %err, "handing over failed; it is tried again");
                let at = gate::after(gear.db.now(), limits::AWAY);
                let later = |_| Outcome::Later { at, why: "the database was away".into(), note: None };
                all.extend(part.iter().map(later));
            }
            Err(err) if part.len() > 1 => {
                tracing::warn!(error = %err, messages = part.len(), "handing over failed; trying halves");
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            Err(err) => {
                tracing::error!(message = %part[0].communication_id, error = %err, "a message could not be handed over");
                let why = "an error of ours; see the log".into();
                all.push(Outcome::Failed { why, again: true, after: None, note: None });
            }
        }
    }
    all
}

async fn renew(gear: &Gear, claimed: &[Model]) -> Result<()> {
    transact!(gear.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(gear.lease).map_err(Error::ours)?;
        Entity::update_many()
            .col_expr(Column::LeaseExpiresAt, Expr::value(until))
            .filter(any_of(
                tx.dialect(),
                COLUMN.communication_id,
                claimed.iter().map(|posting| posting.communication_id),
            ))
            .filter(COLUMN.lease_owner.eq(gear.worker.clone()))
            .exec(tx.db())
            .await?;
        Ok(())
    })
}

/// Settles each run's messages, and tries again while the database is away: what was done is done, and nobody else knows.
/// Where that fails, in halves: one bad message stays alone, and its fate is for a person to say.
async fn keep(gear: &Gear, claimed: &[Model], came: &[Came]) -> Result<()> {
    let begun = tokio::time::Instant::now();
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<(&Model, &Came)>> = BTreeMap::new();
    for (posting, came) in claimed.iter().zip(came) {
        by_run.entry((posting.org_id, posting.run_id)).or_default().push((posting, came));
    }
    let aside = Aside::of(gear, &[StuckWork::Settle]).await.unwrap_or_default();
    for ((org_id, run_id), mine) in by_run {
        let mut outcome = Ok(());
        let mut open: Vec<&[(&Model, &Came)]> = vec![&mine];
        while let Some(part) = open.pop() {
            match patiently(gear, claimed, org_id, run_id, part, begun).await {
                Err(err) if err.passes() => return Err(err),
                Err(err) if part.len() > 1 => {
                    tracing::warn!(error = %err, messages = part.len(), "a settle of messages failed; trying halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                }
                Err(err) => {
                    tracing::error!(message = %part[0].0.communication_id, error = %err, "a message could not be settled");
                    let unkept = send::unkept(part[0].1, &format!("UNSTORABLE: {}", err.told()));
                    let part = [(part[0].0, &unkept)];
                    outcome = outcome.and(patiently(gear, claimed, org_id, run_id, &part, begun).await);
                }
                Ok(()) => {}
            }
        }
        aside.keep(gear, Piece::of_run(StuckWork::Settle, org_id, run_id), outcome).await;
    }
    Ok(())
}

/// Settles messages of a run, again and again while the database is away.
async fn patiently(
    gear: &Gear,
    claimed: &[Model],
    org_id: OrgId,
    run_id: RunId,
    part: &[(&Model, &Came)],
    begun: tokio::time::Instant,
) -> Result<()> {
    let mut pause = std::time::Duration::from_millis(50);
    loop {
        match guarded(settle(gear, org_id, run_id, part)).await {
            Err(err) if err.passes() && begun.elapsed() < limits::KEEP => {
                tracing::warn!(error = %err, "messages could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
                let _ = renew(gear, claimed).await;
            }
            outcome => return outcome,
        }
    }
}

/// Settles messages of one run in one transaction: the ledger, the queue, the activities, the step's result. Who comes late
/// finds no row.
async fn settle(gear: &Gear, org_id: OrgId, run_id: RunId, mine: &[(&Model, &Came)]) -> Result<()> {
    let engine = Viewer::engine(org_id);
    transact!(gear.db, |tx| {
        let run = runs::must_lock(tx, &engine, run_id, None).await?;
        let ids: Vec<CommunicationId> = mine.iter().map(|(posting, _)| posting.communication_id).collect();
        let held = queue::of(tx, &ids).await?;
        let still = |posting: &Model| {
            held.iter().any(|now| {
                now.communication_id == posting.communication_id
                    && now.attempt == posting.attempt
                    && now.lease_owner.as_ref() == Some(&gear.worker)
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
        queue::through(tx, run, &settled).await?;
        failpoint::reach("posting_settled");
        Ok(())
    })
}

/// Messages that could not even be handed over, as often as that was tried: they have failed.
async fn give_up<'a>(tx: &Tx, run: &run::Model, mine: impl Iterator<Item = (&'a Model, &'a Came)>) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    for (posting, came) in mine {
        let Outcome::Failed { why, note: None, .. } = came else { continue };
        let failed = communication::Entity::update_many()
            .col_expr(communication::Column::Status, Expr::value(CommunicationStatus::Failed.to_value()))
            .col_expr(communication::Column::Error, Expr::value(gate::reason(why)))
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
            crate::communication::tell(tx, &engine, run, "communication.sending", &begun, from, None);
            crate::communication::tell(tx, &engine, run, "communication.failed", row, between, Some(why.as_str()));
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
