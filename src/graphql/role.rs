//! Permissions: the role required for each root field, as a table (see
//! `docs/reference/product.md`). Mutations that are missing in it require ADMIN; a test checks
//! every field of the schema with every role.

use async_graphql::parser::types::OperationType;
use entity::member::Role;
use serde_json::json;

use crate::kernel::error::{Code, Refusal};
use crate::kernel::viewer::Viewer;

/// Root fields for every authenticated viewer, regardless of role: the viewer, and introspection.
pub const ANY_ROLE_FIELDS: &[&str] = &["viewer", "__typename", "__schema", "__type"];

/// Queries that require a higher role than VIEWER.
pub const QUERIES: &[(Role, &[&str])] = &[(Role::Admin, &["apiKey", "apiKeys", "audit"])];

/// Root fields for workers, which claim and settle steps. Beyond a step's own fields they receive
/// their agent's context only.
pub const WORKER_FIELDS: &[&str] =
    &["claimSteps", "renewSteps", "settleSteps", "completeStep", "failStep", "workQueued"];

/// Mutations by the minimum role that they require.
pub const MUTATIONS: &[(Role, &[&str])] = &[
    // Their own views; `saved_view` asks more of those who share one.
    (Role::Viewer, &["saveView", "deleteView"]),
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
            "startBulkAction",
            "stopBulkAction",
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
            "handleReply",
            "ignoreReply",
            "reopenReply",
            "assignReply",
            "raiseEvent",
            "unsubscribeRecords",
            "suppressAddress",
            "startGuidedRun",
            "completeRun",
            "updateRun",
            "addRunStep",
            "reorderRunSteps",
            "addRunNote",
            "updateRunNote",
            "deleteRunNote",
            "sendStepEmail",
            "refreshStepRecords",
            "updateStepStage",
            "scheduleStepMeeting",
            "createStepFollowUp",
            "addStepNote",
            "createStepRecords",
            "linkRecords",
            "unlinkRecords",
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
            "setCampaignTags",
            "archiveCampaign",
            "unarchiveCampaign",
            "scheduleCampaign",
            "endSchedule",
            "updateSchedule",
            "pauseSchedule",
            "resumeSchedule",
            "triggerSchedule",
            "skipOccurrence",
            "backfillSchedule",
            "scheduleGuidedRun",
            "updateRunOutcome",
            "setStages",
        ],
    ),
    (Role::Admin, &["createMember", "updateMember", "deleteMember", "createApiKey", "revokeApiKey", "eraseRecord"]),
];

/// Returns the minimum role for a root field; `None` if every role is allowed.
pub fn required_role(kind: OperationType, field: &str) -> Option<Role> {
    let among =
        |table: &[(Role, &[&str])]| table.iter().find(|(_, fields)| fields.contains(&field)).map(|(role, _)| *role);
    match kind {
        _ if ANY_ROLE_FIELDS.contains(&field) => None,
        OperationType::Query => Some(among(QUERIES).unwrap_or(Role::Viewer)),
        OperationType::Subscription => Some(Role::Viewer),
        // A mutation that is missing in the table.
        OperationType::Mutation => Some(among(MUTATIONS).unwrap_or(Role::Admin)),
    }
}

/// Returns the names of all mutations in alphabetical order, each with whether the viewer may use it.
pub fn mutations(viewer: &Viewer) -> Vec<(&'static str, bool)> {
    let all = MUTATIONS.iter().flat_map(|(_, names)| names.iter().copied());
    let mut all: Vec<_> =
        all.map(|name| (name, check_allowed(viewer, OperationType::Mutation, name).is_ok())).collect();
    all.sort_unstable();
    all
}

/// Checks that the viewer has a role. Errors: FORBIDDEN, with the viewer's role and the required
/// one.
pub fn require_role(viewer: &Viewer, needed: Role, what: &str) -> Result<(), Refusal> {
    if viewer.role.covers(needed) {
        return Ok(());
    }
    let message = format!("{what} requires the role {needed}; your role is {}", viewer.role);
    Err(Refusal::new(Code::Forbidden, message).with("role", json!(viewer.role)).with("needed", json!(needed)))
}

/// Rejects workers at fields that lead from a step to other objects: a worker sees its agent's
/// context only.
pub fn reject_workers(viewer: &Viewer) -> Result<(), Refusal> {
    require_role(viewer, Role::Viewer, "reading beyond a step's own fields")
}

/// Checks that the viewer may use a root field. Errors: FORBIDDEN, with the viewer's role and the
/// required one.
pub fn check_allowed(viewer: &Viewer, kind: OperationType, field: &str) -> Result<(), Refusal> {
    if viewer.role == Role::Worker && WORKER_FIELDS.contains(&field) {
        return Ok(());
    }
    required_role(kind, field).map_or(Ok(()), |needed| require_role(viewer, needed, field))
}
