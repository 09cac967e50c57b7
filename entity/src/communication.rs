//! One message to one record; and the law of its status.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Where a message stands.
    pub enum CommunicationStatus {
        /// Written, not let out.
        Draft,
        /// Let out, not sent.
        Approved,
        /// Held back by a reviewer.
        Rejected,
        /// Being handed over: a reservation was committed.
        Sending,
        /// Accepted by the outside.
        Sent,
        /// Refused by the outside for good.
        Failed,
        /// Its address asked to be left alone, before it was sent.
        Suppressed,
        /// Whether the outside accepted it could not be learned.
        Unknown,
        /// Its run was called off before it was sent.
        Cancelled,
    }
}

/// What may happen to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommunicationTransition {
    /// A person changes it, or it is drafted again.
    Edit,
    /// Let out: by a reviewer, or where there is no review by the engine.
    Approve,
    /// A reviewer holds it back.
    Reject,
    /// The engine hands it over.
    Reserve,
    /// The engine finds that its address asked to be left alone.
    Suppress,
    /// The outside accepted it.
    Accept,
    /// The outside certainly did not take it, and may later.
    Release,
    /// The outside refused it for good.
    Fail,
    /// Nobody can say.
    Lose,
    /// A person found out that it went out.
    ResolveSent,
    /// A person has it sent again.
    ResolveAgain,
    /// A person found out that it did not, and leaves it so.
    ResolveNot,
    /// A person has its step done again.
    Retry,
    /// Its run was called off, or its record skipped.
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
            Lose,
            ResolveSent,
            ResolveAgain,
            ResolveNot,
            Retry,
            Cancel,
        ]
    };

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: CommunicationTransition) -> Option<Self> {
        use CommunicationStatus as S;
        use CommunicationTransition::*;
        match (self, act) {
            (S::Draft, Edit) => Some(S::Draft),
            (S::Draft, Approve) => Some(S::Approved),
            (S::Draft, Reject) => Some(S::Rejected),
            (S::Draft, Cancel) => Some(S::Cancelled),
            (S::Draft, Suppress) => Some(S::Suppressed),
            (S::Draft, Reserve | Accept | Release | Fail | Lose | ResolveSent | ResolveAgain | ResolveNot | Retry) => {
                None
            }
            (S::Approved, Edit) => Some(S::Draft),
            (S::Approved, Reject) => Some(S::Rejected),
            (S::Approved, Reserve) => Some(S::Sending),
            (S::Approved, Suppress) => Some(S::Suppressed),
            (S::Approved, Cancel) => Some(S::Cancelled),
            (
                S::Approved,
                Approve | Accept | Release | Fail | Lose | ResolveSent | ResolveAgain | ResolveNot | Retry,
            ) => None,
            (S::Sending, Accept) => Some(S::Sent),
            (S::Sending, Release) => Some(S::Approved),
            (S::Sending, Fail) => Some(S::Failed),
            (S::Sending, Lose) => Some(S::Unknown),
            (
                S::Sending,
                Edit | Approve | Reject | Reserve | Suppress | ResolveSent | ResolveAgain | ResolveNot | Retry | Cancel,
            ) => None,
            (S::Unknown, ResolveSent) => Some(S::Sent),
            (S::Unknown, ResolveAgain) => Some(S::Approved),
            (S::Unknown, ResolveNot) => Some(S::Failed),
            (
                S::Unknown,
                Edit | Approve | Reject | Reserve | Suppress | Accept | Release | Fail | Lose | Retry | Cancel,
            ) => None,
            (S::Failed | S::Cancelled, Retry) => Some(S::Approved),
            (
                S::Failed | S::Cancelled,
                Edit | Approve | Reject | Reserve | Suppress | Accept | Release | Fail | Lose | ResolveSent
                | ResolveAgain | ResolveNot | Cancel,
            ) => None,
            (
                S::Rejected | S::Sent | S::Suppressed,
                Edit | Approve | Reject | Reserve | Suppress | Accept | Release | Fail | Lose | ResolveSent
                | ResolveAgain | ResolveNot | Retry | Cancel,
            ) => None,
        }
    }
}

/// One message. Unique per (step, place in the audience, occasion).
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "communication")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CommunicationId,
    /// The tenant.
    pub org_id: OrgId,
    /// The plan; none of guided work.
    pub campaign_id: Option<CampaignId>,
    /// The run.
    pub run_id: RunId,
    /// The step that drafted it.
    pub step_id: StepId,
    /// The place in the audience that it is for.
    pub run_record_id: RunRecordId,
    /// The record; none for a test recipient without a sample.
    pub record_id: Option<RecordId>,
    /// 0 for a step's own message, else the number of a person's action.
    pub occasion: i32,
    /// Whether a person said to write once more to an address that the step had written to.
    pub again: bool,
    /// The person whose action made it; none for a campaign's message.
    pub acted_by: Option<Actor>,
    /// The way it goes.
    pub channel: Channel,
    /// Where it goes.
    pub to_address: String,
    /// To whom.
    pub to_name: String,
    /// Its subject; none where the channel has none.
    pub subject: Option<String>,
    /// Its text.
    pub body: String,
    /// Where it stands.
    pub status: CommunicationStatus,
    /// Whether it is a test.
    pub test: bool,
    /// Fixed for good, whatever happens on the way.
    pub message_id: String,
    /// Who changed it by hand.
    pub edited_by: Option<Actor>,
    /// Who gave the verdict.
    pub reviewed_by: Option<Actor>,
    /// Why it was rejected.
    pub rejected_because: Option<String>,
    /// What the outside said, when it refused.
    pub error: Option<String>,
    /// When the hand-over was reserved.
    pub reserved_at: Option<DateTimeUtc>,
    /// How often the outside refused it for now, since it was last let out.
    pub refusals: i32,
    /// Since when the outside refuses it for now.
    pub refused_since: Option<DateTimeUtc>,
    /// When it was accepted.
    pub sent_at: Option<DateTimeUtc>,
    /// The meeting that it is about.
    pub meeting_id: Option<MeetingId>,
    /// What goes with it for the calendar, as iCalendar (RFC 5545).
    pub calendar: Option<String>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
