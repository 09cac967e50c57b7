//! The content of messages: goals, writers, reviewers, templates, and the languages that users
//! write.

pub mod cel;
pub mod goal;
pub mod message_template;
pub mod result_schema;
pub mod reviewer;
pub mod templating;
pub mod writer;
pub mod yaml;
