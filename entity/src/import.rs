//! One file of records that went in.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

words! {
    /// Where an import stands.
    pub enum ImportStatus {
        /// At work; or its process was stopped: the same file may be imported again.
        Running,
        /// Through to the end of the file.
        Completed,
        /// Stopped by what is said in `failure`; what went in before stays.
        Failed,
    }
}

/// One import.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ImportId,
    /// The tenant.
    pub org_id: OrgId,
    /// The kind of its records.
    pub kind: String,
    /// The file's name.
    pub file: String,
    /// Where it stands.
    pub status: ImportStatus,
    /// Records (not lines of text) read so far.
    pub rows: i64,
    /// New records.
    pub created: i64,
    /// Records that changed.
    pub updated: i64,
    /// Records that were there already, just so.
    pub unchanged: i64,
    /// Lines left out.
    pub bad: i64,
    /// Why it stopped.
    pub failure: Option<String>,
    /// Who imported it.
    pub actor: Actor,
    /// When it began.
    pub created_at: DateTimeUtc,
    /// When it ended.
    pub ended_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
