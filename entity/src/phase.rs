//! A phase, a stage of a run with its own rules, and the state machine of its status.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a phase.
    pub enum PhaseStatus {
        /// Not started yet.
        Pending,
        /// Active: its tasks are worked on.
        Active,
        /// Completed according to its rules.
        Completed,
        /// All of its tasks were skipped, or its run was cancelled.
        Skipped,
        /// One of its tasks failed.
        Failed,
    }
}

/// Transitions of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseTransition {
    /// The engine starts it, after the phases before it.
    Start,
    /// The engine completes it: all tasks are closed and, unless it is autonomous, a person has
    /// acted.
    Complete,
    /// The engine skips it: all tasks were skipped.
    Skip,
    /// The engine fails it: a task failed.
    Fail,
    /// The run is retried.
    Retry,
    /// An earlier phase of a completed run is retried, so this one will run again.
    Reopen,
    /// One of its steps was reset before the next phase started.
    Reset,
    /// The engine skips it, because its run was cancelled.
    Cancel,
}

impl StateMachine for PhaseStatus {
    type Transition = PhaseTransition;
    const TRANSITIONS: &'static [PhaseTransition] = {
        use PhaseTransition::*;
        &[Start, Complete, Skip, Fail, Retry, Reopen, Reset, Cancel]
    };

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: PhaseTransition) -> Option<Self> {
        use PhaseStatus as S;
        use PhaseTransition::*;
        match (self, transition) {
            (S::Pending, Start) => Some(S::Active),
            (S::Pending | S::Active, Cancel) => Some(S::Skipped),
            (S::Pending, Complete | Skip | Fail | Retry | Reopen | Reset) => None,
            (S::Active, Complete) => Some(S::Completed),
            (S::Active, Skip) => Some(S::Skipped),
            (S::Active, Fail) => Some(S::Failed),
            (S::Active, Start | Retry | Reopen | Reset) => None,
            (S::Failed, Retry) => Some(S::Active),
            (S::Failed, Start | Complete | Skip | Fail | Reopen | Reset | Cancel) => None,
            (S::Completed, Reset) => Some(S::Active),
            (S::Completed, Retry) => Some(S::Active),
            (S::Completed | S::Skipped, Reopen) => Some(S::Pending),
            (S::Completed, Start | Complete | Skip | Fail | Cancel) => None,
            (S::Skipped, Start | Complete | Skip | Fail | Retry | Reset | Cancel) => None,
        }
    }
}

impl PhaseStatus {
    /// Returns true for statuses in which it has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped | Self::Failed)
    }
}

/// A list of names or keys, stored as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Names(pub Vec<String>);

/// One phase of a run.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "phase")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: PhaseId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run.
    pub run_id: RunId,
    /// Key in the definition.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Position within the run, from 0.
    pub sequence: i32,
    /// Current status.
    pub status: PhaseStatus,
    /// True if it completes without a person's action.
    pub autonomous: bool,
    /// Names of the events that stop a record's open work.
    pub interrupt_events: Names,
    /// The person whose action allows it to complete; null until there is one.
    #[sea_orm(column_name = "person_act")]
    pub advanced_by: Option<Actor>,
    /// Time until which steps that wait for an event keep it open; null: only while there is other
    /// work.
    pub open_until: Option<DateTimeUtc>,
    /// Start time.
    pub started_at: Option<DateTimeUtc>,
    /// Time at which it reached a final status.
    pub completed_at: Option<DateTimeUtc>,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
