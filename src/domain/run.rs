//! Runs: executions of campaigns, or of guided work. The row: finders, transitions, events.

pub mod advance;
pub mod begin;
pub mod bulk;
pub mod campaign_control;
pub(crate) mod campaign_status;
pub(crate) mod carried_replies;
pub mod control;
pub mod dependents;
pub(crate) mod early_events;
pub mod erasure;
pub(crate) mod executor_ids;
pub mod findings;
pub mod fire_schedule;
pub mod goal_outcomes;
pub mod guided;
pub mod handle_reply;
pub mod incoming_reply;
pub mod interrupt;
pub mod launch;
pub mod list;
pub(crate) mod new_steps;
pub mod note;
pub mod occurrence;
pub mod overdue;
pub(crate) mod overlap;
pub mod past_occurrences;
pub mod permissions;
pub mod phase;
pub mod progress;
pub mod queue;
pub mod recipients;
pub mod record_change;
pub mod refresh;
pub mod repeat;
pub mod resolve;
pub mod retry;
pub mod review;
pub(crate) mod run_source;
pub mod schedule_act;
pub mod schedule_change;
pub(crate) mod schedule_end;
pub(crate) mod skip;
pub mod snapshot;
pub mod step;
pub mod step_graph;
pub(crate) mod step_messages;
pub mod sweep;
pub(crate) mod sweep_queue;
pub mod task;
pub(crate) mod unhandled_replies;
pub mod unreached;
pub mod upcoming;
pub mod update;
pub mod values;
pub mod waiting;

use entity::id::*;
use entity::run::{COLUMN, Entity, Model, RunTransition};
use entity::{RunStatus, StateMachine, campaign};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set,
};
use serde_json::{Value, json};

use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;

scoped!(run, RunId, "run");
locked!(run, RunId, "run");

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
        RunTransition::Enqueue => "run.queued",
        RunTransition::FailPreflight | RunTransition::Fail => "run.failed",
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
    lock_unpaused(tx, ids, &[RunStatus::InProgress]).await
}

/// Locks and returns those runs whose messages that people released may be sent now, in the same way. A
/// run that has completed or failed sends them, too: the person acted before, or moves a meeting.
pub(crate) async fn list_sending(tx: &Tx, ids: &[RunId]) -> Result<Vec<Model>> {
    lock_unpaused(tx, ids, &[RunStatus::InProgress, RunStatus::Completed, RunStatus::Failed]).await
}

/// Locks and returns runs with one of some statuses whose campaigns are not paused: the campaigns
/// first, each in the order of their ids.
async fn lock_unpaused(tx: &Tx, ids: &[RunId], statuses: &[RunStatus]) -> Result<Vec<Model>> {
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
        .filter(has_no_campaign().or(any_of(
            tx.dialect(),
            COLUMN.campaign_id,
            campaigns.iter().map(|campaign| campaign.id),
        )))
        .filter(any_of(tx.dialect(), COLUMN.status, statuses.iter().copied()))
        .order_by_asc(COLUMN.id)
        .lock_shared()
        .all(tx.db())
        .await?)
}

/// SQL condition: the run has no campaign (guided work).
fn has_no_campaign() -> Expr {
    Expr::col((Entity, entity::run::Column::CampaignId)).is_null()
}

/// SQL condition: the run's campaign is not paused, or it has none.
pub(crate) fn campaign_is_not_paused() -> Expr {
    has_no_campaign().or(COLUMN.campaign_id.not_in_subquery(paused_campaigns()))
}

/// Subquery of the ids of paused campaigns.
pub(crate) fn paused_campaigns() -> sea_orm::sea_query::SelectStatement {
    let mut held = sea_orm::sea_query::Query::select();
    held.column(campaign::Column::Id)
        .from(campaign::Entity)
        .and_where(campaign::COLUMN.status.eq(entity::CampaignStatus::Paused));
    held
}
