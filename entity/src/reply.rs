//! Replies, linked to their communication, run and record, and the state machine of their status.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a reply.
    pub enum ReplyStatus {
        /// Open: nobody has handled it yet.
        Open,
        /// Handled, by a person or by the step that handles it.
        Handled,
        /// Ignored: a person decided that there is nothing to do.
        Ignored,
    }
}

/// Transitions of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTransition {
    /// A person, or the step that handles it, ticks it off.
    Handle,
    /// A person decides that there is nothing to do.
    Ignore,
    /// A person opens it again.
    Reopen,
}

impl StateMachine for ReplyStatus {
    type Transition = ReplyTransition;
    const TRANSITIONS: &'static [ReplyTransition] =
        &[ReplyTransition::Handle, ReplyTransition::Ignore, ReplyTransition::Reopen];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: ReplyTransition) -> Option<Self> {
        use ReplyTransition::*;
        match (self, transition) {
            (Self::Open, Handle) => Some(Self::Handled),
            (Self::Open, Ignore) => Some(Self::Ignored),
            (Self::Open, Reopen) => None,
            (Self::Handled | Self::Ignored, Reopen) => Some(Self::Open),
            (Self::Handled | Self::Ignored, Handle | Ignore) => None,
        }
    }
}

/// One reply. The column `search`, its folded subject and text, is not read with it: it is as long
/// as the text.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reply")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReplyId,
    /// The tenant.
    pub org_id: OrgId,
    /// The message that it answers.
    pub communication_id: CommunicationId,
    /// The campaign; null for guided work.
    pub campaign_id: Option<CampaignId>,
    /// The run.
    pub run_id: RunId,
    /// The record that replied.
    pub record_id: Option<RecordId>,
    /// The channel.
    pub channel: Channel,
    /// Id in the external system; a reply with the same id is recorded once.
    pub external_id: Option<String>,
    /// Subject, if any.
    pub subject: Option<String>,
    /// Body.
    pub body: String,
    /// Time of receipt.
    pub received_at: DateTimeUtc,
    /// The actor that recorded it.
    pub recorded_by: Actor,
    /// Time at which it was recorded.
    pub created_at: DateTimeUtc,
    /// True for a reply to a test message.
    pub test: bool,
    /// Current status.
    pub status: ReplyStatus,
    /// The member it is assigned to; null if anybody may handle it.
    pub assignee_id: Option<MemberId>,
    /// Time at which it was handled or ignored; null while it is open.
    pub handled_at: Option<DateTimeUtc>,
    /// The actor that handled or ignored it; null while it is open.
    pub handled_by: Option<Actor>,
    /// Note of that actor.
    pub note: Option<String>,
    /// The step that handles it: an open one of its run at the time of receipt.
    pub step_id: Option<StepId>,
    /// The follow-up that was created for it, as no step handled it.
    pub follow_up_id: Option<FollowUpId>,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change of status or assignee.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
