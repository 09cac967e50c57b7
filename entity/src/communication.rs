//! One message to one record, and the state machine of its status.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// A person's report on a message whose outcome is UNKNOWN.
    pub enum Resolution {
        /// The message was sent: its step is completed.
        Sent,
        /// Send the message again: its step is queued.
        SendAgain,
        /// The message was not sent and shall not be: its step fails.
        NotSent,
    }

    /// Status of a message.
    pub enum CommunicationStatus {
        /// Drafted, not approved yet.
        Draft,
        /// Approved, not sent yet.
        Approved,
        /// Rejected by a reviewer.
        Rejected,
        /// Being handed to the channel: its reservation was committed.
        Sending,
        /// Accepted by the channel's upstream, such as the mail server.
        Sent,
        /// Permanently refused by the channel's upstream.
        Failed,
        /// Not sent: the address was suppressed or opted out first.
        Suppressed,
        /// Unknown whether the upstream accepted it; a person resolves it.
        Unknown,
        /// Cancelled before it was sent.
        Cancelled,
    }
}

/// Transitions of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommunicationTransition {
    /// A person edits it, or it is drafted again.
    Edit,
    /// A reviewer approves it, or the engine does if there is no review.
    Approve,
    /// A reviewer rejects it.
    Reject,
    /// The engine reserves it, immediately before it hands it to the channel.
    Reserve,
    /// The engine finds its address on the suppression list.
    Suppress,
    /// The upstream accepted it.
    Accept,
    /// The upstream certainly did not accept it, but may do so later.
    Release,
    /// The upstream refused it permanently.
    Fail,
    /// The outcome is unknown.
    MarkUnknown,
    /// A person states that it was sent.
    ResolveSent,
    /// A person requests that it is sent again.
    ResolveSendAgain,
    /// A person states that it was not sent, and leaves it so.
    ResolveNotSent,
    /// A person retries its step.
    Retry,
    /// The run was cancelled, or the record skipped.
    Cancel,
}

impl StateMachine for CommunicationStatus {
    type Transition = CommunicationTransition;
    const TRANSITIONS: &'static [CommunicationTransition] = {
        use CommunicationTransition::*;
        &[
            Edit,
            Approve,
            Reject,
            Reserve,
            Suppress,
            Accept,
            Release,
            Fail,
            MarkUnknown,
            ResolveSent,
            ResolveSendAgain,
            ResolveNotSent,
            Retry,
            Cancel,
        ]
    };
    const BY_ENGINE: &'static [CommunicationTransition] = &[
        CommunicationTransition::Reserve,
        CommunicationTransition::Suppress,
        CommunicationTransition::Accept,
        CommunicationTransition::Release,
        CommunicationTransition::Fail,
        CommunicationTransition::MarkUnknown,
    ];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: CommunicationTransition) -> Option<Self> {
        use CommunicationStatus as S;
        use CommunicationTransition::*;
        match (self, transition) {
            (S::Draft, Edit) => Some(S::Draft),
            (S::Draft, Approve) => Some(S::Approved),
            (S::Draft, Reject) => Some(S::Rejected),
            (S::Draft, Cancel) => Some(S::Cancelled),
            (S::Draft, Suppress) => Some(S::Suppressed),
            (
                S::Draft,
                Reserve | Accept | Release | Fail | MarkUnknown | ResolveSent | ResolveSendAgain | ResolveNotSent
                | Retry,
            ) => None,
            (S::Approved, Edit) => Some(S::Draft),
            (S::Approved, Reject) => Some(S::Rejected),
            (S::Approved, Reserve) => Some(S::Sending),
            (S::Approved, Suppress) => Some(S::Suppressed),
            (S::Approved, Cancel) => Some(S::Cancelled),
            (
                S::Approved,
                Approve | Accept | Release | Fail | MarkUnknown | ResolveSent | ResolveSendAgain | ResolveNotSent
                | Retry,
            ) => None,
            (S::Sending, Accept) => Some(S::Sent),
            (S::Sending, Release) => Some(S::Approved),
            (S::Sending, Fail) => Some(S::Failed),
            (S::Sending, MarkUnknown) => Some(S::Unknown),
            (
                S::Sending,
                Edit | Approve | Reject | Reserve | Suppress | ResolveSent | ResolveSendAgain | ResolveNotSent | Retry
                | Cancel,
            ) => None,
            (S::Unknown, ResolveSent) => Some(S::Sent),
            (S::Unknown, ResolveSendAgain) => Some(S::Approved),
            (S::Unknown, ResolveNotSent) => Some(S::Failed),
            (
                S::Unknown,
                Edit | Approve | Reject | Reserve | Suppress | Accept | Release | Fail | MarkUnknown | Retry | Cancel,
            ) => None,
            (S::Failed | S::Cancelled, Retry) => Some(S::Approved),
            (
                S::Failed | S::Cancelled,
                Edit | Approve | Reject | Reserve | Suppress | Accept | Release | Fail | MarkUnknown | ResolveSent
                | ResolveSendAgain | ResolveNotSent | Cancel,
            ) => None,
            (
                S::Rejected | S::Sent | S::Suppressed,
                Edit | Approve | Reject | Reserve | Suppress | Accept | Release | Fail | MarkUnknown | ResolveSent
                | ResolveSendAgain | ResolveNotSent | Retry | Cancel,
            ) => None,
        }
    }
}

/// One message. Unique per step, recipient and action number.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "communication")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CommunicationId,
    /// The tenant.
    pub org_id: OrgId,
    /// The campaign; null for guided work.
    pub campaign_id: Option<CampaignId>,
    /// The run.
    pub run_id: RunId,
    /// The step that drafted it.
    pub step_id: StepId,
    /// The recipient.
    pub run_record_id: RunRecordId,
    /// The record; null for a test recipient without a sample record.
    pub record_id: Option<RecordId>,
    /// 0 for the step's own message, else the number of the person's action.
    #[sea_orm(column_name = "occasion")]
    pub action_number: i32,
    /// True if a person confirmed a second message from the step to the same address.
    #[sea_orm(column_name = "again")]
    pub is_repeat: bool,
    /// The person whose action created it; null for a campaign's message.
    pub acted_by: Option<Actor>,
    /// The channel.
    pub channel: Channel,
    /// Address of the recipient.
    pub to_address: String,
    /// Name of the recipient.
    pub to_name: String,
    /// Subject; null for channels without one.
    pub subject: Option<String>,
    /// Body.
    pub body: String,
    /// Subject and recipient's name, case-folded for searches; null if that is their lower case, all
    /// ASCII.
    pub search: Option<String>,
    /// Current status.
    pub status: CommunicationStatus,
    /// True for a message of a test run.
    pub test: bool,
    /// The mail's Message-ID; stays the same across attempts.
    pub message_id: String,
    /// The actor that last edited it by hand.
    pub edited_by: Option<Actor>,
    /// The actor that approved or rejected it.
    pub reviewed_by: Option<Actor>,
    /// Reason given with the rejection, or with an approval.
    pub rejected_because: Option<String>,
    /// Reason why it was not sent or its outcome is unknown.
    pub error: Option<String>,
    /// Time of the reservation.
    pub reserved_at: Option<DateTimeUtc>,
    /// Number of temporary refusals since it was last approved.
    pub refusals: i32,
    /// Time of the first of these temporary refusals.
    pub refused_since: Option<DateTimeUtc>,
    /// Time at which the upstream accepted it.
    pub sent_at: Option<DateTimeUtc>,
    /// The meeting that it is about.
    pub meeting_id: Option<MeetingId>,
    /// Calendar attachment, as iCalendar (RFC 5545).
    pub calendar: Option<String>,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

partial_model! {
    id, org_id, campaign_id, run_id, step_id, run_record_id, record_id, action_number, is_repeat, acted_by, channel, to_address, to_name, subject, body, search, status, test, message_id, edited_by, reviewed_by, rejected_because, error, reserved_at, refusals, refused_since, sent_at, meeting_id, calendar, created_at, updated_at, revision,
}

impl ActiveModelBehavior for ActiveModel {}
