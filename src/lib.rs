//! Sortie: a GraphQL server with realtime subscriptions that runs campaigns.
//!
//! The folders are the layers, and the tidy test enforces their order: `app → transport → graphql →
//! domain → kernel` and `app → engine → step_kind → channel → domain`. `graphql` and `engine` never
//! import each other: they share only the tables and the event log.

#[macro_use]
pub mod kernel;
pub mod domain;

pub mod channel;
pub mod engine;
pub mod graphql;
pub mod step_kind;
pub mod transport;

pub mod app;

/// The state machines as Mermaid diagrams, printed from the functions that the server itself
/// applies.
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
        ("Reply", diagram::<entity::ReplyStatus>()),
        ("Meeting", diagram::<entity::MeetingStatus>()),
        ("Bulk action", diagram::<entity::BulkStatus>()),
    ]
    .map(|(noun, diagram_text)| format!("### {noun}\n\n```mermaid\n{diagram_text}```\n"))
    .join("\n")
}
