//! One execution of a campaign, or of guided work: page, launch, schedule, pause, cancel.

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

/// What can be done with a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "RunAction")]
pub enum Action {
    /// Move its time.
    Reschedule,
    /// Hold it.
    Pause,
    /// Let it go on.
    Resume,
    /// Call it off.
    Cancel,
    /// Have what failed done again.
    Retry,
    /// Look again at where it stands, and move what can move.
    Refresh,
    /// Queue another like it.
    Repeat,
    /// Queue another over those whom it did not reach.
    RepeatFailed,
    /// Say that guided work is done.
    Complete,
}

impl Action {
    /// All of them.
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

    /// The edge of the law; looking again is none.
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

/// Whether an action would be carried out now; the refusal tells why not. The verbs ask the same. Guided work has no
/// campaign.
pub fn check_allowed(run: &Model, campaign: Option<CampaignStatus>, action: Action) -> Result<()> {
    // Cancelling twice is one cancel: the repeat is answered, and changes nothing.
    if action == Action::Cancel && run.status == RunStatus::Cancelled {
        return Ok(());
    }
    match (action, campaign) {
        (Action::Repeat | Action::RepeatFailed, Some(campaign)) => return repeat::check_allowed(run, campaign),
        (Action::Repeat | Action::RepeatFailed, None) => {
            return Err(Refusal::conflict("guided work is begun anew: startGuidedRun").into());
        }
        // Of guided work what was done stays done.
        (Action::Retry, None) if run.status == RunStatus::Completed => {
            return Err(Refusal::transition("run", run.status, RunTransition::Retry).into());
        }
        (Action::Complete, Some(_)) => {
            return Err(Refusal::conflict("a campaign's run completes by itself, when its phases are through").into());
        }
        _ => {}
    }
    match action.act() {
        Some(act) => next_status(run, act).map(|_| ())?,
        None if run.status.is_open() => {}
        None => return Err(Refusal::conflict(format!("it has ended: it is {}", run.status)).into()),
    }
    match (action, campaign) {
        (Action::Retry, Some(campaign)) => retry::check_allowed(run, campaign),
        _ => Ok(()),
    }
}

/// The plan of a run; none of guided work.
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

pub(crate) fn next_status(run: &Model, act: RunTransition) -> Result<RunStatus> {
    Ok(run.status.next(act).ok_or_else(|| Refusal::transition("run", run.status, act))?)
}

/// Pauses or resumes. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION.
pub async fn hold(db: &Db, viewer: &Viewer, id: RunId, expected: Option<i32>, act: RunTransition) -> Result<Model> {
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, id, expected).await?;
        let run = step_to(tx, viewer, run, act, None, |_| {}).await?;
        tx.set_result(run.id);
        if run.status == RunStatus::InProgress {
            return advance::advance(tx, viewer, run).await;
        }
        Ok(run)
    })
}

/// Moves a scheduled run's time. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION, BAD_USER_INPUT for a past time.
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
            step_to(tx, viewer, run, RunTransition::Reschedule, None, |row| row.scheduled_for = Set(Some(at))).await?;
        if let Some(schedule) = schedule {
            occurrence::follow(tx, viewer, schedule).await?;
        }
        Ok(run)
    })
}

/// Calls a run off; twice is once. Its open steps follow in a sweep, but nothing of it starts from now on.
/// Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION for a run that has ended otherwise.
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
        let waited = run.status == RunStatus::Scheduled;
        let run = cancel_one(tx, viewer, run, reason.as_deref()).await?;
        if let Some(schedule) = schedule.filter(|_| waited) {
            occurrence::skip(tx, viewer, schedule, &run).await?;
        }
        Ok(run)
    })
}

async fn cancel_one(tx: &Tx, viewer: &Viewer, run: Model, reason: Option<&str>) -> Result<Model> {
    let was = run.status;
    let at = tx.now();
    let run = step_to(tx, viewer, run, RunTransition::Cancel, reason, |row| {
        row.ended_at = Set(Some(at));
        row.failure = Set(reason.map(str::to_owned));
    })
    .await?;
    match was {
        RunStatus::InProgress | RunStatus::Paused => {
            let told = reason
                .map_or_else(|| "the run was cancelled".to_owned(), |why| format!("the run was cancelled: {why}"));
            sweep::begin(tx, viewer, &run, None, SweepKind::Cancel, Some(told)).await?;
        }
        RunStatus::Scheduled | RunStatus::Queued | RunStatus::Completed | RunStatus::Cancelled | RunStatus::Failed => {}
    }
    Ok(run)
}

/// Calls off every open run of a campaign, whose schedules have ended.
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

/// Takes an edge of the law, with its event; `more` sets what else changes.
pub(crate) async fn step_to(
    tx: &Tx,
    viewer: &Viewer,
    run: Model,
    act: RunTransition,
    reason: Option<&str>,
    more: impl FnOnce(&mut entity::run::ActiveModel),
) -> Result<Model> {
    let to = next_status(&run, act)?;
    let (from, revision) = (run.status, run.revision);
    let mut row = run.into_active_model();
    row.status = Set(to);
    more(&mut row);
    row.updated_at = Set(tx.now());
    row.revision = Set(revision + 1);
    let run = row.update(tx.db()).await?;
    let kind = match act {
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

/// An event about a run, with what filters on runs need.
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

/// Those of the runs that may be worked on at this moment, locked against being held or called off until the
/// transaction ends: what commits under it comes before the answer of a cancel.
pub(crate) async fn list_running(tx: &Tx, ids: &[RunId]) -> Result<Vec<Model>> {
    use sea_orm::QueryOrder;
    let mut theirs = sea_orm::sea_query::Query::select();
    theirs.column(entity::run::Column::CampaignId).from(Entity).and_where(any_of(
        tx.dialect(),
        COLUMN.id,
        ids.iter().copied(),
    ));
    let campaigns = campaign::Entity::find()
        .filter(campaign::COLUMN.id.in_subquery(theirs))
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

/// Those of the runs whose people's messages may go at this moment, locked in the same way.
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

/// Of no campaign: guided work.
fn unplanned() -> Expr {
    Expr::col((Entity, entity::run::Column::CampaignId)).is_null()
}

/// Of no campaign, or of one that is not held.
pub(crate) fn not_held() -> Expr {
    unplanned().or(COLUMN.campaign_id.not_in_subquery(held_campaigns()))
}

/// The ids of campaigns that are held, as a subquery.
pub(crate) fn held_campaigns() -> sea_orm::sea_query::SelectStatement {
    let mut held = sea_orm::sea_query::Query::select();
    held.column(campaign::Column::Id)
        .from(campaign::Entity)
        .and_where(campaign::COLUMN.status.eq(entity::CampaignStatus::Paused));
    held
}
