//! The actions of a person within a step that is in progress: decides which of them are allowed now.

use async_graphql::Enum;
use entity::step::Model;

use super::{active_step, notes, step_records};
use crate::domain::run::step::StepContext;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Action within a person's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "StepWorkAction")]
pub enum WorkAction {
    /// Writes to records.
    SendStepEmail,
    /// Moves records to other stages.
    UpdateStepStage,
    /// Books a meeting.
    ScheduleStepMeeting,
    /// Creates a follow-up.
    CreateStepFollowUp,
    /// Adds a note.
    AddStepNote,
    /// Creates records.
    CreateStepRecords,
    /// Replaces the fixed list of records by the current one.
    RefreshStepRecords,
}

impl WorkAction {
    /// All actions.
    pub const ALL: [Self; 7] = [
        Self::SendStepEmail,
        Self::UpdateStepStage,
        Self::ScheduleStepMeeting,
        Self::CreateStepFollowUp,
        Self::AddStepNote,
        Self::CreateStepRecords,
        Self::RefreshStepRecords,
    ];
}

/// Checks that an action within the step is allowed now; the error names the reason. The mutations make
/// the same checks.
pub fn check_allowed(viewer: &Viewer, step: &Model, context: &StepContext, action: WorkAction) -> Result<()> {
    active_step::check(viewer, &context.run, step, context.campaign_paused)?;
    match action {
        WorkAction::CreateStepRecords => notes::check_creates(step),
        WorkAction::RefreshStepRecords => {
            let guide = context.declared.as_ref().map(|declared| active_step::of_declared(&context.run, declared));
            step_records::check_listed(step, &guide.transpose()?.unwrap_or_default())
        }
        WorkAction::SendStepEmail
        | WorkAction::UpdateStepStage
        | WorkAction::ScheduleStepMeeting
        | WorkAction::CreateStepFollowUp
        | WorkAction::AddStepNote => Ok(()),
    }
}
