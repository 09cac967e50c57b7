//! Returns steps with expired leases to the queue. A step whose lease expires too often fails: with
//! LEASE_LOST if an external worker held it, with POISONED if it was a server process, which the
//! step may have brought down. A built-in agent's lease is one of a server process, under the
//! agent's name.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepReason, StepStatus, StepTransition};
use entity::{Actor, AgentKind, CommunicationStatus, RunStatus, agent, communication};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::EngineContext;
use super::failed_work::{FailedWork, guarded};
use super::wake::Wake;
use crate::domain::plan::run_template;
use crate::domain::run::step::{Change, ReasonText, SetTransition};
use crate::domain::run::{self as runs, advance};
use crate::domain::worker::claim;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::kernel::stuck::{self, StuckWork, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Runs `tick` until the engine stops.
pub(super) async fn run(context: EngineContext, mut wake: Wake) {
    loop {
        wake.mark_seen();
        let more = match guarded(tick(&context)).await {
            Ok(count) => count as u64 >= limits::CHUNK,
            Err(err) => {
                log_failure!(error, err, "expired leases could not be taken back");
                false
            }
        };
        if wake.stopping() || (!more && !wake.wait().await) {
            return;
        }
    }
}

/// Takes back steps whose leases have expired. Returns their number.
pub async fn tick(context: &EngineContext) -> Result<usize> {
    release_batch(context, LeaseSelection::Lapsed).await
}

/// Releases the steps that this process holds, also as a built-in agent, when it stops. Returns
/// their number.
pub async fn release_leases(context: &EngineContext) -> Result<usize> {
    let agents = agent::Entity::find().filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn)).all(context.db.read()).await?;
    let mut owners = vec![context.worker.clone()];
    owners.extend(agents.iter().map(|agent| claim::owner(agent, &context.worker)));
    let mut count = 0;
    loop {
        match release_batch(context, LeaseSelection::Held(&owners)).await? {
            0 => return Ok(count),
            released => count += released,
        }
    }
}

/// The leases to take back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LeaseSelection<'a> {
    /// Expired leases; each counts as a lapse of its step.
    Lapsed,
    /// The leases of these owners, all of them names of this process, which releases them.
    Held(&'a [String]),
}

impl LeaseSelection<'_> {
    /// The kinds of stuck work whose runs are skipped; none at a stop, which releases everything.
    fn skipped_work(self) -> Vec<StuckWork> {
        match self {
            Self::Lapsed => vec![StuckWork::Rescue],
            Self::Held(_) => Vec::new(),
        }
    }

    fn condition(self, context: &EngineContext, now: DateTime<Utc>) -> Condition {
        match self {
            Self::Lapsed => crate::domain::run::step::lease::lapsed(now),
            Self::Held(owners) => Condition::all().add(step::COLUMN.status.eq(StepStatus::InProgress)).add(any_of(
                context.db.dialect(),
                step::Column::LeaseOwner,
                owners.iter().cloned(),
            )),
        }
    }
}

async fn release_batch(context: &EngineContext, leases: LeaseSelection<'_>) -> Result<usize> {
    let lapsed = step::Entity::find()
        .filter(leases.condition(context, context.db.now()))
        .filter(stuck::is_free(
            Expr::col((step::Entity, step::Column::RunId)),
            &leases.skipped_work(),
            context.db.now(),
        ))
        .order_by_asc(step::COLUMN.id)
        .limit(limits::CHUNK)
        .all(context.db.read())
        .await?;
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<StepId>> = BTreeMap::new();
    for step in &lapsed {
        by_run.entry((step.org_id, step.run_id)).or_default().push(step.id);
    }
    let mut count = 0;
    let failed_work = FailedWork::read(context, &[StuckWork::Rescue]).await?;
    for ((org_id, run_id), ids) in by_run {
        let outcome = guarded(release_in_run(context, leases, org_id, run_id, &ids)).await;
        let passes = outcome.as_ref().is_err_and(Error::is_transient);
        match failed_work.record(context, WorkItem::of_run(StuckWork::Rescue, org_id, run_id), outcome).await {
            Some(()) => {
                count += ids.len();
                // A failed settle of these steps is no longer stuck: their leases are lost.
                stuck::settled(&context.db, &ids).await?;
            }
            // An unavailable database is unavailable for the other runs, too.
            None if passes => break,
            None => {}
        }
    }
    Ok(count)
}

/// Takes back steps of one run.
async fn release_in_run(
    context: &EngineContext,
    leases: LeaseSelection<'_>,
    org_id: OrgId,
    run_id: RunId,
    ids: &[StepId],
) -> Result<()> {
    let engine = Viewer::engine(org_id);
    transact!(context.db, |tx| {
        let run = runs::must_lock(tx, &engine, run_id, None).await?;
        let free = leases.condition(context, tx.now()).add(any_of(tx.dialect(), step::COLUMN.id, ids.iter().copied()));
        let claimed_by_server = claimed_by_server(tx, org_id).await?;
        // A released lease has not lapsed and uses up none of the tries.
        let tries_left = match leases {
            LeaseSelection::Lapsed => {
                Expr::col(step::Column::LapseCount)
                    .add(1)
                    .lt(Expr::case(claimed_by_server.clone(), limits::CRASHES).finally(limits::LAPSES))
            }
            LeaseSelection::Held(_) => Expr::val(1).eq(1),
        };
        let changes = if run.status == RunStatus::Cancelled {
            let cancelled = ReasonText::new(StepReason::RunCancelled, "the run was cancelled");
            lapse(tx, free, leases, StepTransition::Skip, &cancelled).await?
        } else {
            let (retry, fail) = (StepTransition::Lapse { retry: true }, StepTransition::Lapse { retry: false });
            let why = match leases {
                LeaseSelection::Lapsed => ReasonText::new(StepReason::LeaseLost, "its lease expired"),
                LeaseSelection::Held(_) => ReasonText::new(StepReason::WorkerStopped, "its worker stopped"),
            };
            let mut changes = stopped(tx, free.clone(), leases).await?;
            changes.extend(lapse(tx, free.clone().add(tries_left), leases, retry, &why).await?);
            // Only a person can tell if a message in flight was sent.
            let sends = step::Column::Kind.is_in([run_template::SEND, run_template::EMAIL]);
            let unsure = free.clone().add(sends).add(step::COLUMN.outside.eq(false)).add(Expr::exists(in_flight()));
            let why = "LEASE_LOST while its message was being sent, too often: it is unknown if it was sent";
            let why = ReasonText::new(StepReason::OutcomeUnknown, why);
            changes.extend(lapse(tx, unsure, leases, StepTransition::Submit, &why).await?);
            let why = "POISONED: the server crashed or hung on it repeatedly; only a person can retry it";
            let why = ReasonText::new(StepReason::Poisoned, why);
            changes.extend(lapse(tx, free.clone().add(claimed_by_server), leases, fail, &why).await?);
            let why = ReasonText::new(StepReason::LeaseLost, "LEASE_LOST: its lease expired too often");
            changes.extend(lapse(tx, free, leases, fail, &why).await?);
            changes
        };
        if leases == LeaseSelection::Lapsed {
            metrics::counter!("sortie_leases_lapsed_total").increment(changes.len() as u64);
        }
        runs::step::record_changes(tx, &run, &engine.actor(), &changes).await?;
        close_recipients(tx, &engine, &run, &changes).await?;
        runs::unhandled_replies::follow_up(tx, &engine, &run, changes.iter().map(|change| &change.step)).await?;
        let snapshot = runs::snapshot::of(tx.db(), &run).await?;
        runs::dependents::advance(tx, &run, &snapshot, &changes).await?;
        advance::advance(tx, &engine, run).await?;
        Ok(())
    })
}

/// Takes back steps that an event interrupted while they were claimed: they are not retried. Only a
/// person can tell if a message in flight was sent.
async fn stopped(tx: &Tx, free: Condition, leases: LeaseSelection<'_>) -> Result<Vec<Change>> {
    let free = free.add(step::COLUMN.reason.eq(StepReason::Interrupted));
    let why = ReasonText::new(
        StepReason::OutcomeUnknown,
        "LEASE_LOST while its message was being sent: it is unknown if it was sent",
    );
    let unsure = free.clone().add(step::Column::Kind.is_in([run_template::SEND, run_template::EMAIL]));
    let unsure = unsure.add(step::COLUMN.outside.eq(false)).add(Expr::exists(in_flight()));
    let mut changes = lapse(tx, unsure, leases, StepTransition::Submit, &why).await?;
    // The error text that the step already has names the event; `lapse` keeps it.
    let why = ReasonText::new(StepReason::Interrupted, "interrupted");
    changes.extend(lapse(tx, free, leases, StepTransition::Skip, &why).await?);
    Ok(changes)
}

/// The condition that a step is claimed by a server process: by the engine, or by one of an org's
/// built-in agents.
async fn claimed_by_server(tx: &Tx, org_id: OrgId) -> Result<Expr> {
    let agents: Vec<AgentId> = agent::Entity::find()
        .select_only()
        .column(agent::Column::Id)
        .filter(agent::COLUMN.org_id.eq(org_id))
        .filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn))
        .into_tuple()
        .all(tx.db())
        .await?;
    let held = |id: AgentId| step::COLUMN.lease_owner.starts_with(format!("{id}/"));
    Ok(agents.into_iter().fold(step::COLUMN.outside.eq(false), |claimed_by_server, id| claimed_by_server.or(held(id))))
}

/// Subquery: the message that a step sends is in flight: its own, or for `send_message` the one that
/// another step drafted for its recipient. What people released is in the hands of the send queue.
fn in_flight() -> SelectStatement {
    let own =
        || Expr::col((communication::Entity, communication::Column::StepId)).equals((step::Entity, step::Column::Id));
    let mut mails = Query::select();
    mails
        .expr(Expr::val(1))
        .from_as(step::Entity, "writer_step")
        .and_where(
            Expr::col(("writer_step", step::Column::Id)).equals((communication::Entity, communication::Column::StepId)),
        )
        .and_where(Expr::col(("writer_step", step::Column::Kind)).eq(run_template::EMAIL));
    let drafted = step::Column::Kind.eq(run_template::SEND).and(Expr::exists(mails).not());
    let mut sending = Query::select();
    sending
        .expr(Expr::val(1))
        .from(communication::Entity)
        .and_where(communication::COLUMN.status.eq(CommunicationStatus::Sending))
        .and_where(communication::COLUMN.action_number.eq(0))
        .and_where(
            Expr::col((communication::Entity, communication::Column::RunRecordId))
                .equals((step::Entity, step::Column::RunRecordId)),
        )
        .and_where(drafted.or(own()));
    sending
}

/// Takes back those of the steps whose leases are still selected: a lease renewed meanwhile is
/// kept.
async fn lapse(
    tx: &Tx,
    free: Condition,
    leases: LeaseSelection<'_>,
    transition: StepTransition,
    why: &ReasonText,
) -> Result<Vec<Change>> {
    let closed = matches!(transition, StepTransition::Skip | StepTransition::Lapse { retry: false });
    let closer = closed.then(|| serde_json::to_value(Actor::engine())).transpose()?;
    let transitions = [transition];
    let lapses = SetTransition::new(StepStatus::InProgress, &transitions);
    // A step that is tried again keeps a person's reason for rejecting its work: the next worker is told.
    let keeps = matches!(transition, StepTransition::Lapse { retry: true });
    let is_rejected = || step::Column::Reason.is_not_null().and(step::COLUMN.reason.eq(StepReason::Rejected));
    let error = match why.code {
        StepReason::Interrupted => Expr::col(step::Column::Error),
        _ if keeps => {
            Expr::case(is_rejected(), Expr::col(step::Column::Error)).finally(Expr::val(why.text.clone())).into()
        }
        _ => Expr::value(why.text.clone()),
    };
    let code = match keeps {
        true => Expr::case(is_rejected(), Expr::col(step::Column::Reason)).finally(why.code.to_value()).into(),
        false => Expr::value(why.code.to_value()),
    };
    // A worker's result that a person rejected does not count once the step is skipped.
    let result = match transition {
        StepTransition::Skip => Expr::case(step::COLUMN.outside.eq(false), Expr::col(step::Column::Result)).into(),
        _ => Expr::col(step::Column::Result),
    };
    let steps = lapses
        .update()?
        .col_expr(step::Column::LeaseOwner, Expr::value(Option::<String>::None))
        .col_expr(step::Column::LeaseToken, Expr::value(Option::<String>::None))
        .col_expr(step::Column::LeaseExpiresAt, Expr::value(Option::<DateTime<Utc>>::None))
        .col_expr(
            step::Column::LapseCount,
            Expr::col(step::Column::LapseCount).add(i32::from(leases == LeaseSelection::Lapsed)),
        )
        .col_expr(step::Column::AvailableAt, Expr::value(tx.now()))
        .col_expr(step::Column::Result, result)
        .col_expr(step::Column::Error, error)
        .col_expr(step::Column::Reason, code)
        .col_expr(step::Column::CompletedAt, Expr::value(closed.then(|| tx.now())))
        .col_expr(step::Column::CompletedBy, Expr::value(closer))
        .filter(free)
        .exec_with_returning(tx.db())
        .await?;
    lapses.changes(steps, |step| step.error.clone())
}

/// Sets the outcomes of the recipients whose steps are closed here: `UNKNOWN` if the hand-over of a
/// message was cut short.
async fn close_recipients(tx: &Tx, engine: &Viewer, run: &entity::run::Model, changes: &[Change]) -> Result<()> {
    use entity::run_record::Outcome as RecipientOutcome;
    let (stopped, closed): (Vec<&step::Model>, Vec<&step::Model>) = changes
        .iter()
        .map(|change| &change.step)
        .filter(|step| step.status != StepStatus::Queued)
        .partition(|step| step.reason == Some(StepReason::Interrupted));
    runs::interrupt::settled(tx, engine, run, stopped.into_iter()).await?;
    let writing: Vec<StepId> =
        closed.iter().filter(|step| step.kind == run_template::EMAIL).map(|step| step.id).collect();
    if !writing.is_empty() {
        crate::domain::message::communication::mark_unknown(
            tx,
            engine,
            run,
            any_of(tx.dialect(), communication::COLUMN.step_id, writing),
        )
        .await?;
    }
    let all: Vec<RunRecordId> = closed.iter().filter_map(|step| step.run_record_id).collect();
    // Other kinds of steps may be followed by more work for the same recipient, whose outcome is
    // set when that ends.
    let closed: Vec<&step::Model> = closed.into_iter().filter(|step| run_template::is_message(&step.kind)).collect();
    let recipients: Vec<RunRecordId> = closed.iter().filter_map(|step| step.run_record_id).collect();
    let mut mails = Query::select();
    mails
        .column(step::Column::Id)
        .from(step::Entity)
        .and_where(any_of(tx.dialect(), step::COLUMN.run_record_id, recipients.iter().copied()))
        .and_where(step::Column::Kind.eq(run_template::EMAIL));
    let of_recipients = any_of(tx.dialect(), communication::COLUMN.run_record_id, recipients.iter().copied())
        .and(communication::COLUMN.step_id.not_in_subquery(mails))
        .and(communication::COLUMN.action_number.eq(0));
    let unknown_recipients =
        crate::domain::message::communication::mark_unknown(tx, engine, run, of_recipients).await?;
    if run.status == RunStatus::Cancelled {
        // No more work follows in a cancelled run: these recipients end like those without a
        // claimed step.
        return runs::sweep::cancel::settled(tx, engine, run, &all).await;
    }
    if recipients.is_empty() {
        return Ok(());
    }
    crate::domain::message::communication::cancel_unsent(tx, engine, run, &recipients, "its step was given up").await?;
    let outcomes: Vec<_> = closed
        .into_iter()
        .map(|step| {
            let unknown = step.run_record_id.is_some_and(|recipient| unknown_recipients.contains(&recipient));
            let outcome = match step.status {
                _ if unknown => RecipientOutcome::Unknown,
                StepStatus::Failed => RecipientOutcome::Failed,
                _ => RecipientOutcome::Skipped,
            };
            (step, Some(outcome), step.error.clone())
        })
        .collect();
    crate::step_kind::set_recipient_outcomes(tx, &outcomes).await
}
