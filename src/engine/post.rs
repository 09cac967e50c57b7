//! What people let out by an action of their own goes out: claim, reserve, hand over, settle; as for a campaign's steps, but
//! for single messages.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::posting::{COLUMN, Column, Entity, Model};
use entity::step::StepStatus;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Statement};
use tracing::Instrument;

use super::{Gear, Wake};
use crate::channel::Delivery;
use crate::db::{Db, Tx};
use crate::error::{Error, Result};
use crate::posting as queue;
use crate::run::{self as runs, retry};
use crate::viewer::Viewer;
use crate::work::Outcome;
use crate::work::send::{self, By, Send};
use crate::{failpoint, limits, transact};

type Came = Outcome<(CommunicationId, Delivery)>;

/// Sends, for ever.
pub(super) async fn run(gear: Gear, send: Send, mut wake: Wake) {
    loop {
        wake.look();
        let worked = match tick(&gear, &send).await {
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
    let room = send.free(&gear.db).await?;
    let due = if room == 0 { Vec::new() } else { candidates(&gear.db, room).await? };
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
async fn candidates(db: &Db, most: u64) -> Result<Vec<CommunicationId>> {
    let sql = "SELECT p.communication_id FROM posting p JOIN run r ON r.id = p.run_id WHERE p.available_at <= $1 \
               AND ((p.lease_owner IS NULL AND r.status IN ('IN_PROGRESS', 'COMPLETED')) OR p.lease_expires_at < $1) \
               ORDER BY p.available_at, p.communication_id LIMIT $2";
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
            .filter(COLUMN.communication_id.is_in(due.iter().copied()))
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
    let runs: Vec<RunId> = claimed.iter().map(|posting| posting.run_id).collect();
    let keys: Vec<_> = claimed.iter().map(|posting| Some(posting.communication_id.0)).collect();
    let outcome = tokio::select! {
        outcome = send.hand_over(&gear.db, &runs, By::Message, &keys) => outcome,
        () = renewing => return Vec::new(),
    };
    outcome.unwrap_or_else(|err| {
        tracing::error!(error = %err, "handing over failed");
        let later = |_: &Model| Outcome::Later {
            at: gear.db.now() + chrono::Duration::seconds(1),
            why: "an error of ours; see the log".into(),
        };
        claimed.iter().map(later).collect()
    })
}

async fn renew(gear: &Gear, claimed: &[Model]) -> Result<()> {
    transact!(gear.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(gear.lease).map_err(Error::ours)?;
        Entity::update_many()
            .col_expr(Column::LeaseExpiresAt, Expr::value(until))
            .filter(COLUMN.communication_id.is_in(claimed.iter().map(|posting| posting.communication_id)))
            .filter(COLUMN.lease_owner.eq(gear.worker.clone()))
            .exec(tx.db())
            .await?;
        Ok(())
    })
}

/// Settles, and tries again while the database is away: what was done is done, and nobody else knows.
async fn keep(gear: &Gear, claimed: &[Model], came: &[Came]) -> Result<()> {
    let begun = tokio::time::Instant::now();
    let mut pause = std::time::Duration::from_millis(50);
    loop {
        match settle(gear, claimed, came).await {
            Err(err) if err.db().is_some() && begun.elapsed() < limits::KEEP => {
                tracing::warn!(error = %err, "messages could not be settled; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(limits::POLL);
                let _ = renew(gear, claimed).await;
            }
            outcome => return outcome,
        }
    }
}

/// Settles each run's messages in one transaction: the ledger, the queue, the activities, the step's result. Who comes late
/// finds no row.
async fn settle(gear: &Gear, claimed: &[Model], came: &[Came]) -> Result<()> {
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<(&Model, &Came)>> = BTreeMap::new();
    for (posting, came) in claimed.iter().zip(came) {
        by_run.entry((posting.org_id, posting.run_id)).or_default().push((posting, came));
    }
    for ((org_id, run_id), mine) in by_run {
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
            let told = mine.iter().filter_map(|(posting, came)| Some((came.note()?, again(posting, came))));
            let rows = told.map(|((id, delivery), again)| {
                send::row(*id, delivery, if again { StepStatus::Queued } else { StepStatus::Failed }, tx)
            });
            let rows = rows.collect();
            let sent = send::settle(tx, &run, rows).await?;
            send::contacted(tx, &sent).await?;
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
                .filter(|(posting, came)| !matches!(came, Outcome::Later { .. }) && !again(posting, came))
                .map(|(posting, _)| *posting)
                .collect();
            let through = communication::Entity::find()
                .filter(communication::COLUMN.id.is_in(over.iter().map(|posting| posting.communication_id)))
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
        })?;
    }
    Ok(())
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
        .filter(COLUMN.communication_id.is_in(ids.iter().copied()))
        .exec(tx.db())
        .await?;
    Ok(())
}
