//! Problems found in the lines of an import.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One problem; a line may have several.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_problem")]
pub struct Model {
    /// The import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_id: ImportId,
    /// Number within the import, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// The tenant.
    pub org_id: OrgId,
    /// Line of the file; the header is line 1.
    pub line: i64,
    /// Name of the column, if the problem is about one.
    pub column_name: Option<String>,
    /// The value in the file, truncated.
    pub value: Option<String>,
    /// The problem, as a sentence.
    pub why: String,
}

impl ActiveModelBehavior for ActiveModel {}
