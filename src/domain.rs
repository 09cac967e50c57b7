//! The nouns and verbs of the product. A module uses those that are declared above it.

pub mod people;

pub mod audience;

pub mod content;

pub mod plan;

pub mod message;

pub mod run;

pub mod worker;

pub mod meeting;

pub mod follow_up;

pub mod manifest;
