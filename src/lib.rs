//! Sortie.
#[macro_use]
mod scope;
pub mod clock;
pub mod config;
pub mod content;
pub mod db;
pub mod error;
pub mod event;
pub mod goal;
pub mod input;
pub mod limits;
pub mod member;
pub mod message_template;
pub mod page;
pub mod record;
pub mod reviewer;
pub mod segment;
pub mod viewer;
pub mod writer;
