//! Templates for the structure of runs: complete ones of the platform or of an org, and ones that
//! override another template.

use sea_orm::entity::prelude::*;

use crate::definition::{Definition, Overrides};
use crate::id::*;

text_enum! {
    /// The kind of runs that a template is for.
    pub enum TemplateKind {
        /// Runs of campaigns.
        Campaign,
        /// Guided work, in which a person goes through the steps.
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
    /// The tenant; templates of the built-in org are readable by all orgs.
    pub org_id: OrgId,
    /// Key used by manifests and other templates; unique within the org.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// The kind of runs that it is for.
    pub kind: TemplateKind,
    /// True if it ships with the program; it can't be changed.
    pub built_in: bool,
    /// The template that it overrides; null for a complete template.
    pub base_id: Option<RunTemplateId>,
    /// Structure of a complete template.
    pub definition: Option<Definition>,
    /// Changes to the base template.
    pub overrides: Overrides,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
