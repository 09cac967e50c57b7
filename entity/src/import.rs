//! One file of records that went in.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// Where an import stands.
    pub enum ImportStatus {
        /// At work.
        Running,
        /// Through to the end of the file.
        Completed,
        /// Stopped by what is said in `failure`; what went in before stays.
        Failed,
    }
}

/// A column of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportColumn {
    /// Its name in the file.
    pub name: String,
    /// What it became: `email`, `attributes.company`; none for a column that is not read.
    pub becomes: Option<String>,
    /// The type of an attribute: text, number, boolean or date.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// The columns of the file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct ImportColumns(pub Vec<ImportColumn>);

/// What seems wrong with the file as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct ImportWarnings(pub Vec<String>);

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
    /// Values, or parts of values, left out of rows that went in.
    pub fields_left_out: i64,
    /// The columns as they were read.
    pub columns: ImportColumns,
    /// What seems wrong with the file as a whole.
    pub warnings: ImportWarnings,
    /// Why it stopped.
    pub failure: Option<String>,
    /// Who imported it.
    pub actor: Actor,
    /// When it began.
    pub created_at: DateTimeUtc,
    /// When it ended.
    pub ended_at: Option<DateTimeUtc>,
    /// The time at which it was last seen at work; none for imports from before that was kept.
    pub alive_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
