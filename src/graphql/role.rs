//! Who may ask which root field: a table (the words are those of `docs/reference/product.md`). What is not in it nobody may ask;
//! a test walks every field of the schema with every role.

use async_graphql::parser::types::OperationType;
use entity::member::Role;
use serde_json::json;

use crate::kernel::error::{Code, Refusal};
use crate::kernel::viewer::Viewer;

/// For anybody who is known, whatever the role: who am I, and what the schema is.
pub const ANYBODY: &[&str] = &["viewer", "__typename", "__schema", "__type"];

/// What only some may read.
pub const READ: &[(Role, &[&str])] = &[(Role::Admin, &["apiKey", "apiKeys", "audit"])];

/// What a worker may ask: it takes steps, and settles what it holds. What it is shown of a step is its agent's context.
pub const WORK: &[&str] = &["claimSteps", "renewSteps", "settleSteps", "completeStep", "failStep", "workQueued"];

/// What may be done, by the least role that may.
pub const DO: &[(Role, &[&str])] = &[
    (
        Role::Operator,
        &[
            "testRunCampaign",
            "runCampaign",
            "pauseRun",
            "resumeRun",
            "cancelRun",
            "retryRun",
            "refreshRun",
            "repeatRun",
            "cancelRuns",
            "retryRuns",
            "rescheduleRun",
            "releasePhase",
            "startStep",
            "completeStep",
            "failStep",
            "skipStep",
            "resetStep",
            "restartStep",
            "claimSteps",
            "renewSteps",
            "settleSteps",
            "submitStep",
            "assignStep",
            "retryStep",
            "resolveCommunication",
            "recordReply",
            "raiseEvent",
            "unsubscribeRecords",
            "suppressAddress",
            "startGuidedRun",
            "completeRun",
            "sendStepEmail",
            "refreshStepRecords",
            "updateStepStage",
            "scheduleStepMeeting",
            "createStepFollowUp",
            "addStepNote",
            "createStepRecords",
            "completeFollowUp",
            "cancelFollowUp",
            "reopenFollowUp",
            "moveMeeting",
            "cancelMeeting",
        ],
    ),
    (
        Role::Reviewer,
        &["approveStep", "rejectStep", "approveCommunication", "rejectCommunication", "editCommunication"],
    ),
    (
        Role::Manager,
        &[
            "createGoal",
            "updateGoal",
            "deleteGoal",
            "createWriter",
            "updateWriter",
            "deleteWriter",
            "createReviewer",
            "updateReviewer",
            "deleteReviewer",
            "createMessageTemplate",
            "updateMessageTemplate",
            "deleteMessageTemplate",
            "createSegment",
            "updateSegment",
            "deleteSegment",
            "createRunTemplate",
            "updateRunTemplate",
            "deleteRunTemplate",
            "createAgent",
            "updateAgent",
            "deleteAgent",
            "applyManifest",
            "createRecord",
            "updateRecord",
            "deleteRecord",
            "unsuppressAddress",
            "createCampaign",
            "updateCampaign",
            "deleteCampaign",
            "duplicateCampaign",
            "restoreCampaignVersion",
            "submitCampaign",
            "approveCampaign",
            "rejectCampaign",
            "pauseCampaign",
            "resumeCampaign",
            "completeCampaign",
            "cancelCampaign",
            "scheduleCampaign",
            "endSchedule",
            "updateSchedule",
            "pauseSchedule",
            "resumeSchedule",
            "scheduleGuidedRun",
            "setStages",
        ],
    ),
    (Role::Admin, &["createMember", "updateMember", "deleteMember", "createApiKey", "revokeApiKey"]),
];

/// The least role that may ask a root field; none where anybody may.
pub fn needed(kind: OperationType, field: &str) -> Option<Role> {
    let among =
        |table: &[(Role, &[&str])]| table.iter().find(|(_, fields)| fields.contains(&field)).map(|(role, _)| *role);
    match kind {
        _ if ANYBODY.contains(&field) => None,
        OperationType::Query => Some(among(READ).unwrap_or(Role::Viewer)),
        OperationType::Subscription => Some(Role::Viewer),
        // One that the table forgot.
        OperationType::Mutation => Some(among(DO).unwrap_or(Role::Admin)),
    }
}

/// Lets a viewer do what needs a role. Errors: FORBIDDEN, with the role and the one that is needed.
pub fn at_least(viewer: &Viewer, needed: Role, what: &str) -> Result<(), Refusal> {
    if viewer.role.covers(needed) {
        return Ok(());
    }
    let told = format!("{what} is for the role {needed}; you have {}", viewer.role);
    Err(Refusal::new(Code::Forbidden, told).with("role", json!(viewer.role)).with("needed", json!(needed)))
}

/// Lets whoever is no worker go on from a step to what is around it: a worker sees its agent's context, and nothing else.
pub fn beyond(viewer: &Viewer) -> Result<(), Refusal> {
    at_least(viewer, Role::Viewer, "what is around a step")
}

/// Lets a viewer ask a root field. Errors: FORBIDDEN, with the role and the one that is needed.
pub fn check_allowed(viewer: &Viewer, kind: OperationType, field: &str) -> Result<(), Refusal> {
    if viewer.role == Role::Worker && WORK.contains(&field) {
        return Ok(());
    }
    needed(kind, field).map_or(Ok(()), |needed| at_least(viewer, needed, field))
}
