//! Recipients of runs: one row per record (or test recipient), with its address and its outcome.

use sea_orm::entity::prelude::*;

use crate::id::*;
use crate::step::StepReason;

text_enum! {
    /// Outcome of a recipient.
    pub enum Outcome {
        /// The message was sent, or the call was made.
        Sent,
        /// The work failed.
        Failed,
        /// The address is suppressed.
        Suppressed,
        /// Skipped, for the given reason.
        Skipped,
        /// The work is completed; there was nothing to send.
        Done,
        /// Unknown whether the message was sent.
        Unknown,
    }
}

text_enum! {
    /// Reason code of a recipient that was skipped, suppressed, failed or is unknown. `reason`
    /// explains it to people.
    pub enum RecipientReason {
        /// The recipient has no address for the channel.
        NoAddress,
        /// The address opted out.
        Unsubscribed,
        /// The address is suppressed.
        Suppressed,
        /// Another recipient of the run has the same address.
        DuplicateAddress,
        /// The message was rejected in the review.
        Rejected,
        /// An event about the record interrupted the phase.
        Interrupted,
        /// The run was cancelled.
        RunCancelled,
        /// One of the recipient's steps failed.
        StepFailed,
        /// All the recipient's steps were skipped.
        AllSkipped,
        /// A person skipped or failed the step.
        Person,
        /// The work on the step failed.
        WorkFailed,
        /// The worker did not report before the step's lease expired.
        LeaseLost,
        /// Unknown whether the message was sent.
        OutcomeUnknown,
        /// The message was cancelled or is missing.
        NoMessage,
        /// Another reason, given in the sentence.
        Other,
    }
}

impl RecipientReason {
    /// Formats the reason as it is stored: the code, then a person's text after a colon, so that no
    /// such text can be mistaken for a code.
    pub fn with(self, detail: Option<&str>) -> String {
        match detail {
            Some(detail) if !detail.is_empty() => format!("{self}: {detail}"),
            _ => self.to_string(),
        }
    }

    /// Parses the code of a stored reason.
    pub fn of(stored: &str) -> Self {
        let code = stored.split(':').next().unwrap_or_default();
        Self::all().into_iter().find(|reason| reason.to_string() == code).unwrap_or(Self::Other)
    }

    /// Derives a recipient's reason from that of its step.
    pub fn from_step_reason(reason: Option<StepReason>) -> Self {
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

/// One recipient.
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
    /// The record; null for a test recipient without a sample record.
    pub record_id: Option<RecordId>,
    /// The address that messages are sent to: at launch, or its record's later one until a message
    /// is sent. Null if the recipient has none, and if the run sends nothing.
    pub address: Option<String>,
    /// The normalised address: one message per run and address. Null for test runs and skipped
    /// recipients.
    pub address_key: Option<String>,
    /// The outcome; null while it is open.
    pub outcome: Option<Outcome>,
    /// Reason, if skipped, failed, suppressed or unknown: a `RecipientReason`, then a person's text
    /// after a colon.
    pub reason: Option<String>,
    /// True if guided work was started with it; other recipients were added by actions in it.
    pub linked: bool,
}

impl ActiveModelBehavior for ActiveModel {}
