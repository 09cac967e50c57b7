//! Steps whose holder did not come back in time go back into the queue; too often, and they fail: with LEASE_LOST where a
//! worker outside held them, with POISONED where it was a process of ours, which may have ended because of them. What a
//! built-in agent holds is held by a process of ours, under the agent's name.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepReason, StepStatus, StepTransition};
use entity::{AgentKind, CommunicationStatus, RunStatus, StateMachine, agent, communication};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::failed_work::{FailedWork, guarded};
use super::{EngineContext, Wake};
use crate::domain::plan::run_template;
use crate::domain::run::step::{Change, ReasonText};
use crate::domain::run::{self as runs, advance};
use crate::domain::worker::claim;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::kernel::stuck::{self, StuckWork, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Looks for lapsed leases, for ever.
pub(super) async fn run(context: EngineContext, mut wake: Wake) {
    loop {
        wake.look();
        let more = match guarded(tick(&context)).await {
            Ok(count) => count as u64 >= limits::CHUNK,
            Err(err) => {
                log_failure!(error, err, "lapsed leases could not be taken back");
                false
            }
        };
        if wake.stopping() || (!more && !wake.wait().await) {
            return;
        }
    }
}

/// Takes back what has lapsed. Says how many.
pub async fn tick(context: &EngineContext) -> Result<usize> {
    take_back(context, Which::Lapsed).await
}

/// Gives back what this worker holds, when it stops: also what it holds as one of the built-in agents. Says how many.
pub async fn give_back(context: &EngineContext) -> Result<usize> {
    let agents = agent::Entity::find().filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn)).all(context.db.read()).await?;
    let mut owners = vec![context.worker.clone()];
    owners.extend(agents.iter().map(|agent| claim::owner(agent, &context.worker)));
    let mut count = 0;
    loop {
        match take_back(context, Which::Held(&owners)).await? {
            0 => return Ok(count),
            some => count += some,
        }
    }
}

/// Which leases are taken back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Which<'a> {
    /// Those that have run out: counted as lapses.
    Lapsed,
    /// Those of this worker, under the names that it holds them by: it gives them up of its own will.
    Held(&'a [String]),
}

impl Which<'_> {
    /// The work that is set aside where taking back failed: a stop takes all.
    fn aside(self) -> Vec<StuckWork> {
        match self {
            Self::Lapsed => vec![StuckWork::Rescue],
            Self::Held(_) => Vec::new(),
        }
    }

    fn condition(self, context: &EngineContext, now: DateTime<Utc>) -> Condition {
        match self {
            Self::Lapsed => super::perform::lapsed(now),
            Self::Held(owners) => Condition::all().add(step::COLUMN.status.eq(StepStatus::InProgress)).add(any_of(
                context.db.dialect(),
                step::Column::LeaseOwner,
                owners.iter().cloned(),
            )),
        }
    }
}

async fn take_back(context: &EngineContext, which: Which<'_>) -> Result<usize> {
    let lapsed = step::Entity::find()
        .filter(which.condition(context, context.db.now()))
        .filter(stuck::is_free(Expr::col((step::Entity, step::Column::RunId)), &which.aside(), context.db.now()))
        .order_by_asc(step::COLUMN.id)
        .limit(limits::CHUNK)
        .all(context.db.read())
        .await?;
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<StepId>> = BTreeMap::new();
    for step in &lapsed {
        by_run.entry((step.org_id, step.run_id)).or_default().push(step.id);
    }
    let mut count = 0;
    let aside = FailedWork::of(context, &[StuckWork::Rescue]).await?;
    for ((org_id, run_id), ids) in by_run {
        let outcome = guarded(take_from(context, which, org_id, run_id, &ids)).await;
        let passes = outcome.as_ref().is_err_and(Error::passes);
        match aside.keep(context, WorkItem::of_run(StuckWork::Rescue, org_id, run_id), outcome).await {
            Some(()) => {
                count += ids.len();
                // Whoever could not settle them has lost them.
                stuck::settled(&context.db, &ids).await?;
            }
            // A database that is away is away for all.
            None if passes => break,
            None => {}
        }
    }
    Ok(count)
}

/// Takes steps of one run back.
async fn take_from(
    context: &EngineContext,
    which: Which<'_>,
    org_id: OrgId,
    run_id: RunId,
    ids: &[StepId],
) -> Result<()> {
    let engine = Viewer::engine(org_id);
    transact!(context.db, |tx| {
        let run = runs::must_lock(tx, &engine, run_id, None).await?;
        let free = which.condition(context, tx.now()).add(any_of(tx.dialect(), step::COLUMN.id, ids.iter().copied()));
        let ours = ours(tx, org_id).await?;
        // Who gives up of its own will has not lapsed.
        let left = match which {
            Which::Lapsed => Expr::col(step::Column::LapseCount)
                .add(1)
                .lt(Expr::case(ours.clone(), limits::DEATHS).finally(limits::LAPSES)),
            Which::Held(_) => Expr::val(1).eq(1),
        };
        let changes = if run.status == RunStatus::Cancelled {
            let cancelled = ReasonText::new(StepReason::RunCancelled, "the run was cancelled");
            lapse(tx, free, which, StepTransition::Skip, "step.skipped", &cancelled).await?
        } else {
            let (again, never) = (StepTransition::Lapse { again: true }, StepTransition::Lapse { again: false });
            let why = match which {
                Which::Lapsed => ReasonText::new(StepReason::LeaseLost, "its lease lapsed"),
                Which::Held(_) => ReasonText::new(StepReason::WorkerStopped, "its worker stopped"),
            };
            let mut changes = stopped(tx, free.clone(), which).await?;
            changes.extend(lapse(tx, free.clone().add(left), which, again, "step.retried", &why).await?);
            // Whether a message in hand went out is for a person to say.
            let sends = step::Column::Kind.is_in([run_template::SEND, run_template::EMAIL]);
            let unsure = free.clone().add(sends).add(step::COLUMN.run_record_id.in_subquery(in_hand(run_id)));
            let why = "LEASE_LOST in the hand-over, too often: whether its message went out is unknown";
            let why = ReasonText::new(StepReason::OutcomeUnknown, why);
            changes.extend(lapse(tx, unsure, which, StepTransition::Submit, "step.awaiting_approval", &why).await?);
            let why = "POISONED: the server ended or hung over it, time after time; only a person takes it up again";
            let why = ReasonText::new(StepReason::Poisoned, why);
            changes.extend(lapse(tx, free.clone().add(ours), which, never, "step.failed", &why).await?);
            let why = ReasonText::new(StepReason::LeaseLost, "LEASE_LOST: its lease lapsed too often");
            changes.extend(lapse(tx, free, which, never, "step.failed", &why).await?);
            changes
        };
        if which == Which::Lapsed {
            metrics::counter!("sortie_leases_lapsed_total").increment(changes.len() as u64);
        }
        runs::step::note(tx, &run, &engine.actor(), &changes).await?;
        close_places(tx, &engine, &run, &changes).await?;
        runs::sweep::replies::follow_up(tx, &engine, &run, changes.iter().map(|change| &change.step)).await?;
        let snapshot = runs::snapshot::of(tx.db(), &run).await?;
        runs::dependents::advance(tx, &run, &snapshot, &changes).await?;
        advance::advance(tx, &engine, run).await?;
        Ok(())
    })
}

/// Takes back what an event stopped while it was held: that is not tried again. Whether a message that is in hand went out
/// is for a person to say.
async fn stopped(tx: &Tx, free: Condition, which: Which<'_>) -> Result<Vec<Change>> {
    let free = free.add(step::COLUMN.reason.eq(StepReason::Interrupted));
    let mut sending = Query::select();
    sending
        .expr(Expr::val(1))
        .from(communication::Entity)
        .and_where(communication::COLUMN.status.eq(CommunicationStatus::Sending))
        .and_where(
            Expr::col((communication::Entity, communication::Column::RunRecordId))
                .equals((step::Entity, step::Column::RunRecordId)),
        )
        .and_where(step::Column::Kind.eq(run_template::SEND).or(
            Expr::col((communication::Entity, communication::Column::StepId)).equals((step::Entity, step::Column::Id)),
        ));
    let why = ReasonText::new(
        StepReason::OutcomeUnknown,
        "LEASE_LOST in the hand-over: whether its message went out is unknown",
    );
    let unsure = free.clone().add(step::Column::Kind.is_in([run_template::SEND, run_template::EMAIL]));
    let unsure = unsure.add(Expr::exists(sending));
    let mut changes = lapse(tx, unsure, which, StepTransition::Submit, "step.awaiting_approval", &why).await?;
    // The sentence that stands there names the event.
    let why = ReasonText::new(StepReason::Interrupted, "interrupted");
    changes.extend(lapse(tx, free, which, StepTransition::Skip, "step.skipped", &why).await?);
    Ok(changes)
}

/// The condition that a step is held by one of our own processes: work of the engine's, or of an org's built-in agents.
async fn ours(tx: &Tx, org_id: OrgId) -> Result<Expr> {
    let agents: Vec<AgentId> = agent::Entity::find()
        .select_only()
        .column(agent::Column::Id)
        .filter(agent::COLUMN.org_id.eq(org_id))
        .filter(agent::COLUMN.kind.eq(AgentKind::BuiltIn))
        .into_tuple()
        .all(tx.db())
        .await?;
    let held = |id: AgentId| step::COLUMN.lease_owner.starts_with(format!("{id}/"));
    Ok(agents.into_iter().fold(step::COLUMN.outside.eq(false), |ours, id| ours.or(held(id))))
}

/// Places of a run whose message is being handed over.
fn in_hand(run: RunId) -> SelectStatement {
    let mut places = Query::select();
    places
        .column(communication::Column::RunRecordId)
        .from(communication::Entity)
        .and_where(communication::COLUMN.run_id.eq(run))
        .and_where(communication::COLUMN.status.eq(CommunicationStatus::Sending));
    places
}

/// Takes back those of the steps that are still free by now: who has renewed since, keeps them.
async fn lapse(
    tx: &Tx,
    free: Condition,
    which: Which<'_>,
    act: StepTransition,
    kind: &'static str,
    why: &ReasonText,
) -> Result<Vec<Change>> {
    let to = StepStatus::InProgress.next(act).unwrap_or(StepStatus::Failed);
    let closed = matches!(to, StepStatus::Skipped | StepStatus::Failed);
    let told = match why.code {
        StepReason::Interrupted => Expr::col(step::Column::Error),
        _ => Expr::value(why.text.clone()),
    };
    let steps = step::Entity::update_many()
        .col_expr(step::Column::Status, Expr::value(to.to_value()))
        .col_expr(step::Column::LeaseOwner, Expr::value(Option::<String>::None))
        .col_expr(step::Column::LeaseToken, Expr::value(Option::<String>::None))
        .col_expr(step::Column::LeaseExpiresAt, Expr::value(Option::<DateTime<Utc>>::None))
        .col_expr(step::Column::LapseCount, Expr::col(step::Column::LapseCount).add(i32::from(which == Which::Lapsed)))
        .col_expr(step::Column::AvailableAt, Expr::value(tx.now()))
        .col_expr(step::Column::Error, told)
        .col_expr(step::Column::Reason, Expr::value(why.code.to_value()))
        .col_expr(step::Column::CompletedAt, Expr::value(closed.then(|| tx.now())))
        .col_expr(step::Column::Revision, Expr::col(step::Column::Revision).add(1))
        .filter(free)
        .exec_with_returning(tx.db())
        .await?;
    let change =
        |step: step::Model| Change { reason: step.error.clone(), step, from: Some(StepStatus::InProgress), kind };
    Ok(steps.into_iter().map(change).collect())
}

/// What came of the places whose steps are closed with this: unknown where a hand-over was cut short.
async fn close_places(tx: &Tx, engine: &Viewer, run: &entity::run::Model, changes: &[Change]) -> Result<()> {
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
    // Of other work more may follow for the same place: what came of it is said at the end.
    let closed: Vec<&step::Model> = closed.into_iter().filter(|step| run_template::is_message(&step.kind)).collect();
    let places: Vec<RunRecordId> = closed.iter().filter_map(|step| step.run_record_id).collect();
    let of_places = any_of(tx.dialect(), communication::COLUMN.run_record_id, places.iter().copied());
    let lost = crate::domain::message::communication::mark_unknown(tx, engine, run, of_places).await?;
    if run.status == RunStatus::Cancelled {
        // Nothing more follows there: the places end as those of which nobody held a step.
        return runs::sweep::cancel::settled(tx, engine, run, &all).await;
    }
    if places.is_empty() {
        return Ok(());
    }
    crate::domain::message::communication::drop_of_places(tx, engine, run, &places, "its step was given up").await?;
    let fates: Vec<_> = closed
        .into_iter()
        .map(|step| {
            let unknown = step.run_record_id.is_some_and(|place| lost.contains(&place));
            let fate = match step.status {
                _ if unknown => RecipientOutcome::Unknown,
                StepStatus::Failed => RecipientOutcome::Failed,
                _ => RecipientOutcome::Skipped,
            };
            (step, Some(fate), step.error.clone())
        })
        .collect();
    crate::step_kind::fates(tx, &fates).await
}
