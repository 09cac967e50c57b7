//! Guided work: its templates, the actions within its steps and those of campaigns, mail, meetings,
//! kills.

mod action_types;
mod agents;
mod begin;
mod doing;
mod in_campaigns;
mod kills;
mod linked;
mod mail;
mod meetings;
mod mending;
mod pipeline;
mod smart_data;
