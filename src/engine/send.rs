//! Sends the messages that people have released from within a step: claim, reserve, hand over, settle,
//! as for a campaign's own, but for single messages.

mod settle;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::queued_message::{COLUMN, Column, Entity, Model};
use futures_util::FutureExt;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement};
use tracing::Instrument;

use super::failed_work::guarded;
use super::slots::{OrgSlots, QueueWorker, SlotGuard};
use super::{EngineContext, slots};
use crate::channel::Delivery;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::fair::queue::Queue;
use crate::kernel::db::{Db, fair};
use crate::kernel::error::{Error, Result};
use crate::kernel::{failpoint, limits, storable};
use crate::step_kind::send::{LeasedMessage, MessageLookup, Send, forward};
use crate::step_kind::{Answer, Outcome, Work};
use crate::transact;

type SendOutcome = Outcome<(CommunicationId, Delivery)>;

type SendAnswer<'a> = Answer<'a, (CommunicationId, Delivery)>;

/// The queue of messages that people have released.
#[derive(Debug)]
pub(super) struct ReleasedMessages {
    pub(super) context: EngineContext,
    pub(super) send: Send,
}

impl QueueWorker for ReleasedMessages {
    type Taken = Model;
    const NAME: &'static str = "letter";

    fn slots(&self) -> u64 {
        self.send.batch()
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn org(taken: &Model) -> OrgId {
        taken.org_id
    }

    async fn take(&self, most: u64, _: Option<&OrgSlots>) -> Result<Vec<Model>> {
        take(&self.context, &self.send, most).await
    }

    async fn finish(&self, taken: Vec<Model>, held: SlotGuard) -> Result<()> {
        send_batch(&self.context, &self.send, &taken, held).await
    }
}

/// Claims and sends up to a batch of released messages. Returns their number.
pub async fn tick(context: &EngineContext, send: &Send) -> Result<usize> {
    let claimed = take(context, send, u64::MAX).await?;
    if claimed.is_empty() {
        return Ok(0);
    }
    send_batch(context, send, &claimed, SlotGuard::default()).await?;
    Ok(claimed.len())
}

/// Claims due messages, up to the channel's allowance, and up to `most`.
async fn take(context: &EngineContext, send: &Send, most: u64) -> Result<Vec<Model>> {
    if candidates(&context.db, 1, false).await?.is_empty() && !forward::probe_released(&context.db).await? {
        return Ok(Vec::new());
    }
    let room = send.channel_allowance(&context.db).await?;
    let count = Ord::min(room.count, most);
    let due = if count == 0 { Vec::new() } else { candidates(&context.db, count, room.latest_first).await? };
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let claimed = claim(context, &due).await?;
    if !claimed.is_empty() {
        failpoint::reach("posted");
    }
    Ok(claimed)
}

/// Hands over claimed messages and renews their leases meanwhile. Each message is settled as soon
/// as it is answered.
async fn send_batch(context: &EngineContext, send: &Send, claimed: &[Model], held: SlotGuard) -> Result<()> {
    let renewing = async {
        let mut beat = tokio::time::interval(context.lease / 3);
        beat.tick().await;
        loop {
            beat.tick().await;
            if let Err(err) = renew_leases(context, claimed).await {
                log_failure!(warn, err, "leases could not be renewed");
            }
        }
    };
    let working = async {
        let answers = hand_over_all(context, send, claimed).await.into_iter().zip(claimed);
        let answers = answers.map(|(answer, message)| catch_panic(context, send, message, answer).boxed()).collect();
        slots::settle_as_answered(answers, held, move |outcomes: Vec<(usize, SendOutcome)>| async move {
            settle::settle_batch(context, claimed, &outcomes).await
        })
        .await
    };
    let outcome = async {
        tokio::select! {
            outcome = working => outcome,
            () = renewing => Ok(()),
        }
    };
    outcome.instrument(tracing::info_span!("post", messages = claimed.len())).await
}

/// Awaits an answer. After a panic the message is sent once more: that attempt finds it if it was
/// already handed over, and does not repeat it.
async fn catch_panic<'a>(
    context: &'a EngineContext,
    send: &'a Send,
    message: &'a Model,
    answer: SendAnswer<'a>,
) -> SendOutcome {
    let err = match guarded(answer.map(Ok)).await {
        Ok(outcome) => return outcome,
        Err(err) => err,
    };
    log_failure!(error, err, message = %message.communication_id, "a message could not be sent");
    match hand_over_all(context, send, std::slice::from_ref(message)).await.pop() {
        Some(answer) => guarded(answer.map(Ok)).await.unwrap_or_else(|_| failed()),
        None => failed(),
    }
}

fn failed() -> SendOutcome {
    Outcome::Failed { why: "internal error; see the server's log".into(), retryable: true, after: None, data: None }
}

/// Messages that look due: those with an expired lease, whatever the run's status; and those of runs
/// that may send them, in campaigns that are not paused. This only reads, so that an idle loop writes
/// nothing.
async fn candidates(db: &Db, most: u64, latest_first: bool) -> Result<Vec<CommunicationId>> {
    find_claimable(db.read(), db.now(), most, latest_first).await
}

/// Messages that look due at this time, as the engine's look finds them through a connection.
pub async fn find_claimable(
    connection: &impl ConnectionTrait,
    now: DateTime<Utc>,
    most: u64,
    latest_first: bool,
) -> Result<Vec<CommunicationId>> {
    let not_stuck = "run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $1 AND work = 'SETTLE')";
    let expired = format!(
        "SELECT communication_id, org_id FROM posting WHERE lease_owner IS NOT NULL AND lease_expires_at < $1 AND {not_stuck} \
         ORDER BY lease_expires_at LIMIT {most}"
    );
    let expired = Statement::from_sql_and_values(connection.get_database_backend(), expired, [now.into()]);
    let mut rows = connection.query_all_raw(expired).await?;
    let queue = Queue {
        table: "posting",
        id: "communication_id",
        // Coarser than the rows' condition: an org with nothing due is skipped as a whole.
        queued: "org_id IS NOT NULL",
        grouped: "",
        group: &["run_id"],
        fit: "AND available_at <= $1 AND lease_owner IS NULL",
        columns: "communication_id, run_id, org_id, available_at",
        joins: forward::OF_RUN,
        admitted: &format!("{} AND q.{not_stuck}", forward::MAY_SEND),
        wanted: "q.communication_id, q.org_id AS org_id",
        latest_first,
        values: vec![now.into()],
    };
    rows.extend(queue.take(connection, most, &[]).await?);
    let due = rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
    let due: Vec<(CommunicationId, OrgId)> = due.collect::<Result<_>>()?;
    Ok(fair::by_turns(due, most, |row| row.1).into_iter().map(|row| row.0).collect())
}

/// Claims queued messages: one conditional update writes lease and attempt.
async fn claim(context: &EngineContext, due: &[CommunicationId]) -> Result<Vec<Model>> {
    transact!(context.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::internal)?;
        let free = Column::LeaseOwner.is_null().or(Column::LeaseExpiresAt.lt(tx.now()));
        let mut claimed = Entity::update_many()
            .col_expr(Column::LeaseOwner, Expr::value(context.worker.clone()))
            .col_expr(Column::LeaseExpiresAt, Expr::value(until))
            .col_expr(Column::Attempt, Expr::col(Column::Attempt).add(1))
            .filter(any_of(tx.dialect(), COLUMN.communication_id, due.iter().copied()))
            .filter(free)
            .exec_with_returning(tx.db())
            .await?;
        // Postgres returns them in any order; they are handed over in that in which they are due.
        claimed.sort_by_key(|message| due.iter().position(|id| *id == message.communication_id));
        Ok(claimed)
    })
}

/// Hands over all messages together. If that fails, hands them over in halves, down to the single
/// message that fails. That one is retried as often as any rejected message.
async fn hand_over_all<'a>(context: &'a EngineContext, send: &'a Send, claimed: &'a [Model]) -> Vec<SendAnswer<'a>> {
    let at_once = |outcome| std::future::ready(outcome).boxed();
    let (mut all, mut open) = (Vec::with_capacity(claimed.len()), vec![claimed]);
    while let Some(part) = open.pop() {
        let runs: Vec<RunId> = part.iter().map(|message| message.run_id).collect();
        let messages: Vec<LeasedMessage> = part.iter().map(LeasedMessage::of_queued).collect();
        match guarded(send.hand_over(&context.db, &runs, MessageLookup::Message, &messages)).await {
            Ok(answers) => all.extend(answers),
            Err(err) if err.is_transient() => {
                log_failure!(warn, err, "sending failed; it is retried later");
                let at = storable::after(context.db.now(), limits::UNREACHABLE_RETRY_DELAY);
                let later = |_| at_once(Outcome::Later { at, why: "the database was unavailable".into(), data: None });
                all.extend(part.iter().map(later));
            }
            Err(err) if part.len() > 1 => {
                log_failure!(warn, err, messages = part.len(), "sending failed; trying halves");
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            Err(err) => {
                log_failure!(error, err, message = %part[0].communication_id, "a message could not be sent");
                all.push(at_once(failed()));
            }
        }
    }
    all
}

async fn renew_leases(context: &EngineContext, claimed: &[Model]) -> Result<()> {
    transact!(context.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::internal)?;
        Entity::update_many()
            .col_expr(Column::LeaseExpiresAt, Expr::value(until))
            .filter(any_of(
                tx.dialect(),
                COLUMN.communication_id,
                claimed.iter().map(|message| message.communication_id),
            ))
            .filter(COLUMN.lease_owner.eq(context.worker.clone()))
            .exec(tx.db())
            .await?;
        Ok(())
    })
}
