//! What a preflight says: its checks, each with code, status, message and how to mend it.

use async_graphql::{Enum, SimpleObject};
use serde::{Deserialize, Serialize};

/// What is to be launched.
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

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PreflightCode {
    /// There is a goal.
    Goal,
    /// There is a writer.
    Writer,
    /// There is a reviewer.
    Reviewer,
    /// There is a message template of the campaign's channel.
    MessageTemplate,
    /// There is a segment, or a record in its place.
    Audience,
    /// The campaign is active.
    CampaignActive,
    /// The audience is not empty, and has addresses.
    AudienceReachable,
    /// The channel is configured.
    Channel,
    /// There is something to render, or somebody to write.
    Content,
    /// The templates render for a sample record.
    Rendering,
    /// The structure of the run is valid.
    RunTemplate,
    /// Test recipients are given, or a sample is to be taken.
    TestRecipients,
    /// The time lies in the future; pattern and zone are valid.
    Time,
    /// No two records of the audience share an address.
    SharedAddresses,
    /// No other run of the campaign is open.
    OpenRun,
    /// What would fly is what was approved.
    ApprovedVersion,
    /// The steps for each record, times the records, are no more than a run may have.
    RunSize,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckStatus {
    /// All is well.
    Passed,
    /// It may fly, but look at this.
    Warning,
    /// It may not fly.
    Failed,
    /// Nothing to check here.
    NotApplicable,
}

/// What a check's failing means for this action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Severity {
    /// It keeps the launch from happening.
    Required,
    /// It is told, and does not keep anything from happening.
    Advisory,
}

/// One check of a preflight.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct PreflightCheck {
    /// What it is about.
    pub code: PreflightCode,
    /// How it came out.
    pub status: CheckStatus,
    /// What its failing means for this action.
    pub severity: Severity,
    /// The field of the campaign or the input to mend; null where there is no single one.
    pub field: Option<String>,
    /// What was found, in a sentence.
    pub message: String,
    /// How to mend it; null where there is nothing to mend.
    pub remediation: Option<String>,
}

/// Who of an audience can be reached, as the lists stand now: `total` is the sum of the other counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct AudienceCounts {
    /// Records of the segment, or the campaign's one record.
    pub total: u64,
    /// Those that get a message.
    pub reachable: u64,
    /// Those without an address of the campaign's channel.
    pub no_address: u64,
    /// Those whose address was opted out, by their own record or by another one with the same address.
    pub unsubscribed: u64,
    /// Those whose address somebody put on the list of suppressed ones.
    pub suppressed: u64,
    /// Those whose address another record of the audience has, too: each address gets one message.
    pub duplicate_address: u64,
}

/// Whether an action may fly, with every reason at once.
#[derive(Clone, Debug, PartialEq, Eq, SimpleObject, Serialize, Deserialize)]
pub struct Preflight {
    /// Names what an approval would cover now: the campaign's own fields but name and description, and the content of its
    /// parts. It is another text once any of them is another; give it to `approveCampaign` as `expectedContentVersion`. Null in
    /// reports that were kept before there was one.
    #[serde(default)]
    pub content_version: Option<String>,
    /// What was to be launched.
    pub action: LaunchAction,
    /// Whether it may: no check failed.
    pub ready: bool,
    /// Every check, also those that passed.
    pub checks: Vec<PreflightCheck>,
    /// Who can be reached; null where nothing is sent, or there is no audience.
    #[serde(default)]
    pub audience: Option<AudienceCounts>,
}

impl Preflight {
    /// What failed, in a sentence; for refusals.
    pub fn failures(&self) -> String {
        let failed = self.checks.iter().filter(|check| check.status == CheckStatus::Failed);
        failed.map(|check| check.message.as_str()).collect::<Vec<_>>().join("; ")
    }
}
