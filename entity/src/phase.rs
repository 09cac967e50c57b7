//! A stage of a run with its own rules; and the law of its status.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Where a phase stands.
    pub enum PhaseStatus {
        /// Its turn has not come.
        Pending,
        /// At work.
        Active,
        /// Through, by its rules.
        Completed,
        /// All of it was skipped, or its run was cancelled.
        Skipped,
        /// A task of it failed.
        Failed,
    }
}

/// What may happen to a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseTransition {
    /// The engine: its turn has come.
    Start,
    /// The engine: all tasks are closed, and a person has acted unless it is autonomous.
    Complete,
    /// The engine: all tasks were skipped.
    Skip,
    /// The engine: a task failed.
    Fail,
    /// With the run's retry.
    Retry,
    /// With the retry of an earlier phase of a run that was done: its turn comes once more.
    Reopen,
    /// A step of it was reset, while its successor has not begun.
    Reset,
    /// The engine, with its run that was cancelled.
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

    fn next(self, act: PhaseTransition) -> Option<Self> {
        use PhaseStatus as S;
        use PhaseTransition::*;
        match (self, act) {
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
    /// Whether it has come to an end.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Skipped | Self::Failed)
    }
}

/// Names of events, as JSON.
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
    /// Its key in the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// Its place, from 0.
    pub sequence: i32,
    /// Where it stands.
    pub status: PhaseStatus,
    /// Whether it completes without a person's act.
    pub autonomous: bool,
    /// The events that stop what is open for a record.
    pub interrupt_events: Names,
    /// The person whose act opened its gate.
    pub person_act: Option<Actor>,
    /// Until when steps that wait for an event are waited for; none: as long as there is other work.
    pub open_until: Option<DateTimeUtc>,
    /// When it began.
    pub started_at: Option<DateTimeUtc>,
    /// When it closed.
    pub completed_at: Option<DateTimeUtc>,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
