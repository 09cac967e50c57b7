//! Sortie: a GraphQL server with realtime subscriptions that runs campaigns.
//!
//! The folders are the layers, and the tidy test holds the tree to their order: `app → transport → graphql → domain → kernel`;
//! `app → engine → step_kind → channel → domain`. `graphql` and `engine` never meet: they share tables and the event log,
//! nothing else.

#[macro_use]
pub mod kernel;
pub mod domain;

pub mod channel;
pub mod engine;
pub mod graphql;
pub mod step_kind;
pub mod transport;

pub mod app;

/// The laws of status as diagrams, printed from the functions that rule.
pub fn state_machines() -> String {
    use entity::state_machine::diagram;
    [
        ("Campaign", diagram::<entity::CampaignStatus>()),
        ("Run", diagram::<entity::RunStatus>()),
        ("Phase", diagram::<entity::PhaseStatus>()),
        ("Step", diagram::<entity::StepStatus>()),
        ("Communication", diagram::<entity::CommunicationStatus>()),
        ("Schedule", diagram::<entity::schedule::ScheduleStatus>()),
        ("Follow-up", diagram::<entity::FollowUpStatus>()),
        ("Meeting", diagram::<entity::MeetingStatus>()),
    ]
    .map(|(noun, law)| format!("### {noun}\n\n```mermaid\n{law}```\n"))
    .join("\n")
}
