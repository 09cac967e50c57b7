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
    /// The object whose change would change it: the campaign, its goal, or this execution alone.
    /// Follows from the code; EXECUTION for guided work, CAMPAIGN instead of GOAL without a goal. A
    /// note about the run may belong to the same.
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
    /// The run failed, for this reason.
    Failure,
    /// Work on it fails again and again.
    Stuck,
    /// It has not begun: its time has not come.
    Scheduled,
    /// It was queued after its time.
    Late,
    /// It has not begun: it is queued.
    Queued,
    /// The campaign has changed since.
    Drift,
    /// Recipients were not reached because something failed.
    Failed,
    /// Recipients have suppressed addresses.
    Suppressed,
    /// Recipients were skipped.
    LeftOut,
    /// Steps were skipped because their condition can't be evaluated.
    ConditionUnreadable,
    /// Steps other than those of messages failed.
    StepsFailed,
    /// Messages wait for their channel.
    ChannelPaused,
    /// Messages were refused for now.
    RefusedForNow,
    /// Drafts were rejected.
    Rejected,
    /// Drafts were changed by hand.
    Edited,
    /// Messages have an unknown outcome.
    Unknown,
    /// Replies were received.
    Replies,
    /// Replies are not handled yet.
    RepliesOpen,
    /// Steps failed and were tried again, or given up.
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
