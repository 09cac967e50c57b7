//! Database rows, one file per table, with the state machines of their statuses. No queries, no IO.
//!
//! A state machine is a pure, total function `(status, transition) -> next status or none`, defined
//! beside its row.

#[macro_use]
mod text_enum;
#[macro_use]
pub mod columns;

pub mod actor;
pub mod definition;
pub mod id;
pub mod rule;
pub mod state_machine;

pub mod activity;
pub mod agent;
pub mod api_key;
pub mod audit;
pub mod bulk_action;
pub mod bulk_result;
pub mod campaign;
pub mod campaign_approval;
pub mod campaign_tag;
pub mod campaign_version;
pub mod channel_pause;
pub mod channel_rate;
pub mod communication;
pub mod early_event;
pub mod early_run_event;
pub mod event;
pub mod event_counter;
pub mod follow_up;
pub mod goal;
pub mod idempotency_key;
pub mod import;
pub mod import_problem;
pub mod import_seen;
pub mod kept_record;
pub mod meeting;
pub mod member;
pub mod message_template;
pub mod message_template_version;
pub mod missed_occurrence;
pub mod org;
pub mod phase;
pub mod queued_message;
pub mod record;
pub mod record_link;
pub mod reply;
pub mod reviewer;
pub mod run;
pub mod run_note;
pub mod run_record;
pub mod run_snapshot;
pub mod run_template;
pub mod saved_view;
pub mod schedule;
pub mod segment;
pub mod segment_record;
pub mod stage;
pub mod step;
pub mod step_record_list;
pub mod stuck_work;
pub mod suppression;
pub mod sweep;
pub mod task;
pub mod writer;
pub mod writer_version;

pub use activity::ActivityKind;
pub use actor::{Actor, ActorKind};
pub use agent::AgentKind;
pub use audit::AuditOutcome;
pub use bulk_action::{BulkNoun, BulkStatus, BulkVerb};
pub use bulk_result::BulkResultStatus;
pub use campaign::CampaignStatus;
pub use communication::CommunicationStatus;
pub use definition::Definition;
pub use follow_up::FollowUpStatus;
pub use meeting::MeetingStatus;
pub use phase::PhaseStatus;
pub use reply::ReplyStatus;
pub use run::{RunStatus, RunType};
pub use run_template::TemplateKind;
pub use state_machine::StateMachine;
pub use step::{ContentSource, Executor, StepStatus};
pub use task::TaskStatus;

text_enum! {
    /// The channel over which a campaign reaches its records.
    pub enum Channel {
        /// Mail, sent over SMTP or written to the outbox folder.
        Email,
        /// Text messages. No provider is supported yet: the preflight rejects runs on this channel.
        Sms,
        /// Telephone calls, made by people.
        Phone,
    }
}
