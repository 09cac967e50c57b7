//! The snapshot that a run executes: structure, instructions and variables at launch. Stored apart
//! from the run's own row, because lists, locks and every settle read that row, and none of them
//! needs this.

use sea_orm::entity::prelude::*;

use crate::definition::Definition;
use crate::id::*;

/// One run's snapshot.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "brief")]
pub struct Model {
    /// The run.
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: RunId,
    /// The tenant.
    pub org_id: OrgId,
    /// Structure of the run.
    pub definition: Definition,
    /// Goal, writer, reviewer, template and variables at launch; empty while the run is only
    /// scheduled. For guided work, its linked records and assignee.
    pub instructions: Json,
    /// Recipients and sample records of a test run.
    pub test: Option<Json>,
    /// Preflight report that it was launched with, or that failed it.
    pub preflight: Option<Json>,
    /// Ids of the agents and members that the structure names, at launch; none for runs launched
    /// before ids were stored.
    pub executors: Option<Json>,
}

impl ActiveModelBehavior for ActiveModel {}
