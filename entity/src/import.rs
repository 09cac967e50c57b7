//! Imports: one row per imported file of records.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// Status of an import.
    pub enum ImportStatus {
        /// Running: the file is being read.
        Running,
        /// Read to the end of the file.
        Completed,
        /// Stopped for the reason in `failure`; records imported before that stay.
        Failed,
    }
}

/// A column of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportColumn {
    /// Name in the file.
    pub name: String,
    /// Field that the column became: `email`, `attributes.company`; null for a column that is not
    /// read.
    pub becomes: Option<String>,
    /// Type of an attribute: text, number, boolean or date; null for other columns.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// The columns, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct ImportColumns(pub Vec<ImportColumn>);

/// Warnings about the file as a whole.
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
    /// Kind of the imported records.
    pub kind: String,
    /// The file's name.
    pub file: String,
    /// Current status.
    pub status: ImportStatus,
    /// Number of records (not lines of text) read so far.
    pub rows: i64,
    /// Number of records created.
    pub created: i64,
    /// Number of records updated.
    pub updated: i64,
    /// Number of records that existed already with the same values.
    pub unchanged: i64,
    /// Number of rejected lines.
    pub bad: i64,
    /// Number of values, or parts of values, omitted from imported rows.
    pub fields_left_out: i64,
    /// The columns of the file, as they were read.
    pub columns: ImportColumns,
    /// Warnings about the file as a whole.
    pub warnings: ImportWarnings,
    /// Reason for the failure; null unless FAILED.
    pub failure: Option<String>,
    /// The actor that started the import.
    pub actor: Actor,
    /// Start time.
    pub created_at: DateTimeUtc,
    /// End time.
    pub ended_at: Option<DateTimeUtc>,
    /// Time of the last progress; null for imports older than this column.
    pub alive_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
