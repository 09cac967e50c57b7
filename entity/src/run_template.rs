//! The structure of runs, layered: one of the platform's or of an org's own, or another one with overrides.

use sea_orm::entity::prelude::*;

use crate::definition::{Definition, Overrides};
use crate::id::*;

text_enum! {
    /// What runs a template is for.
    pub enum TemplateKind {
        /// Runs of campaigns.
        Campaign,
        /// Guided work: a person goes through its steps.
        Guided,
    }
}

/// One template.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run_template")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RunTemplateId,
    /// The tenant; those of the built-in org are readable by all.
    pub org_id: OrgId,
    /// By which manifests and other templates name it; unique within the org.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// For its readers.
    pub description: String,
    /// What runs it is for.
    pub kind: TemplateKind,
    /// Whether it came with the program, which keeps it as it is.
    pub built_in: bool,
    /// The template that it changes; none where it stands alone.
    pub base_id: Option<RunTemplateId>,
    /// Its structure, where it stands alone.
    pub definition: Option<Definition>,
    /// What it changes in its base.
    pub overrides: Overrides,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
