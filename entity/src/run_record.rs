//! A run's audience: one place per record (or test recipient), with its address at launch and what came of it.

use sea_orm::entity::prelude::*;

use crate::id::*;
use crate::step::StepReason;

text_enum! {
    /// What came of one place of the audience.
    pub enum Outcome {
        /// Its message went out (or its call was made).
        Sent,
        /// It could not be done.
        Failed,
        /// Its address is on the list of those that are never written to.
        Suppressed,
        /// Left out, with the reason.
        Skipped,
        /// Its work is done; there was nothing to send.
        Done,
        /// Whether the message went out could not be learned.
        Unknown,
    }
}

text_enum! {
    /// Why a place of the audience was left out, failed or is unknown. The sentence beside it is for people.
    pub enum RecipientReason {
        /// It has no address for the channel.
        NoAddress,
        /// Its address was opted out.
        Unsubscribed,
        /// Its address is on the list of those that are never written to.
        Suppressed,
        /// Another place of the run has its address.
        DuplicateAddress,
        /// Its message was rejected in the review.
        Rejected,
        /// An event about its record interrupted its phase.
        Interrupted,
        /// Its run was cancelled.
        RunCancelled,
        /// A step of it failed.
        StepFailed,
        /// All its steps were skipped.
        AllSkipped,
        /// A person skipped or failed its step.
        Person,
        /// The work on its step failed.
        WorkFailed,
        /// Its worker did not come back.
        LeaseLost,
        /// Whether its message went out can't be told.
        OutcomeUnknown,
        /// Its message was cancelled or is missing.
        NoMessage,
        /// Another reason; the sentence tells which.
        Other,
    }
}

impl RecipientReason {
    /// As it is kept on a place: the code, and what was said behind a colon. What people say can't be taken for a code.
    pub fn with(self, said: Option<&str>) -> String {
        match said {
            Some(said) if !said.is_empty() => format!("{self}: {said}"),
            _ => self.to_string(),
        }
    }

    /// The code of what is kept on a place.
    pub fn of(kept: &str) -> Self {
        let code = kept.split(':').next().unwrap_or_default();
        Self::all().into_iter().find(|reason| reason.to_string() == code).unwrap_or(Self::Other)
    }

    /// The reason of a place whose step ended with it.
    pub fn of_step(reason: Option<StepReason>) -> Self {
        match reason {
            Some(StepReason::Person | StepReason::MessageResolved) => Self::Person,
            Some(StepReason::Rejected | StepReason::ReviewRejected) => Self::Rejected,
            Some(StepReason::Interrupted) => Self::Interrupted,
            Some(StepReason::RunCancelled) => Self::RunCancelled,
            Some(StepReason::Suppressed) => Self::Suppressed,
            Some(StepReason::NoMessage) => Self::NoMessage,
            Some(StepReason::DuplicateAddress) => Self::DuplicateAddress,
            Some(StepReason::NoAddress) => Self::NoAddress,
            Some(StepReason::OutcomeUnknown) => Self::OutcomeUnknown,
            Some(StepReason::LeaseLost | StepReason::WorkerStopped | StepReason::Poisoned) => Self::LeaseLost,
            Some(StepReason::WorkFailed | StepReason::PutOff) => Self::WorkFailed,
            Some(StepReason::WaitedForFailed) => Self::StepFailed,
            Some(
                StepReason::WaitedForSkipped
                | StepReason::LeftOutByDecision
                | StepReason::EventDidNotCome
                | StepReason::ConditionFalse
                | StepReason::ConditionUnreadable
                | StepReason::CarriedOver
                | StepReason::NothingToReview
                | StepReason::ReviewNotAsked,
            ) => Self::AllSkipped,
            None => Self::Other,
        }
    }
}

/// One place.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run_record")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RunRecordId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run.
    pub run_id: RunId,
    /// The record; none for a test recipient without a sample.
    pub record_id: Option<RecordId>,
    /// The address at launch, as it is written to; none: unreachable.
    pub address: Option<String>,
    /// The address, normalised: one message per run and address. None for test runs and places left out.
    pub address_key: Option<String>,
    /// What came of it; none as long as it is open.
    pub outcome: Option<Outcome>,
    /// Why, for skipped and failed ones: a `RecipientReason`, and what was said behind a colon.
    pub reason: Option<String>,
    /// Whether guided work was begun with it; the others came in by what was done there.
    pub linked: bool,
}

impl ActiveModelBehavior for ActiveModel {}
