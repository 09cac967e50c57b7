//! A unit of work within a phase. Its status is derived from the steps below by one total function, never set.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::definition::FailWhen;
use crate::id::*;
use crate::phase::Names;
use crate::step::StepStatus;

text_enum! {
    /// Where a task stands.
    pub enum TaskStatus {
        /// Nothing of it has begun.
        Pending,
        /// Some of it is at work, or through.
        InProgress,
        /// Waits for the tasks it depends on.
        Blocked,
        /// Closed, with failures within its rule.
        Completed,
        /// Closed without work: no step, or all skipped.
        Skipped,
        /// Failures beyond its rule.
        Failed,
    }
}

impl TaskStatus {
    /// Whether a task that depends on this one may begin.
    pub fn is_met(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped)
    }
}

/// How many steps a task has in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepCounts {
    /// Waiting for their trigger.
    pub pending: i64,
    /// Ready to be taken.
    pub queued: i64,
    /// Being done.
    pub in_progress: i64,
    /// Done, waiting to be let out.
    pub awaiting_approval: i64,
    /// Done.
    pub completed: i64,
    /// Left out.
    pub skipped: i64,
    /// Given up.
    pub failed: i64,
}

impl StepCounts {
    /// All steps.
    pub fn total(&self) -> i64 {
        self.open() + self.completed + self.skipped + self.failed
    }

    /// Those that may still change by themselves.
    pub fn open(&self) -> i64 {
        self.pending + self.queued + self.in_progress + self.awaiting_approval
    }

    /// The count of one status.
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

    /// This and the other, added up.
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

/// All that a task's status depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskFacts {
    /// Its steps.
    pub counts: StepCounts,
    /// Whether all its steps have been made.
    pub fan_out_done: bool,
    /// Its rule.
    pub fail_when: FailWhen,
    /// Whether all it depends on is completed or skipped.
    pub depends_met: bool,
    /// Whether its phase is active.
    pub phase_active: bool,
    /// Whether its failed steps are on their way back into the queue.
    pub retrying: bool,
}

impl TaskFacts {
    /// Its steps, those that are on their way back into the queue taken as queued.
    fn counts(&self) -> StepCounts {
        if self.retrying {
            StepCounts { queued: self.counts.queued + self.counts.failed, failed: 0, ..self.counts }
        } else {
            self.counts
        }
    }

    /// Whether no step is open and none is to come.
    pub fn is_closed(&self) -> bool {
        self.fan_out_done && self.counts().open() == 0
    }

    /// The status that follows (docs/reference/product.md, "Task").
    pub fn status(&self) -> TaskStatus {
        let counts = &self.counts();
        let beyond = match self.fail_when {
            FailWhen::Any => counts.failed > 0,
            FailWhen::All => self.is_closed() && counts.failed > 0 && counts.completed == 0,
            // Certain only when the whole is known.
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

/// The rule, as JSON.
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
    /// Its key in the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// The order of display, from 0.
    pub sequence: i32,
    /// As it was last derived.
    pub status: TaskStatus,
    /// Whether its steps are made once per record.
    pub fan_out: bool,
    /// Whether its steps are under way to being made; set once its turn has come.
    pub fan_out_begun: bool,
    /// Whether all its steps have been made, and no sweep is at work on them.
    pub fan_out_done: bool,
    /// Whether its failed steps are on their way back into the queue.
    pub retrying: bool,
    /// When failures fail it.
    pub fail_when: FailRule,
    /// Keys of the tasks it depends on.
    pub depends_on: Names,
    /// Steps waiting for their trigger.
    pub pending: i64,
    /// Steps ready to be taken.
    pub queued: i64,
    /// Steps being done.
    pub in_progress: i64,
    /// Steps waiting to be let out.
    pub awaiting_approval: i64,
    /// Steps done.
    pub completed: i64,
    /// Steps left out.
    pub skipped: i64,
    /// Steps given up.
    pub failed: i64,
    /// By when it should be done.
    pub due_at: Option<DateTimeUtc>,
    /// Why its steps are left out, where a condition or a decision says so.
    pub left_out: Option<String>,
    /// When it first left pending.
    pub started_at: Option<DateTimeUtc>,
    /// When it closed.
    pub completed_at: Option<DateTimeUtc>,
}

impl Model {
    /// The counters together.
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
