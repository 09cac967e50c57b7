//! Steps that people can act on: in which way, and not while the run or its campaign is paused.

use entity::definition::StepDef;
use entity::step::StepStatus;
use entity::{CampaignStatus, RunStatus};

use super::WaitContext;
use super::step_waits::Group;
use crate::domain::plan::run_template;

/// True if steps that are AWAITING_APPROVAL wait for the outcome of their message to be resolved, and
/// not for an approval.
pub(super) fn awaits_resolution(group: &Group, declared: Option<&StepDef>) -> bool {
    declared.and_then(run_template::approval_of).is_none() && group.kind != run_template::REVIEW
}

impl WaitContext<'_> {
    /// True if people can start or complete these steps. In a pause that is only the report of a call
    /// that has begun.
    pub(super) fn may_act_on(&self, group: &Group) -> bool {
        let is_paused = self.run.status == RunStatus::Paused
            || self.campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused);
        !is_paused || (group.kind == run_template::CALL && group.status == StepStatus::InProgress)
    }
}
