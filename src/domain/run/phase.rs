//! Phases of a run: lookups, transitions, and the judge of their release by a person.

use async_graphql::Enum;
use entity::id::*;
use entity::phase::{COLUMN, Column, Entity, Model, PhaseTransition};
use entity::{CampaignStatus, PhaseStatus, RunStatus, StateMachine, campaign, run, task};
use sea_orm::sea_query::{Expr, ExprTrait, IntoCondition, Query, SubQueryStatement};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, JoinType,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Set,
};
use serde_json::json;

use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;

scoped!(phase, PhaseId, "phase");

/// Column of a statement: the status of the run's campaign.
const CAMPAIGN_STATUS: &str = "campaign_status";

/// Phases of some runs, in order.
pub async fn of_runs(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[RunId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.run_id, runs.iter().copied()))
        .order_by_asc(COLUMN.sequence)
        .all(db)
        .await?)
}

/// A run's phases and tasks, each in order, and the status of its campaign, in one statement. The
/// status is none for guided work, and for a run without phases yet.
pub(in crate::domain::run) async fn with_tasks(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    run: &run::Model,
) -> Result<(Vec<Model>, Vec<task::Model>, Option<CampaignStatus>)> {
    let of_phase =
        Entity::belongs_to(task::Entity).from(Column::Id).to(task::Column::PhaseId).on_condition(|phase, task| {
            Expr::col((phase, Column::RunId)).equals((task, task::Column::RunId)).into_condition()
        });
    let mut status = Query::select();
    status.column(campaign::Column::Status).from(campaign::Entity).and_where(campaign::COLUMN.id.eq(run.campaign_id));
    let mut found = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.run_id.eq(run.id))
        .join(JoinType::LeftJoin, of_phase.into())
        .select_also(task::Entity)
        .order_by_asc(COLUMN.sequence)
        .into_query();
    found.expr_as(Expr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(status))), CAMPAIGN_STATUS);
    let (mut phases, mut tasks, mut campaign): (Vec<Model>, Vec<task::Model>, _) = (Vec::new(), Vec::new(), None);
    for row in db.query_all(&found).await? {
        let id: PhaseId = row.try_get("A_", "id")?;
        if phases.last().is_none_or(|last| last.id != id) {
            phases.push(Model::from_query_result(&row, "A_")?);
            campaign = row.try_get("", CAMPAIGN_STATUS)?;
        }
        tasks.extend(task::Model::from_query_result_optional(&row, "B_")?);
    }
    tasks.sort_by_key(|task| task.sequence);
    Ok((phases, tasks, campaign))
}

/// Action on a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "PhaseAction")]
pub enum Action {
    /// Releases the phase.
    Release,
}

/// Checks that the phase can be released now; the error names the reason. `release_phase` calls the
/// same check.
pub fn check_release_allowed(run: &run::Model, phase: &Model) -> Result<()> {
    let why = if run.status != RunStatus::InProgress {
        format!("phases are released only in a run that is IN_PROGRESS; this one is {}", run.status)
    } else if phase.status != PhaseStatus::Active {
        format!("only an ACTIVE phase is released; this one is {}", phase.status)
    } else if phase.autonomous {
        "an autonomous phase needs no release".to_owned()
    } else if let Some(actor) = &phase.advanced_by {
        format!("{} has released it already", actor.name)
    } else {
        return Ok(());
    };
    Err(Refusal::conflict(why).into())
}

/// Applies a transition of a phase, with its event and the event's reason.
pub(super) async fn apply_transition(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    phase: Model,
    transition: PhaseTransition,
    reason: Option<&str>,
) -> Result<Model> {
    let (from, revision) = (phase.status, phase.revision);
    let Some(to) = from.next(transition) else {
        return Err(Error::internal(format!("the phase {} is {from} and can't {transition:?}", phase.id)));
    };
    let mut row = phase.into_active_model();
    row.status = Set(to);
    row.revision = Set(revision + 1);
    let kind = match transition {
        PhaseTransition::Start | PhaseTransition::Retry | PhaseTransition::Reset => {
            row.started_at = Set(Some(tx.now()));
            row.completed_at = Set(None);
            "phase.started"
        }
        PhaseTransition::Complete => "phase.completed",
        PhaseTransition::Skip | PhaseTransition::Cancel => "phase.skipped",
        PhaseTransition::Fail => "phase.failed",
        PhaseTransition::Reopen => {
            row.started_at = Set(None);
            row.completed_at = Set(None);
            "phase.reset"
        }
    };
    if to.is_over() {
        row.completed_at = Set(Some(tx.now()));
    }
    let phase = row.update(tx.db()).await?;
    let payload = json!({ "from": from, "to": to, "key": phase.key, "name": phase.name, "reason": reason });
    event::append(tx, Event::new(run.org_id, kind, &viewer.actor()).run(run).phase(phase.id).payload(payload));
    Ok(phase)
}
