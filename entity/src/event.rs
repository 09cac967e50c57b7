//! The durable event log: every status change, in commit order, without gaps per org.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One event.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// The org that the log belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// Position within the org, from 1, in commit order.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// `noun.what_happened`, e.g. `step.completed`.
    pub kind: String,
    /// The campaign, if the event is about one.
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
    /// The actor.
    pub actor: Actor,
    /// Data for filters and readers: from, to, reason, names.
    pub payload: Json,
    /// Time of the event.
    pub at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
