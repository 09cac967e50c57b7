//! A task, a unit of work within a phase. One total function derives its status from its steps; it
//! is never set otherwise.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::definition::FailWhen;
use crate::id::*;
use crate::phase::Names;
use crate::step::StepStatus;

text_enum! {
    /// Status of a task.
    pub enum TaskStatus {
        /// All of its steps are PENDING.
        Pending,
        /// At least one of its steps is queued, has started or has ended.
        InProgress,
        /// Waits for the tasks that it depends on.
        Blocked,
        /// All steps have ended, with failures within the task's rule.
        Completed,
        /// Ended without work: it has no step, or all were skipped.
        Skipped,
        /// More steps failed than the task's rule allows.
        Failed,
    }
}

impl TaskStatus {
    /// Returns true if tasks that depend on this one may start.
    pub fn meets_dependency(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped)
    }
}

/// Number of a task's steps in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Waiting for their trigger.
    pub pending: i64,
    /// Ready to be claimed.
    pub queued: i64,
    /// Started, and not ended.
    pub in_progress: i64,
    /// Done, waiting for approval.
    pub awaiting_approval: i64,
    /// Completed.
    pub completed: i64,
    /// Skipped.
    pub skipped: i64,
    /// Failed for good.
    pub failed: i64,
}

impl StepCounts {
    /// Returns the number of all steps.
    pub fn total(&self) -> i64 {
        self.open() + self.completed + self.skipped + self.failed
    }

    /// Returns the number of steps that are not closed.
    pub fn open(&self) -> i64 {
        self.pending + self.queued + self.in_progress + self.awaiting_approval
    }

    /// Returns the counter of one status.
    pub fn of(&mut self, status: StepStatus) -> &mut i64 {
        match status {
            StepStatus::Pending => &mut self.pending,
            StepStatus::Queued => &mut self.queued,
            StepStatus::InProgress => &mut self.in_progress,
            StepStatus::AwaitingApproval => &mut self.awaiting_approval,
            StepStatus::Completed => &mut self.completed,
            StepStatus::Skipped => &mut self.skipped,
            StepStatus::Failed => &mut self.failed,
        }
    }

    /// Adds up two sets of counts.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            pending: self.pending + other.pending,
            queued: self.queued + other.queued,
            in_progress: self.in_progress + other.in_progress,
            awaiting_approval: self.awaiting_approval + other.awaiting_approval,
            completed: self.completed + other.completed,
            skipped: self.skipped + other.skipped,
            failed: self.failed + other.failed,
        }
    }
}

/// The inputs from which a task's status is derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskFacts {
    /// Counts of its steps.
    pub counts: StepCounts,
    /// True if all its steps have been created.
    pub fan_out_done: bool,
    /// The failure rule.
    pub fail_when: FailWhen,
    /// True if all tasks that it depends on are completed or skipped.
    pub depends_met: bool,
    /// True if its phase is active.
    pub phase_active: bool,
    /// True while its failed steps are being returned to the queue.
    pub retrying: bool,
}

impl TaskFacts {
    /// Returns the counts, with failed steps counted as queued during a retry.
    fn counts(&self) -> StepCounts {
        if self.retrying {
            StepCounts { queued: self.counts.queued + self.counts.failed, failed: 0, ..self.counts }
        } else {
            self.counts
        }
    }

    /// Returns true if no step is open and none will be created.
    pub fn is_closed(&self) -> bool {
        self.fan_out_done && self.counts().open() == 0
    }

    /// Derives the status (docs/reference/product.md, "Task").
    pub fn status(&self) -> TaskStatus {
        let counts = &self.counts();
        let beyond = match self.fail_when {
            FailWhen::Any => counts.failed > 0,
            FailWhen::All => self.is_closed() && counts.failed > 0 && counts.completed == 0,
            // Decidable only when the total is known.
            FailWhen::Percent(most) => self.fan_out_done && counts.failed * 100 > counts.total() * i64::from(most),
        };
        if beyond {
            TaskStatus::Failed
        } else if self.is_closed() {
            if counts.total() == counts.skipped { TaskStatus::Skipped } else { TaskStatus::Completed }
        } else if self.phase_active && !self.depends_met {
            TaskStatus::Blocked
        } else if counts.total() == counts.pending {
            TaskStatus::Pending
        } else {
            TaskStatus::InProgress
        }
    }
}

/// The failure rule, stored as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct FailRule(pub FailWhen);

/// One task of a run.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "task")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: TaskId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run.
    pub run_id: RunId,
    /// The phase.
    pub phase_id: PhaseId,
    /// Key in the definition.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Position within the run, across its phases, from 1.
    pub sequence: i32,
    /// Status as last derived.
    pub status: TaskStatus,
    /// True if its steps are created once per record.
    pub fan_out: bool,
    /// Set when the creation of its steps has started.
    pub fan_out_begun: bool,
    /// Set when all its steps have been created and no sweep is working on them.
    pub fan_out_done: bool,
    /// True while its failed steps are being returned to the queue.
    pub retrying: bool,
    /// The failure rule.
    pub fail_when: FailRule,
    /// Keys of the tasks that it depends on.
    pub depends_on: Names,
    /// Number of steps that wait for their trigger.
    pub pending: i64,
    /// Number of steps ready to be claimed.
    pub queued: i64,
    /// Number of steps in progress.
    pub in_progress: i64,
    /// Number of steps that wait for approval.
    pub awaiting_approval: i64,
    /// Number of completed steps.
    pub completed: i64,
    /// Number of skipped steps.
    pub skipped: i64,
    /// Number of failed steps.
    pub failed: i64,
    /// Due time.
    pub due_at: Option<DateTimeUtc>,
    /// Reason why its steps are skipped, if a condition or a decision requires it.
    #[sea_orm(column_name = "left_out")]
    pub left_out_reason: Option<String>,
    /// Time at which it first left PENDING.
    pub started_at: Option<DateTimeUtc>,
    /// Time at which it reached a final status.
    pub completed_at: Option<DateTimeUtc>,
}

impl Model {
    /// Returns the counters as one value.
    pub fn counts(&self) -> StepCounts {
        StepCounts {
            pending: self.pending,
            queued: self.queued,
            in_progress: self.in_progress,
            awaiting_approval: self.awaiting_approval,
            completed: self.completed,
            skipped: self.skipped,
            failed: self.failed,
        }
    }
}

impl ActiveModelBehavior for ActiveModel {}
