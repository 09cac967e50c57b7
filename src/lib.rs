//! Sortie: a GraphQL server with realtime subscriptions that runs campaigns.
//!
//! The layer map, lowest first; arrows point down only, and the tidy test holds the tree to it:
//! `main → server → transport → graphql → nouns`; `main → engine → work → nouns`; `nouns → event → db → entity`.
//! `graphql` and `engine` never meet: they share tables and the event log, nothing else.

#[macro_use]
mod scope;

// What everything stands on.
#[macro_use]
pub mod outage;
pub mod audit;
pub mod budget;
pub mod clock;
pub mod config;
pub mod cost;
pub mod db;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod gate;
pub mod idempotency;
pub mod in_use;
pub mod input;
pub mod limits;
pub mod outward;
pub mod page;
pub mod secret;
pub mod stuck;
pub mod terminal;
pub mod tls;
pub mod viewer;

// The nouns.
pub mod activity;
pub mod agent;
pub mod api_key;
pub mod campaign;
pub mod communication;
pub mod condition;
pub mod content;
pub mod follow_up;
pub mod goal;
pub mod instructions;
pub mod manifest;
pub mod meeting;
pub mod member;
pub mod message_template;
pub mod org;
pub mod posting;
pub mod record;
pub mod reply;
pub mod result_schema;
pub mod reviewer;
pub mod run;
pub mod run_template;
pub mod schedule;
pub mod segment;
pub mod stage;
pub mod suppression;
pub mod writer;
pub mod yaml;

// What asks.
pub mod graphql;

// What does the work.
pub mod channel;
pub mod engine;
pub mod model;
pub mod work;

// The ways in.
pub mod check;
pub mod cli;
pub mod demo;
pub mod seed;
pub mod server;
pub mod telemetry;
pub mod transport;

/// The laws of status as diagrams, printed from the functions that rule.
pub fn laws() -> String {
    use entity::law::diagram;
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
