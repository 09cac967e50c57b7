//! The preflight report: its checks, each with a code, status, message and remediation.

use async_graphql::{Enum, SimpleObject};
use serde::{Deserialize, Serialize};

/// The kind of launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LaunchAction {
    /// A run to the test addresses.
    TestRun,
    /// A run over the audience, now.
    Run,
    /// A run over the audience, at its time.
    Schedule,
}

/// The subject of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PreflightCode {
    /// The campaign has a goal.
    Goal,
    /// The campaign has a writer.
    Writer,
    /// The campaign has a reviewer.
    Reviewer,
    /// The campaign has a message template for its channel.
    MessageTemplate,
    /// The campaign has a segment, or a single record instead.
    Audience,
    /// The campaign is active.
    CampaignActive,
    /// The audience is not empty and at least one of its records can be reached.
    AudienceReachable,
    /// The channel is configured.
    Channel,
    /// The run has a source of content: a template to render, or an agent that writes.
    Content,
    /// The templates render for a sample record.
    Rendering,
    /// The structure of the run is valid.
    RunTemplate,
    /// Test recipients, or the size of a sample, are given.
    TestRecipients,
    /// The scheduled time lies in the future; the cron pattern and time zone are valid.
    Time,
    /// No two records of the audience share an address.
    SharedAddresses,
    /// No other run of the campaign is open.
    OpenRun,
    /// The content that would be sent is the approved content.
    ApprovedVersion,
    /// The number of steps (steps per record times records) is within the limit of a run.
    RunSize,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckStatus {
    /// The check found no problem.
    Passed,
    /// The launch is allowed, but this needs attention.
    Warning,
    /// The launch is not allowed.
    Failed,
    /// The check does not apply to this campaign or action.
    NotApplicable,
}

/// The effect of a failed check on this action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    /// A failure prevents the launch.
    Required,
    /// A failure is reported only; the launch is still allowed.
    Advisory,
}

/// One check of a preflight.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct PreflightCheck {
    /// The subject of the check.
    pub code: PreflightCode,
    /// The outcome.
    pub status: CheckStatus,
    /// The effect of a failure on this action.
    pub severity: Severity,
    /// The field of the campaign or of the input to correct; null if there is no single one.
    pub field: Option<String>,
    /// The finding, as a sentence.
    pub message: String,
    /// Advice on how to correct the problem; null if there is none.
    pub remediation: Option<String>,
}

/// Reachability of an audience at this moment; `total` is the sum of the other counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct AudienceCounts {
    /// Records of the segment, or the campaign's one record.
    pub total: u64,
    /// Records that get a message.
    pub reachable: u64,
    /// Records without an address for the campaign's channel.
    pub no_address: u64,
    /// Records with an unsubscribed address, be it through this record or another one with the same
    /// address.
    pub unsubscribed: u64,
    /// Records with an address on the suppression list.
    pub suppressed: u64,
    /// Records sharing an address with another record of the audience: each address gets one
    /// message.
    pub duplicate_address: u64,
}

/// The result of the checks before a launch, with every reason against it at once.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct Preflight {
    /// Identifies the content that an approval would cover now: the campaign's own fields except
    /// name and description, and the content of its parts. It changes whenever any of them changes.
    /// Pass it to `approveCampaign` as `expectedContentVersion`. Null in reports that were stored
    /// before this field existed.
    #[serde(default)]
    pub content_version: Option<String>,
    /// The kind of launch that was checked.
    pub action: LaunchAction,
    /// True if the launch is allowed: no check failed.
    pub ready: bool,
    /// All checks, including those that passed.
    pub checks: Vec<PreflightCheck>,
    /// Reachability of the audience; null if nothing is sent or there is no audience.
    #[serde(default)]
    pub audience: Option<AudienceCounts>,
}

impl Preflight {
    /// Joins the messages of the failed checks, for the error that rejects a launch.
    pub fn failures(&self) -> String {
        let failed = self.checks.iter().filter(|check| check.status == CheckStatus::Failed);
        failed.map(|check| check.message.as_str()).collect::<Vec<_>>().join("; ")
    }
}
