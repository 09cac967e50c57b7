//! One line of the durable log: every status change, in commit order, gapless per org.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One event.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// Whose log.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// 1, 2, 3 … within the org, in commit order.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// `noun.what_happened`, e.g. `step.completed`.
    pub kind: String,
    /// The campaign it is about, if any.
    pub campaign_id: Option<CampaignId>,
    /// The run.
    pub run_id: Option<RunId>,
    /// The phase.
    pub phase_id: Option<PhaseId>,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The step.
    pub step_id: Option<StepId>,
    /// The record.
    pub record_id: Option<RecordId>,
    /// Who did it.
    pub actor: Actor,
    /// What filters and readers need: from, to, reason, names.
    pub payload: Json,
    /// When.
    pub at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
