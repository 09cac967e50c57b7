//! What people let out by an action of their own goes out: claim, reserve, hand over, settle; as for a campaign's steps, but
//! for single messages.

mod settle;

use entity::id::*;
use entity::queued_message::{COLUMN, Column, Entity, Model};
use futures_util::FutureExt;
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use tracing::Instrument;

use super::failed_work::guarded;
use super::slots::{OrgSlots, QueueWorker, SlotGuard};
use super::{EngineContext, slots};
use crate::channel::Delivery;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, fair};
use crate::kernel::error::{Error, Result};
use crate::kernel::{failpoint, limits, storable};
use crate::step_kind::send::{MessageLookup, Send};
use crate::step_kind::{Answer, Outcome, Work};
use crate::transact;

type Came = Outcome<(CommunicationId, Delivery)>;

type Answered<'a> = Answer<'a, (CommunicationId, Delivery)>;

/// What people let out.
#[derive(Debug)]
pub(super) struct ReleasedMessages {
    /// What every loop needs.
    pub(super) context: EngineContext,
    /// The way out.
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
        turn(&self.context, &self.send, &taken, held).await
    }
}

/// Takes what there is to send, up to a batch, and sends it. Says how much.
pub async fn tick(context: &EngineContext, send: &Send) -> Result<usize> {
    let claimed = take(context, send, u64::MAX).await?;
    if claimed.is_empty() {
        return Ok(0);
    }
    turn(context, send, &claimed, SlotGuard::default()).await?;
    Ok(claimed.len())
}

/// Claims what there is to send, up to a batch, and up to so much.
async fn take(context: &EngineContext, send: &Send, most: u64) -> Result<Vec<Model>> {
    if candidates(&context.db, 1, false).await?.is_empty() {
        return Ok(Vec::new());
    }
    let room = send.free(&context.db).await?;
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

/// Hands over, keeps the leases alive meanwhile, and settles each as soon as it is answered.
async fn turn(context: &EngineContext, send: &Send, claimed: &[Model], held: SlotGuard) -> Result<()> {
    let renewing = async {
        let mut beat = tokio::time::interval(context.lease / 3);
        beat.tick().await;
        loop {
            beat.tick().await;
            if let Err(err) = renew(context, claimed).await {
                log_failure!(warn, err, "leases could not be renewed");
            }
        }
    };
    let working = async {
        let answers = each(context, send, claimed).await.into_iter().zip(claimed);
        let answers = answers.map(|(answer, posting)| catch_panic(context, send, posting, answer).boxed()).collect();
        slots::answered(answers, held, move |came: Vec<(usize, Came)>| async move {
            settle::keep(context, claimed, &came).await
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

/// An answer, whatever happens on the way to it. After a panic the message is taken up once more: what was handed over is
/// found then, and not handed over again.
async fn catch_panic<'a>(context: &'a EngineContext, send: &'a Send, posting: &'a Model, answer: Answered<'a>) -> Came {
    let err = match guarded(answer.map(Ok)).await {
        Ok(came) => return came,
        Err(err) => err,
    };
    log_failure!(error, err, message = %posting.communication_id, "a message could not be handed over");
    match each(context, send, std::slice::from_ref(posting)).await.pop() {
        Some(answer) => guarded(answer.map(Ok)).await.unwrap_or_else(|_| failed()),
        None => failed(),
    }
}

fn failed() -> Came {
    Outcome::Failed { why: "an error of ours; see the log".into(), again: true, after: None, note: None }
}

/// Those that look due: of runs at work, or ended with a meeting that still changes; and what somebody did not come back
/// with, whatever has become of its run. Without a write, so that idling costs none.
async fn candidates(db: &Db, most: u64, latest_first: bool) -> Result<Vec<CommunicationId>> {
    let order = if latest_first { "DESC" } else { "ASC" };
    let rows = "SELECT p.communication_id, p.org_id FROM posting p JOIN run r ON r.id = p.run_id WHERE p.available_at <= $1 \
         AND ((p.lease_owner IS NULL AND r.status IN ('IN_PROGRESS', 'COMPLETED')) OR p.lease_expires_at < $1) \
         AND p.run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $1 AND work = 'SETTLE')";
    let queue = fair::Queue {
        table: "posting",
        // What is not due yet is leapt over with its org.
        queued: "org_id IS NOT NULL",
        queued_values: Vec::new(),
        rows,
        org: "p.org_id",
        order: &format!("p.available_at {order}, p.communication_id"),
        values: vec![db.now().into()],
    };
    let rows = queue.take(db.read(), most, &[]).await?;
    let each = rows.iter().map(|row| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
    let each: Vec<(CommunicationId, OrgId)> = each.collect::<Result<_>>()?;
    Ok(fair::by_turns(each, most, |row| row.1).into_iter().map(|row| row.0).collect())
}

/// Claims postings: one guarded update writes lease and attempt.
async fn claim(context: &EngineContext, due: &[CommunicationId]) -> Result<Vec<Model>> {
    transact!(context.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::ours)?;
        let free = Column::LeaseOwner.is_null().or(Column::LeaseExpiresAt.lt(tx.now()));
        Ok(Entity::update_many()
            .col_expr(Column::LeaseOwner, Expr::value(context.worker.clone()))
            .col_expr(Column::LeaseExpiresAt, Expr::value(until))
            .col_expr(Column::Attempt, Expr::col(Column::Attempt).add(1))
            .filter(any_of(tx.dialect(), COLUMN.communication_id, due.iter().copied()))
            .filter(free)
            .exec_with_returning(tx.db())
            .await?)
    })
}

/// Hands over all together; where that fails, in halves, so that what makes it fail stays alone. That one is tried again as
/// often as any message that is refused.
async fn each<'a>(context: &'a EngineContext, send: &'a Send, claimed: &'a [Model]) -> Vec<Answered<'a>> {
    let at_once = |came| std::future::ready(came).boxed();
    let (mut all, mut open) = (Vec::with_capacity(claimed.len()), vec![claimed]);
    while let Some(part) = open.pop() {
        let runs: Vec<RunId> = part.iter().map(|posting| posting.run_id).collect();
        let keys: Vec<_> = part.iter().map(|posting| Some(posting.communication_id.0)).collect();
        match guarded(send.hand_over(&context.db, &runs, MessageLookup::Message, &keys)).await {
            Ok(answers) => all.extend(answers),
            Err(err) if err.passes() => {
                log_failure!(warn, err, "handing over failed; it is tried again");
                let at = storable::after(context.db.now(), limits::AWAY);
                let later = |_| at_once(Outcome::Later { at, why: "the database was away".into(), note: None });
                all.extend(part.iter().map(later));
            }
            Err(err) if part.len() > 1 => {
                log_failure!(warn, err, messages = part.len(), "handing over failed; trying halves");
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([second, first]);
            }
            Err(err) => {
                log_failure!(error, err, message = %part[0].communication_id, "a message could not be handed over");
                all.push(at_once(failed()));
            }
        }
    }
    all
}

async fn renew(context: &EngineContext, claimed: &[Model]) -> Result<()> {
    transact!(context.db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(context.lease).map_err(Error::ours)?;
        Entity::update_many()
            .col_expr(Column::LeaseExpiresAt, Expr::value(until))
            .filter(any_of(
                tx.dialect(),
                COLUMN.communication_id,
                claimed.iter().map(|posting| posting.communication_id),
            ))
            .filter(COLUMN.lease_owner.eq(context.worker.clone()))
            .exec(tx.db())
            .await?;
        Ok(())
    })
}
