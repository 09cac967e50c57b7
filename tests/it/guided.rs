//! Guided work: its templates, the actions within its steps, mail, meetings, kills.

mod action_types;
mod begin;
mod doing;
mod kills;
mod mail;
mod meetings;
mod pipeline;
mod smart_data;
