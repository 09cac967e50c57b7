//! Runs: executions of campaigns, or of guided work. Paging, launching, scheduling, pausing,
//! cancelling.

pub mod advance;
pub mod begin;
pub mod bulk;
pub(crate) mod carried_replies;
pub mod dependents;
pub(crate) mod early_events;
pub mod findings;
pub mod fire_schedule;
pub mod guided;
pub mod interrupt;
pub mod launch;
pub mod list;
pub mod occurrence;
pub mod overdue;
pub mod phase;
pub mod progress;
pub mod queue;
pub mod recipients;
pub mod refresh;
pub mod repeat;
pub mod retry;
pub mod snapshot;
pub mod step;
pub mod step_graph;
pub mod sweep;
pub mod task;
pub mod unreached;
pub mod values;
pub mod waiting;

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use entity::id::*;
use entity::run::{COLUMN, Entity, Model, RunTransition};
use entity::sweep::SweepKind;
use entity::{CampaignStatus, RunStatus, StateMachine, campaign};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set,
};
use serde_json::{Value, json};

use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(run, RunId, "run");
locked!(run, RunId, "run");

/// Action on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "RunAction")]
pub enum Action {
    /// Moves a scheduled run to another time.
    Reschedule,
    /// Pauses the run.
    Pause,
    /// Resumes the run.
    Resume,
    /// Cancels the run.
    Cancel,
    /// Retries failed work.
    Retry,
    /// Re-evaluates the run's state and starts whatever can start.
    Refresh,
    /// Queues a copy of the run.
    Repeat,
    /// Queues a copy for the recipients that the run did not reach.
    RepeatFailed,
    /// Completes guided work.
    Complete,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 9] = [
        Self::Reschedule,
        Self::Pause,
        Self::Resume,
        Self::Cancel,
        Self::Retry,
        Self::Refresh,
        Self::Repeat,
        Self::RepeatFailed,
        Self::Complete,
    ];

    /// Transition of the run; none for a refresh or a repeat.
    fn act(self) -> Option<RunTransition> {
        match self {
            Self::Reschedule => Some(RunTransition::Reschedule),
            Self::Pause => Some(RunTransition::Pause),
            Self::Resume => Some(RunTransition::Resume),
            Self::Cancel => Some(RunTransition::Cancel),
            Self::Retry => Some(RunTransition::Retry),
            Self::Complete => Some(RunTransition::Complete),
            Self::Refresh | Self::Repeat | Self::RepeatFailed => None,
        }
    }
}

/// Checks that an action is allowed now; the error names the reason. The mutations call the same
/// check. Guided work has no campaign.
pub fn check_allowed(run: &Model, campaign: Option<CampaignStatus>, action: Action) -> Result<()> {
    // Cancelling is idempotent: the second request succeeds and changes nothing.
    if action == Action::Cancel && run.status == RunStatus::Cancelled {
        return Ok(());
    }
    match (action, campaign) {
        (Action::Repeat | Action::RepeatFailed, Some(campaign)) => return repeat::check_allowed(run, campaign),
        (Action::Repeat | Action::RepeatFailed, None) => {
            return Err(Refusal::conflict("guided work can't be repeated: start it anew with startGuidedRun").into());
        }
        // Completed guided work can't be retried.
        (Action::Retry, None) if run.status == RunStatus::Completed => {
            return Err(Refusal::transition("run", run.status, RunTransition::Retry).into());
        }
        (Action::Complete, Some(_)) => {
            return Err(Refusal::conflict("a campaign's run completes by itself once its phases are completed").into());
        }
        _ => {}
    }
    match action.act() {
        Some(transition) => next_status(run, transition).map(|_| ())?,
        None if run.status.is_open() => {}
        None => return Err(Refusal::conflict(format!("it has ended: it is {}", run.status)).into()),
    }
    match (action, campaign) {
        (Action::Retry, Some(campaign)) => retry::check_allowed(run, campaign),
        _ => Ok(()),
    }
}

/// Campaign of a run; none for guided work.
pub(crate) async fn campaign_of(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    run: &Model,
) -> Result<Option<campaign::Model>> {
    match run.campaign_id {
        Some(id) => Ok(Some(crate::domain::plan::campaign::must_find(db, viewer, id).await?)),
        None => Ok(None),
    }
}

pub(crate) fn next_status(run: &Model, transition: RunTransition) -> Result<RunStatus> {
    Ok(run.status.next(transition).ok_or_else(|| Refusal::transition("run", run.status, transition))?)
}

/// Pauses or resumes a run. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION.
pub async fn pause_or_resume(
    db: &Db,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    transition: RunTransition,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, id, expected).await?;
        let run = apply_transition(tx, viewer, run, transition, reason.as_deref(), |_| {}).await?;
        tx.set_result(run.id);
        if run.status == RunStatus::InProgress {
            return advance::advance(tx, viewer, run).await;
        }
        Ok(run)
    })
}

/// Moves a scheduled run to another time. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION,
/// BAD_USER_INPUT for a time in the past.
pub async fn reschedule(
    db: &Db,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    at: DateTime<Utc>,
) -> Result<Model> {
    let at = crate::kernel::storable::time(at).map_err(|unfit| unfit.of("at"))?;
    transact!(db, |tx| {
        let schedule = occurrence::lock_schedule(tx, viewer, id).await?;
        let run = must_lock(tx, viewer, id, expected).await?;
        next_status(&run, RunTransition::Reschedule)?;
        if at <= tx.now() {
            return Err(Refusal::input("at", "the time lies in the past").into());
        }
        tx.set_result(run.id);
        let run =
            apply_transition(tx, viewer, run, RunTransition::Reschedule, None, |row| row.scheduled_for = Set(Some(at)))
                .await?;
        if let Some(schedule) = schedule {
            occurrence::follow(tx, viewer, schedule).await?;
        }
        Ok(run)
    })
}

/// Cancels a run; idempotent. Nothing starts from now on; open steps are closed by a sweep. Errors:
/// NOT_FOUND, CONFLICT, INVALID_TRANSITION for a run that has ended otherwise.
pub async fn cancel(db: &Db, viewer: &Viewer, id: RunId, expected: Option<i32>, reason: Option<&str>) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        let schedule = occurrence::lock_schedule(tx, viewer, id).await?;
        let run = must_lock(tx, viewer, id, expected).await?;
        if run.status == RunStatus::Cancelled {
            return Ok(run);
        }
        next_status(&run, RunTransition::Cancel)?;
        tx.set_result(run.id);
        let was_scheduled = run.status == RunStatus::Scheduled;
        let run = cancel_one(tx, viewer, run, reason.as_deref()).await?;
        if let Some(schedule) = schedule.filter(|_| was_scheduled) {
            occurrence::skip(tx, viewer, schedule, &run).await?;
        }
        Ok(run)
    })
}

async fn cancel_one(tx: &Tx, viewer: &Viewer, run: Model, reason: Option<&str>) -> Result<Model> {
    let was = run.status;
    let at = tx.now();
    let run = apply_transition(tx, viewer, run, RunTransition::Cancel, reason, |row| {
        row.ended_at = Set(Some(at));
        row.failure = Set(reason.map(str::to_owned));
    })
    .await?;
    match was {
        RunStatus::InProgress | RunStatus::Paused => {
            let message = reason
                .map_or_else(|| "the run was cancelled".to_owned(), |why| format!("the run was cancelled: {why}"));
            sweep::begin(tx, viewer, &run, None, SweepKind::Cancel, Some(message)).await?;
        }
        RunStatus::Scheduled | RunStatus::Queued | RunStatus::Completed | RunStatus::Cancelled | RunStatus::Failed => {}
    }
    Ok(run)
}

/// Cancels every open run of a campaign whose schedules have ended.
pub(crate) async fn cancel_all_of(
    tx: &Tx,
    viewer: &Viewer,
    campaign: &campaign::Model,
    reason: Option<&str>,
) -> Result<()> {
    let open = Entity::find()
        .filter(COLUMN.campaign_id.eq(campaign.id))
        .filter(COLUMN.status.is_in(RunStatus::OPEN))
        .lock_exclusive()
        .all(tx.db())
        .await?;
    let reason = reason.unwrap_or("the campaign was cancelled");
    for run in open {
        cancel_one(tx, viewer, run, Some(reason)).await?;
    }
    Ok(())
}

/// Applies a transition, with its event; `more` sets further columns.
pub(crate) async fn apply_transition(
    tx: &Tx,
    viewer: &Viewer,
    run: Model,
    transition: RunTransition,
    reason: Option<&str>,
    more: impl FnOnce(&mut entity::run::ActiveModel),
) -> Result<Model> {
    let to = next_status(&run, transition)?;
    let (from, revision) = (run.status, run.revision);
    let mut row = run.into_active_model();
    row.status = Set(to);
    more(&mut row);
    row.updated_at = Set(tx.now());
    row.revision = Set(revision + 1);
    let run = row.update(tx.db()).await?;
    let kind = match transition {
        RunTransition::Due => "run.queued",
        RunTransition::Refuse | RunTransition::Fail => "run.failed",
        RunTransition::Reschedule => "run.rescheduled",
        RunTransition::Start | RunTransition::Retry => "run.started",
        RunTransition::Pause => "run.paused",
        RunTransition::Resume => "run.resumed",
        RunTransition::Complete => "run.completed",
        RunTransition::Cancel => "run.cancelled",
    };
    emit(tx, viewer, kind, &run, json!({ "from": from, "to": to, "reason": reason }));
    Ok(run)
}

/// Emits an event about a run, with the fields that filters on runs need.
pub(crate) fn emit(tx: &Tx, viewer: &Viewer, kind: &str, run: &Model, mut payload: Value) {
    if let Some(payload) = payload.as_object_mut() {
        payload.insert("name".into(), json!(run.name));
        payload.insert("type".into(), json!(run.run_type));
        payload.insert("channel".into(), json!(run.channel));
        payload.insert("campaignName".into(), json!(run.campaign_name));
        payload.insert("scheduledFor".into(), json!(run.scheduled_for));
    }
    event::append(tx, Event::new(run.org_id, kind, &viewer.actor()).run(run).payload(payload));
}

/// Locks and returns those runs that may be worked on now. The shared locks keep them from being
/// paused or cancelled until the transaction ends, so its changes commit before a cancel responds.
pub(crate) async fn list_running(tx: &Tx, ids: &[RunId]) -> Result<Vec<Model>> {
    use sea_orm::QueryOrder;
    let mut campaign_ids = sea_orm::sea_query::Query::select();
    campaign_ids.column(entity::run::Column::CampaignId).from(Entity).and_where(any_of(
        tx.dialect(),
        COLUMN.id,
        ids.iter().copied(),
    ));
    let campaigns = campaign::Entity::find()
        .filter(campaign::COLUMN.id.in_subquery(campaign_ids))
        .filter(campaign::COLUMN.status.ne(entity::CampaignStatus::Paused))
        .order_by_asc(campaign::COLUMN.id)
        .lock_shared()
        .all(tx.db())
        .await?;
    Ok(Entity::find()
        .filter(any_of(tx.dialect(), COLUMN.id, ids.iter().copied()))
        .filter(unplanned().or(any_of(tx.dialect(), COLUMN.campaign_id, campaigns.iter().map(|campaign| campaign.id))))
        .filter(COLUMN.status.eq(RunStatus::InProgress))
        .order_by_asc(COLUMN.id)
        .lock_shared()
        .all(tx.db())
        .await?)
}

/// Locks and returns those runs whose manual messages may be sent now.
pub(crate) async fn list_sending(tx: &Tx, ids: &[RunId]) -> Result<Vec<Model>> {
    use sea_orm::QueryOrder;
    Ok(Entity::find()
        .filter(any_of(tx.dialect(), COLUMN.id, ids.iter().copied()))
        .filter(COLUMN.status.is_in([RunStatus::InProgress, RunStatus::Completed]))
        .order_by_asc(COLUMN.id)
        .lock_shared()
        .all(tx.db())
        .await?)
}

/// SQL condition: the run has no campaign (guided work).
fn unplanned() -> Expr {
    Expr::col((Entity, entity::run::Column::CampaignId)).is_null()
}

/// SQL condition: the run's campaign is not paused, or it has none.
pub(crate) fn not_held() -> Expr {
    unplanned().or(COLUMN.campaign_id.not_in_subquery(held_campaigns()))
}

/// Subquery of the ids of paused campaigns.
pub(crate) fn held_campaigns() -> sea_orm::sea_query::SelectStatement {
    let mut held = sea_orm::sea_query::Query::select();
    held.column(campaign::Column::Id)
        .from(campaign::Entity)
        .and_where(campaign::COLUMN.status.eq(entity::CampaignStatus::Paused));
    held
}
