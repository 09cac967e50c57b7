//! Campaigns and their runs: plans, preflight, launches, schedules, kinds of steps, workers.

mod advance;
mod agent_approvals;
mod bulk_actions;
mod definitions;
mod kinds;
mod large;
mod layers;
mod notes;
mod outreach;
mod people_mail;
mod plans;
mod preflight;
mod repeated_settles;
mod schedules;
mod structures;
mod work_list;
mod workers;
