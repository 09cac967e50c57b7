//! Domain logic: the product's objects and the operations on them, in order of dependency. A module
//! builds on the modules declared above it.

pub mod people;

pub mod audience;

pub mod content;

pub mod plan;

pub mod message;

pub mod run;

pub mod bulk_action;

pub mod import;

pub mod worker;

pub mod meeting;

pub mod follow_up;

pub mod manifest;
