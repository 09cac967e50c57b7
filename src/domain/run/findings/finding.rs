//! One finding, with the code that says what it is about.

use async_graphql::{Enum, ID, SimpleObject};
use entity::id::RecordId;
use entity::run::Model;
use entity::run_note::RunNoteSubject;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum FindingSeverity {
    /// Information.
    Info,
    /// Something deviated from the plan.
    Warning,
    /// Something failed.
    Error,
}

/// One explanation of a run's behaviour.
#[derive(Clone, Debug, SimpleObject)]
pub struct Finding {
    /// Machine-readable code: FAILURE (the cause of the run's failure), FAILED (recipients),
    /// STEPS_FAILED, CONDITION_UNREADABLE, SUPPRESSED, LEFT_OUT, UNKNOWN, STUCK, CHANNEL_PAUSED,
    /// REFUSED_FOR_NOW, SCHEDULED, LATE, QUEUED, DRIFT, REJECTED, EDITED, RETRIED, REPLIES,
    /// REPLIES_OPEN.
    pub code: &'static str,
    /// Severity.
    pub severity: FindingSeverity,
    /// The object to change if the next run is to behave otherwise: the campaign, its goal, or only
    /// this execution. It follows from the code; EXECUTION for guided work, and CAMPAIGN instead of
    /// GOAL for a run without a goal. A note about the run can belong to the same object.
    pub belongs_to: RunNoteSubject,
    /// Sentence for people.
    pub message: String,
    /// Number of recipients, steps, messages or replies concerned; null if the finding is about the
    /// run.
    pub count: Option<i64>,
    /// Up to five of the records concerned; empty if there are none.
    pub record_ids: Vec<ID>,
}

/// Code of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingCode {
    /// Cause of the run's failure.
    Failure,
    /// Work on the run that fails repeatedly.
    Stuck,
    /// Time that the run still waits for.
    Scheduled,
    /// Delay between the run's time and its queueing.
    Late,
    /// Wait of a queued run.
    Queued,
    /// Changes of the campaign since the launch.
    Drift,
    /// Recipients that were not reached because something failed.
    Failed,
    /// Recipients whose address is suppressed.
    Suppressed,
    /// Skipped recipients.
    LeftOut,
    /// Steps that were skipped because their condition can't be evaluated.
    ConditionUnreadable,
    /// Failed steps other than those that draft or send messages.
    StepsFailed,
    /// Messages that wait for their paused channel.
    ChannelPaused,
    /// Messages that were refused for now.
    RefusedForNow,
    /// Rejected drafts.
    Rejected,
    /// Drafts that were changed by hand.
    Edited,
    /// Messages whose outcome is unknown.
    Unknown,
    /// Replies to the run's messages.
    Replies,
    /// Replies that are not handled yet.
    RepliesOpen,
    /// Steps that failed and were tried again, or given up.
    Retried,
}

impl FindingCode {
    /// Every code, in the order of a run's findings.
    pub const ALL: [Self; 19] = [
        Self::Failure,
        Self::Stuck,
        Self::Scheduled,
        Self::Late,
        Self::Queued,
        Self::Drift,
        Self::Failed,
        Self::Suppressed,
        Self::LeftOut,
        Self::ConditionUnreadable,
        Self::StepsFailed,
        Self::ChannelPaused,
        Self::RefusedForNow,
        Self::Rejected,
        Self::Edited,
        Self::Unknown,
        Self::Replies,
        Self::RepliesOpen,
        Self::Retried,
    ];

    /// Name in the API.
    pub fn name(self) -> &'static str {
        self.described().0
    }

    /// Object that such a finding belongs to in a run of a campaign with a goal.
    pub fn belongs_to(self) -> RunNoteSubject {
        self.described().2
    }

    fn described(self) -> (&'static str, FindingSeverity, RunNoteSubject) {
        use FindingSeverity::{Error, Info, Warning};
        use RunNoteSubject::{Campaign, Execution, Goal};
        match self {
            Self::Failure => ("FAILURE", Error, Execution),
            Self::Stuck => ("STUCK", Error, Execution),
            Self::Scheduled => ("SCHEDULED", Info, Execution),
            Self::Late => ("LATE", Warning, Execution),
            Self::Queued => ("QUEUED", Info, Execution),
            Self::Drift => ("DRIFT", Info, Campaign),
            Self::Failed => ("FAILED", Error, Execution),
            Self::Suppressed => ("SUPPRESSED", Warning, Campaign),
            Self::LeftOut => ("LEFT_OUT", Warning, Campaign),
            Self::ConditionUnreadable => ("CONDITION_UNREADABLE", Warning, Campaign),
            Self::StepsFailed => ("STEPS_FAILED", Error, Execution),
            Self::ChannelPaused => ("CHANNEL_PAUSED", Warning, Execution),
            Self::RefusedForNow => ("REFUSED_FOR_NOW", Warning, Execution),
            Self::Rejected => ("REJECTED", Warning, Campaign),
            Self::Edited => ("EDITED", Info, Campaign),
            Self::Unknown => ("UNKNOWN", Warning, Execution),
            Self::Replies => ("REPLIES", Info, Goal),
            Self::RepliesOpen => ("REPLIES_OPEN", Warning, Execution),
            Self::Retried => ("RETRIED", Info, Execution),
        }
    }
}

/// The findings about a run, while they are collected.
pub(super) struct FindingList<'a> {
    run: &'a Model,
    all: Vec<Finding>,
}

impl<'a> FindingList<'a> {
    pub(super) fn new(run: &'a Model) -> Self {
        Self { run, all: Vec::new() }
    }

    /// Adds a finding about the run itself.
    pub(super) fn add(&mut self, code: FindingCode, message: impl Into<String>) {
        self.push(code, message.into(), None, &[]);
    }

    /// Adds a finding about some recipients, steps, messages or replies.
    pub(super) fn add_count(&mut self, code: FindingCode, count: i64, message: String, some: &[RecordId]) {
        self.push(code, message, Some(count), some);
    }

    fn push(&mut self, code: FindingCode, message: String, count: Option<i64>, some: &[RecordId]) {
        let (code, severity, subject) = code.described();
        let record_ids = some.iter().map(|id| ID::from(id.to_string())).collect();
        self.all.push(Finding { code, severity, belongs_to: self.within_run(subject), message, count, record_ids });
    }

    /// The subject, or the next one below it that the run has.
    fn within_run(&self, subject: RunNoteSubject) -> RunNoteSubject {
        match subject {
            _ if self.run.campaign_id.is_none() => RunNoteSubject::Execution,
            RunNoteSubject::Goal if self.run.goal_id.is_none() => RunNoteSubject::Campaign,
            subject => subject,
        }
    }

    pub(super) fn into_all(self) -> Vec<Finding> {
        self.all
    }
}
