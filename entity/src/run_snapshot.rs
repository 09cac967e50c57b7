//! What a run was told when it was let in. Apart from the run's own row: lists, locks and every settle read that one, and
//! none of them needs this.

use sea_orm::entity::prelude::*;

use crate::definition::Definition;
use crate::id::*;

/// One run's.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "brief")]
pub struct Model {
    /// Whose it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: RunId,
    /// The tenant.
    pub org_id: OrgId,
    /// Its structure.
    pub definition: Definition,
    /// What it was told: goal, writer, reviewer, template, variables, as they were; empty while it is only scheduled.
    pub instructions: Json,
    /// For a test run: recipients and sample records.
    pub test: Option<Json>,
    /// The report that it was launched with, or that failed it.
    pub preflight: Option<Json>,
}

impl ActiveModelBehavior for ActiveModel {}
