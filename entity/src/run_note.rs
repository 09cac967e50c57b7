//! A note about a run: a lesson for later campaigns.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// The object that a note about a run, or a finding about it, belongs to.
    pub enum RunNoteSubject {
        /// The campaign: something to do in another way when it runs again.
        Campaign,
        /// The goal: something that holds for every campaign with this goal.
        Goal,
        /// This execution alone.
        Execution,
    }
}

/// One note about a run.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run_note")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RunNoteId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run that it is about.
    pub run_id: RunId,
    /// The run's campaign; null for guided work.
    pub campaign_id: Option<CampaignId>,
    /// The run's goal, which may have been deleted since; null if the run has none.
    pub goal_id: Option<GoalId>,
    /// The object that it belongs to.
    pub belongs_to: RunNoteSubject,
    /// The text.
    pub text: String,
    /// The actor that added it.
    pub created_by: Actor,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
